"""The bench of picture features compares like with like."""

import numpy as np
import pytest

from experiments.bench.pictures import bare, table
from fgen.encoders.image import encode_images, read_image
from tests.encoders.seeded import with_efficientnet

Image = pytest.importorskip("PIL.Image")


@with_efficientnet
def test_the_bare_loop_returns_the_features_that_fgen_does(tmp_path):
    stream = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(stream.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / f"{k}.jpg")
    files = sorted(tmp_path.iterdir())
    own = bare(files, read_image)
    assert np.abs(encode_images(files) - own).max() <= 1e-5 * own.max()


def test_ratios_are_taken_round_by_round():
    def figures(*rates):
        return [{"per_second": rate, "per_cpu_second": rate, "peak_mb": 1.0} for rate in rates]

    said = table({"pictures": 9, "threads": 2, "samples": {"base": figures(1, 10), "here": figures(2, 30)}})
    assert "here / base, per_second: 2.5 (2 to 3)" in said
