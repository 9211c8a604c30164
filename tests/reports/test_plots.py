from __future__ import annotations

import builtins
import subprocess
import sys

import numpy as np
import pytest

from fgen.errors import InputError, MissingExtra
from fgen.metrics.accuracy import gzsl_scores
from fgen.reports import plots
from fgen.reports.plots import _principal_plane, plot_calibration, plot_features, plot_scores, plot_training

pytest.importorskip("matplotlib")


def features(n_classes=8, n=30, dim=20, key=0):
    stream = np.random.default_rng(key)
    labels = np.repeat(np.arange(n_classes), n)
    return stream.normal(size=(n_classes, dim))[labels] * 3 + stream.normal(size=(len(labels), dim)), labels


def picture(path):
    """The pixels (height, width, RGBA) of a PNG."""
    from matplotlib.image import imread

    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written is left behind
    return imread(path)


def has_colour(pixels, colour):
    from matplotlib.colors import to_rgb

    return bool((np.abs(pixels[..., :3] - to_rgb(colour)).max(axis=-1) < 0.02).any())


def curve(key=0):
    stream = np.random.default_rng(key)
    labels = stream.integers(0, 10, 300)
    scores = stream.normal(size=(300, 10))
    scores[np.arange(300), labels] += 2
    return gzsl_scores(labels, scores, seen=np.arange(7), unseen=np.arange(7, 10)).curve


def test_importing_the_scores_loads_neither_matplotlib_nor_scikit_learn():
    scores = "fgen.metrics.accuracy, fgen.metrics.fidelity, fgen.metrics.stats"
    code = f"import sys, {scores}; sys.exit(any(m in sys.modules for m in ('matplotlib', 'sklearn', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_leaves_pyplot_and_its_backend_alone(tmp_path):
    code = (
        "import sys; from fgen.reports.plots import plot_training; "
        f"plot_training({str(tmp_path / 'a.png')!r}, [{{'loss': 1}}, {{'loss': 2}}]); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_eight_classes_are_drawn_in_colours_of_their_own(tmp_path):
    from fgen.reports.plots import PALETTE

    path = tmp_path / "features.png"
    plot_features(path, *features(), *features(), class_names=[f"class {i}" for i in range(8)], title="A title")
    pixels = picture(path)
    assert all(has_colour(pixels, colour) for colour in PALETTE[:8])
    assert not has_colour(pixels, PALETTE[8])


def test_unseen_classes_without_real_rows_and_many_classes_can_be_drawn(tmp_path):
    real, labels = features(30, n=3)
    synthetic, synthetic_labels = features(40, n=3)
    plot_features(tmp_path / "a.png", real, labels, synthetic, synthetic_labels)
    assert picture(tmp_path / "a.png").shape[0] > 300


def test_one_column_or_one_row_can_be_drawn(tmp_path):
    for real in (np.ones((1, 5)), np.arange(4.0)[:, None]):
        plot_features(tmp_path / "a.png", real, [0] * len(real), real[:0], np.zeros(0, dtype=int))
    picture(tmp_path / "a.png")


def test_the_plane_holds_the_directions_of_most_variance():
    stream = np.random.default_rng(0)
    x = stream.normal(size=(500, 4)) * [1.0, 10.0, 0.1, 5.0] + 7
    centre, plane, explained = _principal_plane(x)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    np.testing.assert_allclose(np.abs(plane @ vectors[:, [3, 2]]), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(explained, values[[3, 2]] / values.sum())
    np.testing.assert_allclose(centre, x.mean(axis=0))


def test_calibration_draws_every_curve(tmp_path):
    from fgen.reports.plots import PALETTE

    plot_calibration(tmp_path / "a.png", [curve(0), curve(1)], ["one", "two"])
    assert all(has_colour(picture(tmp_path / "a.png"), colour) for colour in PALETTE[:2])
    plot_calibration(tmp_path / "a.png", curve(), "one")
    assert not has_colour(picture(tmp_path / "a.png"), PALETTE[1])


def test_training_is_drawn_by_phase_from_the_strings_of_a_csv(tmp_path):
    from fgen.reports.plots import PALETTE

    rows = [{"phase": phase, "epoch": str(e), "loss": f"{e / 7}", "val_H": ""} for phase in "ab" for e in range(9)]
    plot_training(tmp_path / "a.png", rows)
    assert all(has_colour(picture(tmp_path / "a.png"), colour) for colour in PALETTE[:2])


def test_a_failed_picture_leaves_the_old_one_and_no_debris(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "a.png"
    plot_training(path, [{"loss": 1}])
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_training(path, [{"loss": 2}])
    assert path.read_bytes() == before
    picture(path)


def test_without_matplotlib_the_message_holds_the_install_line(tmp_path, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, module)
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r'pip install "fgen\[plots\]"'):
        plot_training(tmp_path / "a.png", [{"loss": 1}])


def test_what_cannot_be_drawn_is_refused(tmp_path):
    path = tmp_path / "a.png"
    x, labels = features()
    with pytest.raises(InputError, match="no real rows"):
        plot_features(path, x[:0], labels[:0], x, labels)
    with pytest.raises(InputError, match="same space"):
        plot_features(path, x, labels, x[:, :3], labels)
    with pytest.raises(InputError, match="1 curves and 2 names"):
        plot_calibration(path, curve(), ["a", "b"])
    with pytest.raises(InputError, match="without a number"):
        plot_training(path, [{"epoch": 1, "note": "x"}])
    with pytest.raises(InputError, match="doesn't exist"):
        plot_training(tmp_path / "no" / "a.png", [{"loss": 1}])


def test_texts_that_no_picture_has_room_for_are_cut(tmp_path, monkeypatch):
    """Such as a damaged metrics.csv may have: matplotlib would work on them for half a minute."""
    drawn = []
    monkeypatch.setattr(plots, "write_figure", lambda target, figure: drawn.append(figure))
    plot_training(tmp_path / "x.png", [{"epoch": k, "phase": "x" * 20_000, "y" * 20_000: 1.0, "$z": k} for k in (1, 2)])
    (figure,) = drawn
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    texts += [axes.get_title() for axes in figure.axes]
    assert sorted(map(len, texts))[-2:] == [201, 201]
    assert r"\$z" in texts, "no formula begins there"


def test_a_score_that_no_run_has_gets_no_panel(tmp_path):
    measured = {"mean": 0.5, "low": 0.4, "high": 0.6}
    nothing = dict.fromkeys(measured)
    widths = []
    for k, h in enumerate((measured, nothing)):
        (tmp_path / str(k)).mkdir()
        path = tmp_path / str(k) / "p.png"
        plot_scores(path, ["a", "b"], [{"T1": measured, "H": h}, {"T1": measured, "H": nothing}], ("T1", "H"))
        widths.append(picture(path).shape[1])
    assert widths[1] < 0.7 * widths[0]
