"""The page about runs: what it says is what the runs hold, and it stands alone."""

import html
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import fgen
from fgen.cli import main
from fgen.data.dataset import ZSLDataset
from fgen.data.files import save_dataset
from fgen.data.toy import toy_world
from fgen.errors import InputError
from fgen.experiment.directory import RunDirectory
from fgen.experiment.records import read_predictions
from fgen.experiment.results import format_gap
from fgen.metrics.stats import paired_interval
from fgen.reports.comparison import distinct_names
from fgen.reports.inspection import inspect
from fgen.reports.run_report import _some_of_each, write_report
from tests.conftest import tiny

pytest.importorskip("matplotlib")

NAMES = [f"bird {k}" for k in range(11)] + ["<script>alert('x')</script>"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    data = toy_world(n_seen=8, n_unseen=4, rows_per_class=14, embedding_dim=4, feature_dim=16).dataset
    file = tmp_path_factory.mktemp("data") / "birds.h5"
    save_dataset(ZSLDataset(data.features, data.labels, data.embeddings, class_names=NAMES, splits=data.splits), file)
    return file


@pytest.fixture(scope="module")
def runs(path, tmp_path_factory):
    """A generator, one with a space of its own, and a baseline."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for name in ("clswgan", "cadavae", "ridge"):
        model = {"name": name} | ({} if name == "ridge" else tiny(name))
        config = {"dataset": {"path": str(path)}, "model": model, "protocol": {"seeds": [0, 1], "evaluations": 1}}
        config |= {} if name == "ridge" else {"bank": {"n_per_class": 12}, "classifier": {"solver": "lbfgs"}}
        found[name] = fgen.run(config, out=folder / name)
    return found


@pytest.fixture(scope="module")
def text(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report([run.out for run in runs.values()], out)
    return out.read_text(encoding="utf-8")


def cells(text, row):
    """The cells of the first row of a table that begins with ``row``."""
    line = re.search(rf"<tr><td[^>]*>{re.escape(html.escape(row))}</td>.*?</tr>", text)
    return [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", line[0])]


def test_scores_and_paired_gaps_are_those_of_the_runs(text, runs):
    first = runs["clswgan"]
    assert cells(text, "clswgan") == [*first.row("clswgan"), ""]
    for name in ("cadavae", "ridge"):
        gap = format_gap(paired_interval(runs[name].per_seed, first.per_seed))
        assert cells(text, name) == [*runs[name].row(name), gap]


def test_the_page_stands_alone_and_is_whole(text):
    class Checked(HTMLParser):
        void = ("meta", "img", "link", "br")
        stack, sources, tags = [], [], set()

        def handle_starttag(self, tag, attributes):
            self.tags.add(tag)
            self.sources += [value for key, value in attributes if key in ("src", "href")]
            self.stack += [tag] if tag not in self.void else []

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    parser = Checked()
    parser.feed(text)
    assert not parser.stack
    assert len(parser.sources) == 6, "two of all, a training and features of each generator"
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert not parser.tags & {"script", "link", "iframe"}
    assert html.escape(NAMES[-1]) in text


def test_each_unseen_class_is_told_with_what_it_was_taken_for(text, runs):
    section = text.split("<h2>clswgan</h2>")[1].split("<h2>")[0]
    kept = [read_predictions(RunDirectory.open(runs["clswgan"].out).seed(seed).predictions) for seed in (0, 1)]
    for place, label in enumerate(kept[0][1].unseen):
        _, n_rows, alone, among_all, others = cells(section, NAMES[label])
        answers = [answer for p, _ in kept for answer in p.gzsl[p.labels == label].tolist()]
        assert int(n_rows) * 2 == len(answers)
        assert alone == f"{100 * np.mean([scores.per_class_T1[place] for _, scores in kept]):.0f}"
        assert among_all == f"{100 * answers.count(label) / len(answers):.0f}"
        for name, share in re.findall(r"(.+?) (\d+)%(?:, |$)", others):
            assert int(share) == round(100 * answers.count(NAMES.index(name)) / len(answers))


def test_features_are_compared_where_the_bank_lives(text):
    raw, own, none = (text.split(f"<h2>{name}</h2>")[1].split("<h2>")[0] for name in ("clswgan", "cadavae", "ridge"))
    assert "in the raw space" in raw
    assert "in the method&#x27;s own space" in own
    assert "A baseline generates none." in none
    for section in (raw, own):
        measure = html.unescape(re.search(r"nearest_mean: [^<]+", section)[0])
        assert all(0 <= float(share) <= 1 for share in cells(section, measure)[1:])


def test_the_same_runs_give_the_same_page_which_replaces_the_earlier(text, runs, tmp_path):
    out = tmp_path / "report.html"
    write_report([runs["ridge"].out], out)
    write_report([run.out for run in runs.values()], out)
    assert out.read_text(encoding="utf-8") == text
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("change", ["gone", "other"])
def test_without_the_data_that_a_run_was_made_from_the_rest_is_told(runs, path, tmp_path, change):
    aside = tmp_path / "aside.h5"
    shutil.copy(path, aside)
    try:
        path.unlink()
        if change == "other":
            data = fgen.load_dataset(aside)
            save_dataset(ZSLDataset(data.features[:] + 1, data.labels, data.embeddings, splits=data.splits), path)
        write_report([runs["clswgan"].out], tmp_path / "report.html")
    finally:
        shutil.copy(aside, path)
    text = (tmp_path / "report.html").read_text()
    assert "Not compared: " in text
    assert ("birds.h5, which isn" if change == "gone" else "made from other data than") in text
    assert "bird 8" in text, "names are the bank's where the data set has gone"


def test_odd_embeddings_of_the_data_are_told_of_at_every_door(path, tmp_path, caplog):
    data = fgen.load_dataset(path)
    odd = data.class_embeddings.copy()
    odd[9], odd[10] = odd[8], 0
    save_dataset(ZSLDataset(data.features, data.labels, odd, class_names=NAMES, splits=data.splits), tmp_path / "o.npz")
    words = "1 class has nothing but zeros ('bird 10'); 1 class has the same one as another class ('bird 8', 'bird 9')"
    assert any(words in note for note in inspect(str(tmp_path / "o.npz"))["notes"])
    with caplog.at_level("INFO"):
        run = fgen.run({"dataset": {"path": str(tmp_path / "o.npz")}, "model": {"name": "ridge"}}, out=tmp_path / "run")
    assert words in caplog.text
    assert any(words in note for note in run.description["dataset"]["notes"])
    write_report([run.out], tmp_path / "r.html")
    assert words in html.unescape((tmp_path / "r.html").read_text(encoding="utf-8"))


def test_what_is_no_report_is_left_alone_and_what_is_no_finished_run_refused(runs, tmp_path, capsys):
    (tmp_path / "mine.html").write_text("<!doctype html>\nmine")
    words = ["report", str(runs["ridge"].out), "--out", str(tmp_path / "mine.html")]
    assert main(words) == 2
    assert "exists and is no report" in capsys.readouterr().err
    assert (tmp_path / "mine.html").read_text().endswith("mine")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs["ridge"].out, unfinished)
    (unfinished / "result.json").unlink()
    assert main(["report", str(unfinished), "--out", str(tmp_path / "r.html")]) == 2
    whole = f"expected a finished run. Finish it with fgen run {unfinished / 'config.toml'} --resume."
    assert whole in capsys.readouterr().err
    with pytest.raises(InputError, match="is no run folder"):
        write_report([tmp_path], tmp_path / "r.html")
    (runs["ridge"].out / "seeds/1/predictions.npz").rename(tmp_path / "kept")
    try:
        assert main(["report", str(runs["ridge"].out), "--out", str(tmp_path / "r.html")]) == 2
        assert "predictions.npz doesn't exist" in capsys.readouterr().err
    finally:
        (tmp_path / "kept").rename(runs["ridge"].out / "seeds/1/predictions.npz")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "other/b/"], ["a", "b"]),
        (["runs/a/seed-0", "runs/b/seed-0"], ["a", "b"]),
        (["x/a/seed-0", "y/a/seed-1", "y/a/seed-0"], ["x/a/seed-0", "y/a/seed-1", "y/a/seed-0"]),
        (["runs/a"], ["a"]),
        (["runs/a", "runs/a"], ["a", "a"]),
    ],
)
def test_runs_are_called_by_what_tells_them_apart(paths, names):
    assert distinct_names(paths) == names


def test_what_is_damaged_or_gone_is_named(runs, tmp_path, capsys):
    shutil.copytree(runs["clswgan"].out, tmp_path / "a$x_{$")
    (tmp_path / "a$x_{$" / "seeds/0/bank.h5").unlink()
    words = ["report", str(tmp_path / "a$x_{$"), "--out", str(tmp_path / "r.html")]
    assert main(words) == 0, "and two dollars are no formula"
    assert "there is no " in (tmp_path / "r.html").read_text()
    for content in (b"\xff\xfe,\n", b""):
        (tmp_path / "a$x_{$" / "seeds/0/metrics.csv").write_bytes(content)
        assert main(words) == 2
        assert "metrics" in capsys.readouterr().err


def test_runs_on_other_data_are_not_paired(runs, path, tmp_path):
    data = fgen.load_dataset(path)
    moved = ZSLDataset(data.features[:] + 1, data.labels, data.embeddings, class_names=NAMES, splits=data.splits)
    save_dataset(moved, tmp_path / "moved.h5")
    sections = {"dataset": {"path": str(tmp_path / "moved.h5")}, "model": {"name": "ridge"}}
    other = fgen.run(sections | {"protocol": {"seeds": [0, 1]}}, out=tmp_path / "other")
    write_report([runs["ridge"].out, other.out], tmp_path / "r.html")
    assert cells((tmp_path / "r.html").read_text(), "other")[-1] == "other data"


def test_many_rows_are_thinned_evenly():
    labels = np.repeat([3, 1, 2], [1000, 5, 1])
    kept = _some_of_each(np.arange(1006), labels)
    assert np.bincount(labels[kept]).tolist() == [0, 5, 1, 200]
    assert not len(_some_of_each(np.arange(0), labels))
    assert len(_some_of_each(np.arange(90_000), np.arange(90_000) // 3)) <= 60_000


def test_runs_that_cannot_be_paired_are_shown_without_a_gap(runs, path, tmp_path):
    other = fgen.run(
        {"dataset": {"path": str(path)}, "model": {"name": "ridge"}, "protocol": {"seeds": [5]}}, out=tmp_path / "other"
    )
    assert main(["report", str(runs["ridge"].out), str(other.out), "--out", str(tmp_path / "r.html")]) == 0
    assert cells((tmp_path / "r.html").read_text(), "other")[-1] == "other seeds"
