"""Reading rows: the same values from wherever they lie, and asked for ahead where that helps."""

import mmap

import h5py
import numpy as np
import pytest

from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.features import prefetch, rows
from fgen.features.rows import ConcatRows, SelectedRows, as_rows, iter_blocks, prefetch_rows, read_rows
from fgen.io import hdf5

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(500, 300)).astype(np.float32)
ROWS = RNG.integers(0, 500, size=77)


class Recorder(mmap.mmap):
    """A map of a file that writes down what it was advised."""

    def madvise(self, option, start=0, length=None):
        self.asked = [*getattr(self, "asked", []), (option, start, length)]
        super().madvise(option, start, length)


@pytest.fixture
def mapped(tmp_path):
    """The matrix after 1,000 bytes of something else, as in an HDF5 file, and its map."""
    path = tmp_path / "x"
    path.write_bytes(bytes(1000) + MATRIX.tobytes())
    with open(path, "rb") as file:
        mapping = Recorder(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapping, np.float32, offset=1000).reshape(MATRIX.shape).view(), mapping


def pages(mapping):
    """The pages that were asked for."""
    asked = getattr(mapping, "asked", [])
    assert all(option == mmap.MADV_WILLNEED for option, _, _ in asked)
    assert all(length <= prefetch.PIECE_BYTES for _, _, length in asked)
    return sorted(
        {page for _, start, n in asked for page in range(start // prefetch.PAGE, -(-(start + n) // prefetch.PAGE))}
    )


def pages_of(rows):
    """The slow twin: the page of every byte of every row."""
    width = MATRIX.strides[0]
    return sorted(
        {byte // prefetch.PAGE for row in rows for byte in range(1000 + row * width, 1000 + (row + 1) * width)}
    )


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice")
def test_exactly_the_pages_of_the_rows_are_asked_for_in_few_requests(mapped, monkeypatch):
    features, mapping = mapped
    prefetch_rows(features, ROWS[:9])
    assert pages(mapping) == pages_of(ROWS[:9])
    mapping.asked = []
    prefetch_rows(features[10:], np.array([3]))
    assert pages(mapping) == pages_of([13])
    mapping.asked = []
    prefetch_rows(features, np.arange(500))
    assert len(mapping.asked) == -(-MATRIX.nbytes // prefetch.PIECE_BYTES)
    mapping.asked = []
    prefetch_rows(features, ROWS[:0])
    prefetch_rows(features.T, ROWS[:3])
    assert mapping.asked == []


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice")
def test_views_pass_on_what_is_expected_and_blocks_are_asked_for_one_ahead(mapped, monkeypatch):
    features, mapping = mapped
    stacked = ConcatRows([np.zeros((5, 300), np.float32), SelectedRows(features, np.arange(400, 500))])
    prefetch_rows(stacked, np.array([2, 5, 104]))
    assert pages(mapping) == pages_of([400, 499])
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 100 * MATRIX.strides[0])
    blocks = iter_blocks(features)
    mapping.asked = []
    next(blocks)
    assert pages(mapping) == pages_of(range(200))
    mapping.asked = []
    assert len(list(blocks)) == 4
    assert pages(mapping) == pages_of(range(200, 500)), "and none behind the last"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2"])
def test_rows_are_the_same_wherever_they_lie(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(rows, "COPY_BYTES", 10 * MATRIX.strides[0])
    matrix = (100 * MATRIX).astype(dtype)
    expected = np.stack([matrix[row] for row in ROWS]).astype(np.float32)
    np.save(tmp_path / "x.npy", matrix)
    np.save(tmp_path / "t.npy", np.asfortranarray(matrix))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, options in (("plain", {}), ("chunks", {"chunks": (7, 20)}), ("packed", {"compression": "gzip"})):
            file.create_dataset(name, data=matrix, **options)
    with h5py.File(tmp_path / "x.h5") as file:
        places = [matrix, *(np.load(tmp_path / name, mmap_mode="r") for name in ("x.npy", "t.npy"))]
        places += [file["plain"], file["chunks"], file["packed"], hdf5.matrix(file["plain"])]
        for place in places:
            found = read_rows(place, ROWS)
            assert found.dtype == np.float32
            assert np.array_equal(found, expected)
            assert read_rows(place, ROWS[:0]).shape == (0, 300)
            view = ConcatRows([SelectedRows(place, np.arange(100)), SelectedRows(place, np.arange(100, 500))])
            assert np.array_equal(read_rows(view, ROWS), expected)
            prefetch_rows(view, ROWS)
        monkeypatch.setattr(hdf5, "MAX_SPAN_BYTES", 0)
        assert np.array_equal(read_rows(file["chunks"], ROWS), expected)


def test_a_chunk_is_read_once_however_many_of_its_rows_are_wanted(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=MATRIX, chunks=(50, 300))
    reads = []

    class Counting(h5py.Dataset):
        def __getitem__(self, key):
            reads.append(key)
            return super().__getitem__(key)

    with h5py.File(tmp_path / "x.h5") as file:
        read_rows(Counting(file["x"].id), np.array([499, 3, 10, 49, 50, 3]))
    assert [(key.start, key.stop) for key in reads] == [(3, 50), (50, 51), (499, 500)]


def test_texts_of_a_file_are_refused_as_features_without_being_read(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        found = file.create_dataset("features", data=[["a", "b"]], dtype=h5py.string_dtype())
        monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("it is refused by its type"))
        monkeypatch.setattr(h5py.Dataset, "__array__", lambda *_, **__: pytest.fail("it is refused by its type"))
        with pytest.raises(InputError, match="type object; expected a matrix"):
            as_rows(found)


def test_an_open_hdf5_dataset_is_mapped_unless_it_may_still_change(tmp_path):
    parts = np.zeros(500, int), np.eye(1)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        unwritten = ZSLDataset(file.create_dataset("x", data=MATRIX), *parts)
        assert isinstance(unwritten.features, h5py.Dataset)
        assert np.array_equal(unwritten.rows(ROWS), MATRIX[ROWS])
    with h5py.File(tmp_path / "x.h5") as file:
        data = ZSLDataset(file["x"], *parts)
    assert isinstance(data.features, np.memmap)
    assert np.array_equal(data.rows(ROWS), MATRIX[ROWS]), "the map outlives the file that was closed"
    with open(tmp_path / "x.h5", "rb") as stream, h5py.File(stream) as file:
        assert isinstance(ZSLDataset(file["x"], *parts).features, h5py.Dataset)
