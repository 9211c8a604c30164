"""``fgen predict``: what it reads, writes and prints."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
import scipy.io

from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.data.files import save_dataset
from fgen.data.tables import write_embeddings_csv


def test_predict_looks_at_its_files_before_it_trains_a_head(shell, config, toy, tmp_path, monkeypatch):
    assert shell("train", config, "--out", tmp_path / "own", "--set", "protocol.seeds=[0]") == 0
    monkeypatch.setattr("fgen.inference.from_run.new_heads", lambda *a, **k: pytest.fail("a head was trained"))
    np.save(tmp_path / "x.npy", toy.features)
    np.save(tmp_path / "narrow.npy", toy.features[:, :5])
    np.save(tmp_path / "nan.npy", np.full_like(toy.features, np.nan))
    for features, out, words in (
        ("x.png", "p.csv", "x.png doesn't exist"),
        ("x.txt", "p.csv", "ends in '.txt'"),
        ("none.npy", "p.csv", "none.npy doesn't exist"),
        ("narrow.npy", "p.csv", "features have 5 columns; expected 16"),
        ("nan.npy", "p.csv", "nan in row 0"),
        ("x.npy", "x.npy", "exists and holds no predictions"),
        ("x.npy", "nowhere/p.csv", "nowhere doesn't exist"),
    ):
        assert words in shell.refuses("predict", tmp_path / "own", tmp_path / features, "--out", tmp_path / out)


def test_predict_tells_of_a_bank_that_was_made_from_other_features(shell, config, toy, tmp_path):
    """Of classes that came up later, by a run on features of another network that are as wide."""
    other = ZSLDataset(toy.features[:, ::-1].copy(), toy.labels, toy.class_embeddings, class_names=toy.class_names)
    save_dataset(other, tmp_path / "other.npz")
    (tmp_path / "new.csv").write_text("wug," + ",".join(map(str, toy.class_embeddings[0])))
    np.save(tmp_path / "x.npy", toy.features[:5])
    for name, words in (("own", ()), ("other", ("dataset.name=none", f"dataset.path={tmp_path / 'other.npz'}"))):
        settings = [word for each in (*words, "protocol.seeds=[0]") for word in ("--set", each)]
        assert shell("train", config, "--out", tmp_path / name, *settings) == 0
        new = ("--embeddings", tmp_path / "new.csv", "--n-per-class", 3, "--out", tmp_path / f"{name}.h5")
        assert shell("generate", tmp_path / name, *new) == 0
        words = ("--bank", tmp_path / f"{name}.h5", "--out", tmp_path / "p.csv")
        assert shell("predict", tmp_path / "own", tmp_path / "x.npy", *words) == 0
        assert ("are its features of the same network?" in shell.err) == (name == "other")


def test_predict_replaces_its_own_files_alone(shell, run_dir, toy, tmp_path):
    np.save(tmp_path / "x.npy", toy.features)
    content = (tmp_path / "x.npy").read_bytes()
    assert "holds no predictions" in shell.refuses("predict", run_dir, tmp_path / "x.npy", "--out", tmp_path / "x.npy")
    assert (tmp_path / "x.npy").read_bytes() == content
    for _ in range(2):
        assert shell("predict", run_dir, tmp_path / "x.npy", "--out", tmp_path / "p.csv") == 0
    os.mkfifo(tmp_path / "pipe")
    assert "exists" in shell.refuses("predict", run_dir, tmp_path / "x.npy", "--out", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("form", ["h5", "npz", "npy"])
def test_predict_writes_a_line_for_each_row_with_the_runs_own_answers(shell, run_dir, toy, tmp_path, form):
    with np.load(run_dir / "seeds/3/predictions.npz") as saved:
        rows, answers = saved["rows"], saved["gzsl"]
    source = tmp_path / f"features.{form}"
    if form == "h5":
        save_dataset(toy, source)
    elif form == "npz":
        np.savez(source, features=toy.features)
    else:
        np.save(source, toy.features)
    assert shell("predict", run_dir, source, "--out", tmp_path / "predictions.csv") == 0
    assert "1,000 rows" in shell.out
    table = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert [int(line["row"]) for line in table] == list(range(len(toy.labels)))
    assert [int(table[row]["class_id"]) for row in rows] == answers.tolist()
    assert all(line["class_name"] == toy.class_names[int(line["class_id"])] for line in table)
    assert np.isfinite([float(line["score"]) for line in table]).all()
    assert len({line["class_id"] for line in table}) > 1


def test_predict_takes_features_whose_labels_are_names_or_unknown(shell, run_dir, toy, tmp_path):
    for number, labels in enumerate((np.array(["ant", "bee", "cat"]), np.array([0, np.nan, 1]))):
        np.savez(tmp_path / "x.npz", features=toy.features[:3], labels=labels)
        assert shell("predict", run_dir, tmp_path / "x.npz", "--out", tmp_path / f"{number}.csv") == 0
        assert "3 rows" in shell.out


def test_predict_needs_a_head_and_features_of_the_right_width(shell, config, run_dir, tmp_path):
    np.save(tmp_path / "narrow.npy", np.zeros((3, 5), np.float32))
    message = shell.refuses("predict", run_dir, tmp_path / "narrow.npy", "--out", tmp_path / "p.csv")
    assert "features have 5 columns; expected 16" in message
    shutil.copytree(run_dir, tmp_path / "headless")
    shutil.rmtree(tmp_path / "headless" / "seeds" / "3" / "head")
    np.save(tmp_path / "wide.npy", np.zeros((3, 16), np.float32))
    message = shell.refuses("predict", tmp_path / "headless", tmp_path / "wide.npy", "--out", tmp_path / "p.csv")
    assert "no saved head; expected a finished run" in message
    assert not (tmp_path / "p.csv").exists()
    assert shell("train", config, "--out", tmp_path / "trained", "--set", "protocol.seeds=[0]") == 0
    assert shell("predict", tmp_path / "trained", tmp_path / "wide.npy", "--out", tmp_path / "p.csv") == 0


def records(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_prints_where_no_file_is_named_and_files_hold_the_same(shell, run_dir, toy, tmp_path):
    np.save(tmp_path / "x.npy", toy.features[:50])
    words = ("predict", run_dir, tmp_path / "x.npy", "--top", 2)
    assert shell(*words) == 0
    printed = shell.out
    assert shell(*words, "--out", "-") == 0
    assert shell.out == printed
    assert shell(*words, "--out", tmp_path / "p.csv") == 0
    assert (tmp_path / "p.csv").read_text() == printed
    assert shell(*words, "--json") == 0
    told = json.loads(shell.out)
    assert [{name: str(value) for name, value in one.items()} for one in told] == [
        {name: str(float(value)) if name in ("score", "probability") else value for name, value in one.items()}
        for one in records(printed)
    ]
    assert shell(*words, "--json", "--out", tmp_path / "p.csv") == 0, "an older file of predictions is replaced"
    assert json.loads((tmp_path / "p.csv").read_text()) == told
    assert shell(*words, "--out", tmp_path / "p.csv") == 0
    assert (tmp_path / "p.csv").read_text() == printed


def test_predict_ranks_the_classes_of_each_row(shell, run_dir, toy, tmp_path):
    np.save(tmp_path / "x.npy", toy.features[:50])
    words = ("predict", run_dir, tmp_path / "x.npy")
    assert shell(*words) == 0
    first = records(shell.out)
    assert list(first[0]) == ["row", "class_id", "class_name", "score", "rank", "probability"]
    assert shell(*words, "--top", 999) == 0
    lines = records(shell.out)
    assert len(lines) == 50 * toy.n_classes
    assert [line for line in lines if line["rank"] == "1"] == first
    for row in range(50):
        own = lines[row * toy.n_classes : (row + 1) * toy.n_classes]
        assert {line["row"] for line in own} == {str(row)}
        assert [int(line["rank"]) for line in own] == list(range(1, toy.n_classes + 1))
        assert {line["class_name"] for line in own} == {*toy.class_names}
        scores, shares = ([float(line[name]) for line in own] for name in ("score", "probability"))
        assert scores == sorted(scores, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(shares[:3], np.exp(np.array(scores[:3]) - scores[0]) * shares[0], rtol=1e-4)


def test_predict_reads_matlabs_files_and_tables(shell, run_dir, toy, tmp_path):
    features = toy.features[:20]
    np.save(tmp_path / "x.npy", features)
    assert shell("predict", run_dir, tmp_path / "x.npy") == 0
    answers = shell.out
    scipy.io.savemat(tmp_path / "x.mat", {"features": features.T, "labels": np.ones((20, 1))})
    lines = [",".join(f"{x:.9g}" for x in row) for row in features]
    names = [f"f{column}" for column in range(16)]
    tables = {
        "bare": lines,
        "named": [",".join(names), *lines],
        "pandas": ["," + ",".join(map(str, range(16))), *(f"{row},{line}" for row, line in enumerate(lines))],
        "counted": [",".join(map(str, range(16))), *lines],
        "R": ['"",' + ",".join(f'"V{n}"' for n in range(16)), *(f'"photo {n}.png",{x}' for n, x in enumerate(lines))],
    }
    for name, table in tables.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(table))
    for path in (tmp_path / "x.mat", *(tmp_path / f"{name}.csv" for name in tables)):
        assert shell("predict", run_dir, path) == 0, shell.err
        assert shell.out == answers, path.name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no rows; expected one of numbers"),
        ("a,b\n", "has no rows"),
        ("1,2\n1,x\n", "line 2, column 2, is 'x'; expected a finite number"),
        ("1,2\n1,nan\n", "line 2, column 2, is 'nan'; expected a finite number"),
        ("1,2\n1,1e39\n", "line 2, column 2, is '1e39'"),
        ("1,2\n1,2,3\n", "line 2, has 3 cells; expected 2"),
        ("1;2\n3;4\n", "Save the table with commas"),
        ('"0,5","0,25"\n', "line 1, column 1, is '0,5'; expected a finite number. Write numbers with a point"),
        ("cat.png,1,2\n", "column 1, is 'cat.png'"),
    ],
)
def test_a_table_that_holds_no_features_is_refused_by_its_line(shell, run_dir, tmp_path, content, words):
    (tmp_path / "x.csv").write_text(content)
    message = shell.refuses("predict", run_dir, tmp_path / "x.csv")
    assert words in message
    assert "fgen embed" not in message


def test_a_mat_file_without_features_is_refused_by_its_variables(shell, run_dir, tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"X": np.zeros((16, 3))})
    assert "has no variable 'features'; expected it beside X" in shell.refuses("predict", run_dir, tmp_path / "x.mat")


def test_generate_takes_word_vectors_and_arrays_as_it_takes_a_table(shell, run_dir, toy, tmp_path):
    names, matrix = ["wug", "fep"], toy.class_embeddings[:2]
    write_embeddings_csv(tmp_path / "new.csv", names, matrix)
    (tmp_path / "new.txt").write_text((tmp_path / "new.csv").read_text().replace(",", " "))
    np.savez(tmp_path / "new.npz", class_names=names, class_embeddings=matrix)
    banks = []
    for suffix in ("csv", "txt", "npz"):
        out = tmp_path / f"{suffix}.h5"
        words = ("--embeddings", tmp_path / f"new.{suffix}", "--n-per-class", 3, "--out", out)
        assert shell("generate", run_dir, *words) == 0, shell.err
        with FeatureBank.open(out) as bank:
            banks.append((bank.class_names, bank.to_numpy()[0]))
    for bank in banks[1:]:
        assert bank[0] == banks[0][0]
        assert np.array_equal(bank[1], banks[0][1])
