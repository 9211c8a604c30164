"""Files that earlier versions of fgen wrote: read, predicted from and gone on with, they give what they gave then.

``tests/fixtures/write.py`` wrote them, a folder for each commit; ``outcomes.json`` is what that commit made of them.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

import fgen
from tests.fixtures.outcomes import command, entries, outcome

FOLDER = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.parent for path in FOLDER.glob("*/outcomes.json"))
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
FIXTURES = [(version, entry) for version in VERSIONS for entry in entries(version)]
each_fixture = pytest.mark.parametrize(
    ("version", "entry"), FIXTURES, ids=[f"{version.name}-{entry}" for version, entry in FIXTURES]
)
#: How far numbers may be off. Other instructions and 2 threads bring scores 1e-6 apart. A printed score has six digits.
TOLERANCE, PRINTED = 1e-5, 2e-5
#: Files of a run that only its report reads, and those that a resumed run makes anew, whatever they hold.
OF_REPORT, MADE_ANEW = ("metrics.csv", "predictions.npz"), ("timing.json", "ridge/seeds/0/choice.json")


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A copy of each version's folder, as going on with a run writes to it."""
    return {version: shutil.copytree(version, tmp_path_factory.mktemp("old") / version.name) for version in VERSIONS}


@pytest.fixture
def enter(copies, monkeypatch):
    """Make the copy of a version's folder the current one, and return what is recorded of a fixture in it, which is
    as it was, also afterwards."""
    entered = set()

    def renew(version, entry):
        copy = copies[version] / entry
        if copy.is_dir():
            shutil.rmtree(copy)
            shutil.copytree(version / entry, copy)
        elif copy.read_bytes() != (version / entry).read_bytes():
            shutil.copyfile(version / entry, copy)

    def enter(version, entry):
        monkeypatch.chdir(copies[version])
        entered.add((version, entry))
        renew(version, entry)
        return json.loads(Path("outcomes.json").read_text(encoding="utf-8"))[entry.as_posix()]

    yield enter
    for version, entry in entered:
        renew(version, entry)


def differences(found, recorded, where=""):
    """Yield each place where two outcomes differ by more than rounding."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in found.keys() | recorded.keys():
            yield from differences(found.get(key), recorded.get(key), f"{where}/{key}")
    elif isinstance(recorded, list) and isinstance(found, list) and len(found) == len(recorded):
        for index, (one, other) in enumerate(zip(found, recorded, strict=True)):
            yield from differences(one, other, f"{where}/{index}")
    elif type(found) is not type(recorded) or found != recorded:
        if not isinstance(found, float) or not isinstance(recorded, float):
            yield f"{where} is {found!r}, was {recorded!r}"
        elif not abs(found - recorded) <= tolerance(where, recorded):
            yield f"{where} is {found}, was {recorded}"


def tolerance(where, recorded):
    """Return how far a number may be off; the terms of a loss, which a history holds, are of any size."""
    if "/history/" in where:
        return TOLERANCE * max(1.0, abs(recorded))
    return PRINTED if "/printed/" in where else TOLERANCE


@pytest.mark.numeric
@each_fixture
def test_what_is_made_of_an_old_file_is_what_was_made_of_it_then(version, entry, enter):
    recorded = enter(version, entry)
    assert sorted(differences(outcome(entry), recorded)) == []


def test_a_page_is_made_of_the_oldest_runs_with_their_scores(enter):
    pytest.importorskip("matplotlib")
    runs = [Path("run_folders/flow"), Path("run_folders/ridge")]
    recorded = [enter(FOLDER / "f5809e6", run)["left"] for run in runs]
    command("report", *runs, "--out", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    for run, scores in zip(runs, recorded, strict=True):
        row = re.search(rf"<tr><td[^>]*>{run.name}</td>.*?</tr>", page)[0]
        assert [name for name in scores if f"{100 * scores[name]:.1f}" not in row] == []


@each_version
@pytest.mark.parametrize(
    "file", ["flow/seeds/0/metrics.csv", "flow/seeds/0/predictions.npz", "ridge/seeds/0/predictions.npz"]
)
def test_a_page_refuses_what_it_would_show_of_an_old_run_if_that_is_damaged(file, version, enter):
    pytest.importorskip("matplotlib")
    run = Path("run_folders") / Path(file).parts[0]
    enter(version, run)
    Path("run_folders", file).write_bytes(b"damaged")
    with pytest.raises(fgen.InputError, match=Path(file).stem):
        command("report", run, "--out", "page.html")


@each_version
def test_everything_in_the_folder_of_a_version_is_a_fixture(version):
    files = {file.relative_to(version) for file in version.rglob("*") if file.is_file()} - {Path("outcomes.json")}
    assert {Path(*file.parts[:2]) for file in files} == set(entries(version))
    kinds = {entry.parent.name for entry in entries(version)}
    assert kinds == {"data", "models", "heads", "classifiers", "banks", "run_folders"}


@each_fixture
def test_no_file_of_a_fixture_is_passed_over(version, entry, enter):
    files = [file for file in (version / entry).rglob("*") if file.is_file()] or [version / entry]
    for file in files:
        recorded = enter(version, entry)
        if file.as_posix().endswith(OF_REPORT + MADE_ANEW):
            continue
        file.relative_to(version).write_bytes(b"damaged")
        try:
            found = outcome(entry)
        except fgen.InputError:
            continue
        assert list(differences(found, recorded)), f"{file.relative_to(version)} makes no difference"
