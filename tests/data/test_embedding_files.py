"""Class embeddings from tables, word vectors and arrays."""

import numpy as np
import pytest

from fgen.data.embedding_files import read_embeddings, read_embeddings_of, read_kinds
from fgen.data.tables import write_embeddings_csv
from fgen.errors import InputError

NAMES = ["okapi", "bear, brown", "boeing 747", "мышь"]
MATRIX = np.array([[0.5, -1, 3], [1e-7, 2, 0], [7, 8, 9], [0.1, 0.2, 0.3]], dtype=np.float32)


def write(path, names=NAMES, matrix=MATRIX):
    lines = [f"{name} {' '.join(f'{x:.9g}' for x in row)}\n" for name, row in zip(names, matrix, strict=True)]
    if path.suffix == ".csv":
        write_embeddings_csv(path, names, matrix)
    elif path.suffix == ".npz":
        np.savez(path, class_names=np.array(names), class_embeddings=matrix)
    elif path.suffix == ".npy":
        np.save(path, matrix)
        path.with_suffix(".names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    else:
        header = f"{len(names)} {matrix.shape[1]}\n" if path.suffix == ".vec" else ""
        path.write_text(header + "".join(lines), encoding="utf-8")


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".vec", ".npz", ".npy"])
@pytest.mark.parametrize("width", [None, 3])
def test_every_form_gives_the_same_names_and_numbers(tmp_path, suffix, width):
    write(tmp_path / f"e{suffix}")
    names, matrix = read_embeddings(tmp_path / f"e{suffix}", width)
    assert names == NAMES
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, MATRIX)


@pytest.mark.parametrize("suffix", [".csv", ".vec", ".npz", ".npy"])
def test_embeddings_of_another_width_are_refused(tmp_path, suffix):
    write(tmp_path / f"e{suffix}", ["okapi"], MATRIX[:1])
    with pytest.raises(InputError, match=r"e\.\w+.*expected .*4"):
        read_embeddings(tmp_path / f"e{suffix}", 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no classes; expected a line for each"),
        ("2 3\n", "has no classes"),
        ("okapi\n", "line 1, begins with 'okapi'; expected a name, then its finite numbers"),
        ("okapi 1 2\nbear 1 x\n", "line 2, begins with 'bear'; expected a name, then 2 finite numbers"),
        ("okapi 1 2\nbear 1 nan\n", "line 2, begins with 'bear'"),
        ("okapi 1 2\nbear 1 1e39\n", "line 2, begins with 'bear'"),
        ("okapi 1 2\nbear 1\n", "line 2, begins with 'bear'"),
        ("okapi 1 2\nbear 0.5 1 2\n", "line 2, begins with 'bear'"),
        ("okapi 1 2\n3 4\n", "line 2, begins with '3'"),
        ("okapi 1 2\nokapi 3 4\n", "line 2: 'okapi' is there already"),
        ("okapi,1,2\n", "Call a table with commas .csv"),
    ],
)
def test_word_vectors_in_another_form_are_refused_by_their_line(tmp_path, content, words):
    (tmp_path / "e.txt").write_text(content)
    with pytest.raises(InputError) as error:
        read_embeddings(tmp_path / "e.txt")
    assert words in str(error.value)


def test_arrays_without_names_or_with_others_are_refused(tmp_path):
    write(tmp_path / "e.npy")
    (tmp_path / "e.names.txt").write_text("okapi\nbear\n")
    with pytest.raises(InputError, match=r"has 2 names; expected 4, one for each row of e\.npy"):
        read_embeddings(tmp_path / "e.npy")
    (tmp_path / "e.names.txt").unlink()
    with pytest.raises(InputError, match=r"e\.npy has no names; expected .*e\.names\.txt beside it.*numpy\.savez"):
        read_embeddings(tmp_path / "e.npy")
    np.savez(tmp_path / "e.npz", class_embeddings=MATRIX)
    with pytest.raises(InputError, match="has no array 'class_names'"):
        read_embeddings(tmp_path / "e.npz")
    np.savez(tmp_path / "e.npz", class_names=NAMES[:1] * 4, class_embeddings=MATRIX)
    with pytest.raises(InputError, match="okapi"):
        read_embeddings(tmp_path / "e.npz")
    np.save(tmp_path / "e.npy", np.array([["a"]], dtype=object))
    (tmp_path / "e.names.txt").write_text("okapi\n")
    with pytest.raises(InputError, match="Python objects"):
        read_embeddings(tmp_path / "e.npy")
    with pytest.raises(InputError, match=r"ends in '\.bin'; expected one of \.csv, \.txt"):
        read_embeddings(tmp_path / "e.bin")


KINDS = {"word": np.float32([[1, 2], [3, 4]]), "attributes": np.float32([[5, 6, 7], [8, 9, 0]])}


def test_a_table_of_several_kinds_names_their_columns_and_is_sorted_by_name(tmp_path):
    write_embeddings_csv(tmp_path / "e.csv", ["cat", "dog"], KINDS)
    assert (tmp_path / "e.csv").read_text().startswith("name,word.0,word.1,attributes.0,attributes.1,attributes.2\n")
    names, kinds = read_kinds(tmp_path / "e.csv")
    assert names == ["cat", "dog"]
    assert list(kinds) == ["attributes", "word"]
    for kind, matrix in KINDS.items():
        assert np.array_equal(kinds[kind], matrix)


def test_new_classes_get_the_kinds_of_training_in_their_order(tmp_path):
    write_embeddings_csv(tmp_path / "e.csv", ["cat", "dog"], KINDS)
    _, matrix = read_embeddings_of(tmp_path / "e.csv", ("attributes", "word"), 5)
    assert np.array_equal(matrix, np.concatenate([KINDS["attributes"], KINDS["word"]], axis=1))
    assert np.array_equal(read_embeddings_of(tmp_path / "e.csv", "word", 2)[1], KINDS["word"])
    with pytest.raises(InputError, match=r"sentence\.0"):
        read_embeddings_of(tmp_path / "e.csv", ("word", "sentence"), 5)


@pytest.mark.parametrize("header", ["name,a.1,a.2,b.0", "name,a.0,b,b.0", "name,a.0,a.1,a.2", "name,a.0,b.0,a.0"])
def test_other_headers_hold_one_kind_as_before(tmp_path, header):
    (tmp_path / "e.csv").write_text(f"{header}\ncat,1,2,3\ndog,4,5,6\n")
    assert list(read_kinds(tmp_path / "e.csv")[1]) == ["attributes"]
    assert read_embeddings_of(tmp_path / "e.csv", "a", 3)[1].shape == (2, 3)
