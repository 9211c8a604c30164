"""Words of the shell: mistyped ones, abbreviations, ``--quiet``."""

import sys

import pytest

from fgen.cli import COMMANDS
from fgen.cli.parser import Parser


@pytest.mark.parametrize(
    ("words", "usage", "message"),
    [
        ("rnu x.toml", "fgen [-h]", "fgen has no command 'rnu'. Did you mean run?"),
        ("--quiet evalute x", "fgen [-h]", "fgen has no command 'evalute'. Did you mean evaluate?"),
        ("help", "fgen [-h]", "fgen has no command 'help'. fgen --help lists them."),
        ("--verson", "fgen [-h]", "fgen has no option --verson. Did you mean --version?"),
        ("generate RUN --ot x.h5", "fgen generate", "fgen generate has no option --ot. Did you mean --out?"),
        ("generate RUN --n-per-clas=5", "fgen generate", "no option --n-per-clas. Did you mean --n-per-class?"),
        ("generate RUN --n-per 5 --out x.h5", "fgen generate", "no option --n-per. Did you mean --n-per-class?"),
        ("inspect toy --jsn", "fgen inspect", "fgen inspect has no option --jsn. Did you mean --json?"),
        ("inspect toy emoji", "fgen inspect", "fgen inspect takes no 'emoji'."),
        ("inspect -x toy", "fgen inspect", "fgen inspect takes no '-x'."),
        ("train x.toml", "fgen train", "the following arguments are required: --out"),
        ("predict RUN x.npy --top many", "fgen predict", "argument --top: invalid int value: 'many'"),
        ("inspect toy --\x1b[31m", "fgen inspect", r"fgen inspect has no option --\x1b[31m."),
    ],
)
def test_a_mistyped_word_is_answered_by_its_command_with_the_nearest(shell, words, usage, message):
    assert shell(*words.split()) == 2
    first, last = shell.err.splitlines()[0], shell.err.splitlines()[-1]
    assert first.startswith(f"usage: {usage}")
    assert last.startswith("fgen: ")
    assert last.endswith(message)
    assert "\x1b" not in shell.err
    assert shell.out == ""


def test_every_argument_has_a_word_of_help_and_every_number_its_default():
    for command in COMMANDS:
        for action in filter(None, (declare(Parser()) for declare in command.arguments)):
            assert action.help, f"{command.name}: {action.dest}"
            if isinstance(action.default, int | float) and not isinstance(action.default, bool):
                assert f"(default: {action.default})" in action.help


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_leaves_the_answer_alone(shell, config, tmp_path, monkeypatch, place):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    words = ("run", config, "--out", tmp_path / place, "--set", "protocol.seeds=[0]", "--set", "model.epochs=1")
    assert shell(*(("--quiet", *words) if place == "before" else (*words, "--quiet"))) == 0
    assert shell.err == ""
    assert shell.out.startswith("clswgan on toy")
    assert "already holds a run" in shell.refuses("--quiet", *words), "errors are told"


def test_bars_are_shown_on_a_terminal_alone(shell, run_dir, tmp_path, monkeypatch):
    words = ("generate", run_dir, "--n-per-class", 2, "--out", tmp_path / "x.h5", "--overwrite")
    assert shell(*words) == 0
    assert "%|" not in shell.err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert shell(*words) == 0
    assert "%|" in shell.err
    assert shell(*words, "--quiet") == 0
    assert shell.err == ""
