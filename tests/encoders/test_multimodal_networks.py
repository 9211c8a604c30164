"""The multimodal parts on networks of other libraries, small and with seeded weights: open_clip's CLIP and BERT."""

import importlib
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fgen
from fgen.baselines.paired import PairedConfig
from fgen.cli import main

with_open_clip = pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="needs fgen[vision]")


def letters(texts):
    """A tokenizer: the last 15 letters of each text, and the highest id, at which open_clip reads the text's vector."""
    return torch.tensor([[1 + ord(letter) % 58 for letter in text.rjust(15)[-15:]] + [63] for text in texts])


@with_open_clip
def test_its_scores_are_the_logits_of_open_clip(clip):
    """Random pictures and texts through both towers of a small model with seeded weights."""
    numbers = torch.Generator().manual_seed(1)
    pictures = torch.randn(6, 3, 32, 32, generator=numbers)
    tokens = torch.randint(1, 60, (4, 16), generator=numbers)
    with torch.inference_mode():
        images, texts = clip.encode_image(pictures), clip.encode_text(tokens)
        logits, _ = clip.get_logits(pictures, tokens)
    factor = clip.logit_scale.exp().item()
    baseline = PairedConfig(factor=factor).build()
    baseline.fit(images.numpy(), [0, 1, 2, 0, 1, 2], texts.numpy())
    np.testing.assert_allclose(baseline.scores(images.numpy()), logits.numpy(), atol=1e-5 * factor)


@with_open_clip
def test_templates_are_averaged_as_open_clip_does(clip):
    """As open_clip's build_zero_shot_classifier: unit vectors, their mean, to length 1."""
    from open_clip import build_zero_shot_classifier

    templates, names = ("a photo of a {}.", "a drawing of a {}."), ["zebra", "owl", "teapot"]

    own = build_zero_shot_classifier(clip, letters, names, [template.format for template in templates], device="cpu")
    with torch.inference_mode():
        parts = [clip.encode_text(letters([t.format(n) for t in templates]), normalize=True) for n in names]
        images = clip.encode_image(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    texts = np.stack([part.mean(dim=0).numpy() for part in parts])
    scores = PairedConfig(factor=1.0).build().fit(images.numpy(), [0, 1, 2, 0, 1], texts).scores(images.numpy())
    expected = torch.nn.functional.normalize(images) @ own
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def clip():
    """A small model of open_clip with seeded weights."""
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_clip.CLIP(
            embed_dim=8,
            vision_cfg={"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
            text_cfg={"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
        ).eval()


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs fgen[text]")
def test_a_bert_is_fine_tuned_by_the_loss_of_the_classifier():
    """With a learned query that pools its tokens."""
    transformers = importlib.import_module("transformers")

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
            self.bert = transformers.BertModel(
                transformers.BertConfig(vocab_size=40, max_position_embeddings=16, **sizes), add_pooling_layer=False
            )
            self.query = torch.nn.Parameter(torch.zeros(16))

        def forward(self, input_ids, attention_mask):
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = (hidden @ self.query).masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1)
            return (weights.unsqueeze(2) * hidden).sum(dim=1)

    def tokenizer(texts):
        ids = [[1 + sum(map(ord, word)) % 39 for word in text.split()] for text in texts]
        filled = np.array([own + [0] * (4 - len(own)) for own in ids])
        return {"input_ids": filled, "attention_mask": (filled > 0).astype(np.int64)}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bert = Pooled()
    data = fgen.load_dataset("toy")
    X, y = data.split("trainval")
    kept = y < 6
    texts = {k: f"sort {chr(97 + k)} of thing"[: 12 + k % 3] for k in range(8)}
    model = fgen.MultimodalZeroShotClassifier(
        bert, class_texts=texts, tokenizer=tokenizer, joint_dim=8, epochs=2, calibrate=False
    ).fit(X[kept], y[kept])
    assert model.predict_proba(X[:3]).shape == (3, 8)
    trained = dict(model.module_.text_encoder.module.named_parameters())
    moved = {name for name, old in bert.named_parameters() if not torch.equal(trained[name], old)}
    still = {name for name in trained if name not in moved}
    assert "query" in moved
    assert all("key.bias" in name or "query" in name for name in still), "a softmax doesn't see the keys' bias"


@with_open_clip
def test_the_lines_of_the_document_answer_whether_it_is_better_than_clips_own(clip, tmp_path, monkeypatch, capsys):
    """The runs of generators and of the scorer are left out, for they take long; they differ in the method alone."""
    text = (Path(__file__).resolve().parents[2] / "docs/multimodal.md").read_text(encoding="utf-8")
    code, commands, ensemble = re.findall(r"^```(?:python)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = [f"class {letter}" for letter in "abcdefgh"]
    labels = np.repeat(np.arange(8), 10)
    shown = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))[labels]
    known = {
        "model": clip,
        "tokenizer": letters,
        "pictures": shown + 0.3 * torch.randn(shown.shape, generator=torch.Generator().manual_seed(1)),
        "labels": labels,
        "names": names,
        "unseen": [6, 7],
    }
    exec(compile(code, "multimodal.md", "exec"), known)
    first, *_, last = commands.splitlines()
    assert main([*shlex.split(first)[1:], "--quiet"]) == 0
    shutil.copytree("runs/clip", "runs/generated")
    shutil.copytree("runs/clip", "runs/multimodal")
    assert main(shlex.split(last)[1:]) == 0
    assert "runs/clip" in capsys.readouterr().out
    exec(compile(ensemble.replace('"recommended"', '"ridge"'), "multimodal.md", "exec"), known)
    assert known["answers"].shape == (20,)
