"""A shell, and a finished run on toy data."""

import pytest

from fgen.cli import main
from fgen.data.files import load_dataset

CONFIG = """
[dataset]
name = "toy"

[model]
name = "clswgan"
epochs = 2
hidden_dim = 16
noise_dim = 4
cls_epochs = 3

[bank]
n_per_class = 20

[classifier]
epochs = 5

[protocol]
evaluations = 2
calibrate = true
seeds = [3, 1]
"""


class Shell:
    """Runs commands; keeps what the last one printed."""

    def __init__(self, capsys):
        self.capsys = capsys

    def __call__(self, *argv):
        self.capsys.readouterr()
        code = main([str(word) for word in argv])
        self.out, self.err = self.capsys.readouterr()
        return code

    def refuses(self, *argv):
        """The one message with which a command is refused."""
        assert self(*argv) == 2
        assert "Traceback" not in self.err
        (message,) = self.err.splitlines()
        assert message.startswith("fgen: ")
        assert message.endswith((".", "?"))
        assert self.out == ""
        return message


@pytest.fixture
def shell(capsys):
    return Shell(capsys)


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "toy.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def run_dir(config, tmp_path_factory):
    """A finished run whose first seed isn't the smallest."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["run", str(config), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def toy():
    return load_dataset("toy")
