"""The README's commands and code work as they stand there."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import fgen
from fgen.cli import main

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    return found


def run_block(code, names=None):
    names = {} if names is None else names
    exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_python_runs_and_the_file_that_it_writes_can_be_trained_on(folder, capsys):
    names = {}
    for code in blocks("python"):
        run_block(code, names)
    unseen = set(names["data"].unseen)
    assert unseen & set(names["predictions"]), "no unseen class was ever predicted"
    assert set(names["labels"]) == unseen
    assert main(["inspect", "own.npz"]) == 0
    assert f"unseen classes: {len(unseen)}" in capsys.readouterr().out
    command = re.search(r"`fgen (train CONFIG [^`]*own\.npz[^`]*)`", TEXT)[1]
    words = command.replace("CONFIG", "experiments/fgen2026_clswgan_toy.toml --set model.epochs=1")
    assert main(shlex.split(words)) == 0, capsys.readouterr().err


@pytest.mark.parametrize("commands", blocks("sh"))
def test_the_shell_commands_run_one_after_the_other(commands, folder, capsys):
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "fgen"
        assert main(arguments) == 0, capsys.readouterr().err


def test_the_lines_for_a_classifier_of_ones_own_need_no_fgen_and_are_nearly_as_good_as_the_run(folder, capsys):
    pytest.importorskip("sklearn")
    (code,) = blocks("py")
    lines = [line for line in code.splitlines() if line and not re.match("import |from ", line)]
    assert len(lines) == 10
    assert set(re.findall(r"^(?:import|from) (\w+)", code, flags=re.MULTILINE)) == {"h5py", "numpy", "sklearn"}
    run, generate, *_ = blocks("sh")[0].splitlines()
    assert main([*shlex.split(run)[1:], "--set", "model.epochs=15"]) == 0, capsys.readouterr().err
    assert main(shlex.split(generate)[1:]) == 0, capsys.readouterr().err
    data = fgen.load_dataset("toy")
    rows = np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]])
    np.save("features.npy", data.rows(rows))
    predictions = run_block(code)["predictions"]
    scores = fgen.gzsl_scores(data.labels[rows], predictions, seen=data.seen, unseen=data.unseen)
    assert 0.8 * json.loads(Path("runs/toy/result.json").read_text())["scores"]["H"]["mean"] < scores.H


def test_every_file_and_make_target_it_names_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z0-9-]+)", TEXT, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"EXP=(\w+)", TEXT):
        assert (ROOT / "experiments" / f"{name}.toml").exists(), name
