"""``fgen compare``: several runs in one table."""

import csv
import io
import json

import pytest

import fgen
from fgen.metrics.stats import paired_interval

SCORES = ("T1", "U", "S", "H", "AUSUC")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two methods with the same seeds, one with others, and one on other data."""
    folder = tmp_path_factory.mktemp("compared")
    for name, model, seeds, shots in (
        ("ridge", "ridge", [0, 1], 0),
        ("eszsl", "eszsl", [0, 1], 0),
        ("seeds", "ridge", [0], 0),
        ("shots", "ridge", [0, 1], 2),
    ):
        settings = {"dataset": {"name": "toy", "shots": shots}, "model": {"name": model}, "protocol": {"seeds": seeds}}
        settings["protocol"]["name"] = "legacy" if name == "eszsl" else "honest"
        fgen.run(settings, out=folder / name)
    return folder


def test_compare_prints_the_scores_of_each_run_and_its_difference_from_the_first(shell, runs):
    assert shell("compare", runs / "ridge", runs / "eszsl", runs / "seeds", runs / "shots") == 0
    header, _, *lines, warning = shell.out.splitlines()
    assert header.split("  ")[0] == "%"
    assert header.endswith("H minus the first's")
    assert [line.split()[0] for line in lines] == ["ridge", "eszsl", "seeds", "shots"]
    first = fgen.RunResult.load(runs / "ridge")
    assert all(cell in lines[0] for cell in first.row("ridge"))
    gap = paired_interval(fgen.RunResult.load(runs / "eszsl").per_seed, first.per_seed)
    assert lines[1].endswith(f"{100 * gap['difference']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]")
    assert lines[2].endswith("  other seeds")
    assert lines[3].endswith("  other data")
    assert warning.startswith("eszsl: The TEST SET was used")


def test_json_and_csv_hold_the_same_as_fractions(shell, runs):
    assert shell("compare", runs / "ridge", runs / "eszsl", runs / "seeds", "--json") == 0
    told = json.loads(shell.out)
    result = json.loads((runs / "eszsl" / "result.json").read_text())
    assert [one["run"] for one in told] == ["ridge", "eszsl", "seeds"]
    assert told[1]["scores"] == result["scores"]
    assert (told[1]["selected_by"], told[1]["seeds"]) == ("val_H", [0, 1])
    assert told[1]["validation"] == pytest.approx(sum(choice["val_H"] for choice in result["choice"]) / 2)
    assert told[0]["minus_first"] == told[2]["minus_first"] == {}
    assert (told[1]["unpaired"], told[2]["unpaired"]) == ("", "other seeds")
    assert shell("compare", runs / "ridge", runs / "eszsl", runs / "seeds", "--csv") == 0
    for line, one in zip(csv.DictReader(io.StringIO(shell.out)), told, strict=True):
        assert line["run"] == one["run"]
        for name in SCORES:
            for end, key in (("", "mean"), ("_low", "low"), ("_high", "high")):
                value = one["scores"][name][key]
                assert line[name + end] == ("" if value is None else str(value))
        gap = one["minus_first"].get("T1", {}).get("difference")
        assert line["T1_minus_first"] == ("" if gap is None else str(gap))
    assert shell("compare", runs / "ridge", "--csv", "--json") == 2
    assert "not allowed with" in shell.err


def test_a_folder_without_a_finished_run_is_named(shell, runs, tmp_path):
    assert "is no run folder" in shell.refuses("compare", runs / "ridge", tmp_path)
