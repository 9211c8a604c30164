"""Classes with several descriptions, templates, long texts in pieces, and calls that go on where one was killed."""

import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from fgen.cli import main
from fgen.data.embedding_files import read_embeddings, read_text_encoder
from fgen.data.tables import read_descriptions
from fgen.encoders import text
from fgen.encoders.base import EncoderRecord
from fgen.encoders.descriptions import CHUNK, embed_classes
from fgen.encoders.passages import OVERLAP, Pieces
from fgen.errors import InputError

RECORD = EncoderRecord("letters", "0" * 64, 5)


@dataclass
class Letters:
    """An encoder whose numbers are counts of the letters a to e; it tells what it was asked."""

    fails_after: int = 10**9
    asked: list[str] = field(default_factory=list)
    record: EncoderRecord = RECORD

    def encode(self, texts, *, batch_size=1, device="cpu", show_progress_bar=False):
        self.asked += texts
        if len(self.asked) > self.fails_after:
            raise KeyboardInterrupt
        return np.array([[t.count(letter) for letter in "abcde"] for t in texts], np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_descriptions_and_templates_of_a_class_are_normalised_averaged_and_normalised():
    one = embed_classes(Letters(), {"ant": ["aab"], "bee": ["bc"]})
    assert np.array_equal(one, [[2, 1, 0, 0, 0], [0, 1, 1, 0, 0]]), "a single text as the encoder has it"
    several = embed_classes(Letters(), {"ant": ["aab", "cc"], "bee": ["bc"]})
    first, second = unit(np.array([[2, 1, 0, 0, 0], [0, 0, 2, 0, 0]]))
    assert np.allclose(several, unit(np.array([first + second, [0, 1, 1, 0, 0]])))
    filled = embed_classes(encoder := Letters(), {"ant": ["aab"]}, templates=["a {}", "{} {} {0}"])
    assert encoder.asked == ["a aab", "aab aab {0}"]
    assert np.allclose(np.linalg.norm(filled), 1)
    with pytest.raises(InputError, match=r"the template 'a photo' has no \{\}; expected as 'a photo of a \{\}'"):
        embed_classes(Letters(), {"ant": ["aab"]}, templates=["a photo"])
    with pytest.raises(InputError, match="the class 'ant' has no description"):
        embed_classes(Letters(), {"ant": []})


def test_a_class_may_have_several_lines_or_a_page(tmp_path):
    (tmp_path / "w.csv").write_text("name,description\nzebra,striped\nhorse,a mammal\nzebra,wild,of Africa\n")
    assert read_descriptions(tmp_path / "w.csv") == {
        "zebra": ["zebra: striped", "zebra: wild, of Africa"],
        "horse": ["horse: a mammal"],
    }
    (tmp_path / "w.csv").write_text("zebra,striped\nzebra, striped\n")
    with pytest.raises(InputError, match="line 2: 'zebra: striped' is there already"):
        read_descriptions(tmp_path / "w.csv")
    pages = tmp_path / "pages"
    pages.mkdir()
    with pytest.raises(InputError, match=r"has no pages; expected texts NAME\.txt"):
        read_descriptions(pages)
    (pages / "zebra.txt").write_text("\ufeffZebras are\nstriped.\n", encoding="utf-8")
    (pages / "ant.txt").write_text("a" * 200_000)
    assert read_descriptions(pages) == {"ant": ["a" * 200_000], "zebra": ["Zebras are\nstriped."]}
    (pages / "bee.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"bee\.txt is empty"):
        read_descriptions(pages)


def tokenizer(texts, *, add_special_tokens=True, return_offsets_mapping=False, **_):
    """Tokens of four characters at most, which don't go beyond a word; two are put around a text."""
    spans = [[found.span() for found in re.finditer(r"\S{1,4}", t)] for t in texts]
    around = [0, 0] if add_special_tokens else []
    return {"offset_mapping": spans, "input_ids": [[*around, *range(len(own))] for own in spans]}


@pytest.mark.parametrize("size", [11, 12, 40, 400])
@pytest.mark.parametrize("prompt", ["", "see: "])
def test_pieces_hold_every_word_fit_the_limit_and_overlap(size, prompt):
    words = [f"w{k:x}" * (1 + k % 3) for k in range(size)]
    limit = 22
    pieces = Pieces.of(["short", " ".join(words), "short"], tokenizer, limit, prompt)
    assert pieces.counts[::2] == [1, 1]
    assert (pieces.texts[0], pieces.texts[-1]) == ("short", "short")
    long = pieces.texts[1:-1]
    for piece in long:
        assert len(tokenizer([prompt + piece])["input_ids"][0]) <= limit
        assert set(piece.split()) <= set(words), "words aren't cut"
    assert {word for piece in long for word in piece.split()} == set(words)
    assert long[0].startswith(words[0])
    assert long[-1].endswith(words[-1])
    for before, after in pairwise(long):
        assert set(before.split()) & set(after.split())
    if len(long) > 1:
        share = sum(len(piece) for piece in long) / len(" ".join(words))
        assert 1 < share < 2 / (1 - OVERLAP)


def test_a_word_beyond_the_limit_is_cut_and_a_tokenizer_without_places_told_of(caplog):
    pieces = Pieces.of(["x" * 100], tokenizer, 12)
    assert max(map(len, pieces.texts)) == 40
    assert pieces.counts == [len(pieces.texts)]

    def slow(texts, **options):
        if options.get("return_offsets_mapping"):
            raise NotImplementedError
        return tokenizer(texts, **options)

    assert Pieces.of(["a b c", "a"], slow, 4).texts == ["a b c", "a"]
    assert caplog.messages == [
        "1 of 2 texts are longer than the 4 tokens that the encoder reads, and are cut off there: 'a b c'"
    ]
    assert Pieces.of(["a b c"], None, 4).texts == ["a b c"]


def test_a_killed_call_goes_on_and_gives_the_same_bytes(tmp_path):
    classes = {f"class {k}": [f"{'abcde'[k % 5]}{k} a"] for k in range(3 * CHUNK + 5)}
    whole = embed_classes(Letters(), classes)
    keep = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        embed_classes(Letters(fails_after=2 * CHUNK), classes, keep=keep)
    with keep.open("ab") as file:
        file.write(b"a row that was cut")
    assert np.array_equal(embed_classes(encoder := Letters(), classes, keep=keep), whole)
    assert len(encoder.asked) == CHUNK + 5, "two parts were kept"
    assert np.array_equal(embed_classes(encoder := Letters(), classes, keep=keep), whole)
    assert len(encoder.asked) == 5, "the last part alone is done again"
    other = {**classes, "class 0": ["e"]}
    assert np.array_equal(embed_classes(Letters(), other, keep=keep), embed_classes(Letters(), other))


def test_the_shell_takes_several_lines_templates_and_remembers_the_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text, "text_encoder", lambda spec, settings: Letters())
    (tmp_path / "w.csv").write_text("ant,bc\nant,d\nbee,ee\n")
    monkeypatch.chdir(tmp_path)
    assert main(["embed", "w.csv", "--out", "e.npz", "--template", "a {}", "--template", "the {}"]) == 0
    assert "e.npz (2 classes, 1 with several descriptions, 5 numbers each)" in capsys.readouterr().out
    names, _ = read_embeddings("e.npz")
    record = EncoderRecord.from_json(read_text_encoder("e.npz"))
    assert (names, record.name, record.preprocessing) == (["ant", "bee"], "letters", {"templates": ["a {}", "the {}"]})
    (tmp_path / "later.csv").write_text("cat,dd\n")
    assert main(["embed", "later.csv", "--out", "later.npz", "--like", "e.npz"]) == 0
    expected = embed_classes(Letters(), {"cat": ["cat: dd"]}, templates=["a {}", "the {}"])
    assert np.array_equal(read_embeddings("later.npz")[1], expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.npz", "later.csv", "later.npz", "w.csv"]
    for words, why in (
        (["--like", "e.npz", "--template", "a {}"], "--like is given beside other options"),
        (["--like", "w.csv"], "w.csv doesn't say by which encoder it was made"),
        (["--encoder", "word", "--model", "x"], "--model is 'x' beside --encoder word"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--save-encoder", "kept"], "--save-encoder is given; expected --encoder tfidf"),
    ):
        assert main(["embed", "w.csv", "--out", "no.csv", *words]) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "no.csv").exists()
