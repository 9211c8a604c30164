"""The tables of `experiments/compare.py`: every row is an experiment that can start, and no method is forgotten."""

import pytest

import fgen
from experiments import compare

ROWS = [(table, label) for table, rows in compare.TABLES.items() for label in rows]


@pytest.mark.parametrize(("table", "label"), ROWS, ids=[f"{table}: {label}" for table, label in ROWS])
def test_every_row_is_an_experiment(table, label):
    config = compare.configure(*compare.TABLES[table][label])
    assert config.model.name in {*fgen.MODELS, *fgen.BASELINES}


@pytest.mark.parametrize("table", ["family", "awa1"])
def test_every_method_has_a_row(table):
    names = {compare.configure(*row).model.name for row in compare.TABLES[table].values()}
    assert set(fgen.MODELS) <= names
    assert names & set(fgen.BASELINES)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["family", "--rows", "gazzl"], "no row is called gazzl; rows are ridge"),
        (["awa1"], "--data belongs to the table awa1"),
        (["demo", "--data", "somewhere"], "--data belongs to the table awa1"),
        (["awa1", "--data", "somewhere", "--epochs", "3"], "--epochs is not for the table awa1"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compare.py", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        compare.main()
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_told_in_one_message(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr("sys.argv", ["compare.py", "demo", "--rows", "ridge", "--out", str(tmp_path / "out")])
    assert compare.main() == 2
    assert capsys.readouterr().err.startswith(f"compare: {tmp_path / 'out'}: File exists. What was finished is kept")
