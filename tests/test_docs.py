"""What docs/reading-a-bank.md says of a bank is what fgen writes, and its lines read it without fgen."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from fgen.data.bank import FeatureBank

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "reading-a-bank.md").read_text(encoding="utf-8")
NAMES = ["ant", "zebra", "nobody", "élan"]
COUNTS, REAL = np.array([300, 7, 0, 5]), np.array([300, 3, 0, 0])
LABELS = np.repeat(np.arange(4), COUNTS)
SIZES = {"N": 312, "D": 6, "C": 4, "C + 1": 5, "A": 3}
TYPES = {"float32": ["f4"], "float32 or float16": ["f4", "f2"], "int32": ["i4"], "int64": ["i8"], "bool": ["b1"]}


def run(code, names):
    exec(compile(code, "reading-a-bank.md", "exec"), names)
    return names


def format_tables():
    """The cells of the tables of datasets and of attributes, without their heads; names without backquotes."""
    section = TEXT.split("\n## ")[1]
    tables = [table.splitlines()[2:] for table in re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)]
    return [[[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table] for table in tables]


@pytest.fixture(params=["f4", "f2"])
def rows(request, tmp_path, monkeypatch):
    """The rows (312, 6) of bank.h5 in the current folder: real and generated ones, and a class without any."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(LABELS[:, None], 1, (SIZES["N"], SIZES["D"])).astype(request.param)
    parts = {"class_names": NAMES, "class_embeddings": np.eye(4, 3), "seen": REAL > 0, "seed": 0, "config": {"é": 1}}
    sizes = {"counts": COUNTS, "real_counts": REAL, "feature_dim": SIZES["D"], "dtype": request.param}
    with FeatureBank.create("bank.h5", **parts, **sizes) as writer:
        for k in np.flatnonzero(COUNTS):
            writer.write(k, rows[k == LABELS])
    return rows


def test_its_python_reads_the_rows_that_fgen_wrote(rows, capsys):
    one_class, everything, batches, mapped = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    found = run(one_class, {})
    assert found["real"].tolist() == rows[300:303].tolist()
    assert found["generated"].tolist() == rows[303:307].tolist()
    found = run(everything, {"h5py": h5py})
    assert found["X"].tolist() == rows.tolist()
    assert "ant" in capsys.readouterr().out
    drawn = []
    run(batches + "        drawn.append((batch, features, labels))\n", {"h5py": h5py, "drawn": drawn})
    assert sorted(np.concatenate([batch for batch, _, _ in drawn])) == list(range(SIZES["N"]))
    for batch, features, labels in drawn:
        assert features.tolist() == rows[batch].tolist()
        assert labels.tolist() == LABELS[batch].tolist()
    assert run(mapped, {"h5py": h5py, "np": np})["mapped"].tolist() == rows.tolist()


def test_its_table_of_datasets_is_that_of_a_bank(rows):
    datasets, _ = format_tables()
    with h5py.File("bank.h5", "r") as bank:
        assert {name for name, *_ in datasets} == set(bank)
        for name, shape, kind, _ in datasets:
            assert bank[name].shape == tuple(SIZES[size] for size in re.findall(r"C \+ 1|\w", shape)), name
            if kind == "text":
                assert h5py.check_string_dtype(bank[name].dtype), name
            else:
                assert bank[name].dtype in [np.dtype(f"<{code}") for code in TYPES[kind]], name


def test_its_table_of_attributes_is_that_of_a_bank(rows):
    _, attributes = format_tables()
    required = {name for name, _ in attributes}
    optional = set(re.findall(r"`(\w+)`", re.search(r"^Optional: the attributes (.*?)\(", TEXT, flags=re.MULTILINE)[1]))
    with h5py.File("bank.h5", "r") as bank:
        assert required <= set(bank.attrs) <= required | optional


def test_fgen_passes_over_what_it_says_that_a_reader_passes_over(rows):
    with h5py.File("bank.h5", "r+") as bank:
        bank.attrs["threads"] = bank.attrs["blas_threads"] = 2
        bank["sample_weight"] = np.ones(SIZES["N"], dtype="<f4")
        bank["of_a_later_version"] = np.arange(3)
    with FeatureBank.open("bank.h5") as bank:
        assert bank["zebra"].tolist() == rows[300:307].tolist()


def test_its_links_lead_to_its_sections():
    titles = re.findall(r"^#+ (.*)", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
