"""Features of picture files: resumed after kills, broken files skipped, the same on any number of threads."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from fgen.encoders.base import ImageEncoder
from fgen.encoders.image_features import encode_images, map_in_threads
from fgen.encoders.network import FunctionEncoder, NetworkEncoder, unit_square
from fgen.errors import InputError
from tests.encoders.fakes import MeanColour
from tests.encoders.seeded import with_efficientnet

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def files(tmp_path):
    """Twenty-one pictures of many colours and sizes."""
    stream = np.random.default_rng(0)
    for k in range(21):
        Image.fromarray(stream.integers(0, 256, (30 + k, 40, 3), dtype=np.uint8)).save(tmp_path / f"{k:02}.png")
    return sorted(tmp_path.iterdir())


def test_rows_are_of_the_files_in_their_order_on_any_number_of_threads(files, monkeypatch):
    own = [np.asarray(Image.open(file)).astype(np.float32).mean(axis=(0, 1)) for file in files]
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert encode_images(files, encoder=MeanColour()) == pytest.approx(
            np.resize(own, (21, 3))[:, np.arange(1280) % 3]
        )


def test_a_file_that_is_named_twice_is_looked_at_once(files, tmp_path):
    (tmp_path / "link.png").symlink_to(files[3])
    looked = []
    rows = encode_images([*files, tmp_path / "link.png", files[0]], encoder=MeanColour(look=looked.append))
    assert len(looked) == 21
    assert np.array_equal(rows[[21, 22]], rows[[3, 0]])


def test_broken_pictures_are_skipped_with_a_list_where_asked(files, caplog):
    files[2].write_bytes(b"\x89PNG cut short")
    files[9].unlink()
    for k in range(12, 16):  # a whole batch
        files[k].write_bytes(b"")
    with pytest.raises(InputError, match=r"09\.png doesn't exist"):
        encode_images(files, encoder=MeanColour())
    whole = MeanColour()
    whole.batch_size = 4
    rows = encode_images(files, encoder=whole, skip_broken=True)
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == [2, 9, 12, 13, 14, 15]
    assert not np.isnan(np.delete(rows, [2, 9, 12, 13, 14, 15], axis=0)).any()
    (warning,) = caplog.messages
    assert warning.startswith("6 pictures can't be read and are skipped:\n")
    assert all(files[k].name in warning for k in (2, 9, 12, 13, 14, 15))


def test_features_that_were_kept_of_another_encoder_are_not_taken(files, tmp_path):
    keep, looked = tmp_path / "kept", []
    rows = encode_images(files, encoder=MeanColour(), keep=keep)
    other = encode_images(files, encoder=MeanColour("other", dim=5, look=looked.append), keep=keep)
    assert (other.shape, len(looked)) == ((21, 5), 21)
    again = encode_images(files, encoder=MeanColour(look=lambda picture: pytest.fail("looked again")), keep=keep)
    assert np.array_equal(again, rows), "nor are its own lost"
    keep.write_bytes(b"of an older fgen")
    assert np.array_equal(encode_images(files, encoder=MeanColour(), keep=keep), rows)


def test_each_device_has_a_replica_and_batches_take_turns(files):
    network = torch.nn.Sequential(torch.nn.AvgPool2d(56), torch.nn.Flatten())
    used = []

    class Replica(NetworkEncoder):
        def forward(self, batch):
            used.append((id(self.network), self.device, len(batch)))
            return super().forward(batch)

    encoder = Replica("pool", network, unit_square, {})
    rows = encode_images(files, encoder=encoder)
    used.clear()
    assert np.array_equal(encode_images(files, encoder=encoder, devices=("cpu", "cpu")), rows)
    assert len({network for network, _, _ in used}) == 2
    assert [size for _, _, size in used] == [8, 8, 8], "the last batch of five is filled up"
    with pytest.raises(InputError, match="devices is empty"):
        encode_images(files, encoder=encoder, devices=())
    with pytest.raises(InputError, match="'gpu'"):
        encode_images(files, encoder=encoder, devices=("gpu",))


def test_any_function_can_be_an_encoder(files):
    encoder = FunctionEncoder(lambda batch: batch.mean(dim=(2, 3)).numpy(), name="mean")
    rows = encode_images(files, encoder=encoder)
    own = [np.asarray(Image.open(file).crop((0, 0, 1, 1))) for file in files]
    assert rows.shape == (len(own), 3)
    assert rows == pytest.approx(encoder.encode([np.asarray(Image.open(file)) for file in files]))
    assert (encoder.record.name, encoder.record.weights, encoder.record.dim) == ("mean", "", 3)


def test_features_that_are_not_finite_are_refused(files):
    with pytest.raises(InputError, match=r"zero makes features .* not all of them finite"):
        encode_images(files, encoder=FunctionEncoder(lambda batch: batch.mean(dim=(2, 3)) / 0, name="zero"))


def test_threads_stay_near_the_caller_and_an_error_comes_in_its_turn():
    begun = []

    def work(item):
        begun.append(item)
        if item == 6:
            raise ValueError("of 6")
        return item * 10

    found = map_in_threads(work, iter(range(1000)), threads=2)
    assert next(found) == 0
    time.sleep(0.1)
    assert len(begun) <= 7, "memory is bounded by what may be ahead"
    assert [next(found) for _ in range(5)] == [10, 20, 30, 40, 50]
    with pytest.raises(ValueError, match="of 6"):
        next(found)
    assert len(begun) < 20


def test_a_subclass_of_the_users_own_is_an_encoder(files):
    class Own(ImageEncoder):
        record = MeanColour().record
        preprocess, forward, to = MeanColour.preprocess, MeanColour.forward, MeanColour.to
        _look = staticmethod(lambda picture: None)

    assert np.array_equal(encode_images(files, encoder=Own()), encode_images(files, encoder=MeanColour()))


@pytest.mark.slow
@with_efficientnet
def test_a_command_that_is_killed_five_times_writes_the_same_bytes(files, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for k in range(60):
        Image.open(files[k % 21]).rotate(k).save(tmp_path / "photos" / ("cat" if k % 2 else "dog") / f"{k:02}.png")
    (tmp_path / "e.csv").write_text("cat,1,0\ndog,0,1\n")
    words = [sys.executable, "-m", "fgen", "features", "photos", "--embeddings", "e.csv", "--out"]
    assert subprocess.run([*words, "whole.npz"], cwd=tmp_path, check=False).returncode == 0
    kept, sizes = tmp_path / "killed.npz.pictures.partial", [0]
    for _ in range(5):
        process = subprocess.Popen([*words, "killed.npz"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        while process.poll() is None and (kept.stat().st_size if kept.exists() else 0) <= sizes[-1] + 5000:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was killed in its work"
        sizes.append(kept.stat().st_size)
    assert sizes == sorted(set(sizes)), "each began where the one before had been"
    assert subprocess.run([*words, "killed.npz"], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*npz*")) == ["killed.npz", "whole.npz"]
