"""The prior of many classes against the exact one."""

import numpy as np
import pytest
import torch

from fgen.models.registry import load_model, make_model
from fgen.nn import nystroem_prior
from fgen.nn.kernel_ridge import SemanticPrior
from fgen.nn.nystroem_prior import NystroemPrior
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

N_SEEN, N_UNSEEN, WIDTHS, DIM = 300, 60, (3, 4), 6


@pytest.fixture(scope="module")
def problem():
    """Embeddings of which features are a smooth function, and noise that none tells."""
    draw = np.random.default_rng(0)
    embeddings = draw.normal(size=(N_SEEN + N_UNSEEN, sum(WIDTHS)))
    means = np.tanh(embeddings @ draw.normal(size=(7, 40)) / 2) @ draw.normal(size=(40, DIM)) / 6
    means += 0.3 * draw.normal(size=means.shape) + 2
    return torch.from_numpy(embeddings).float(), torch.from_numpy(means).float()


def fitted(kind, problem, **more):
    embeddings, means = problem
    prior = kind(N_SEEN, sum(WIDTHS), DIM, WIDTHS, alpha=1.0, width=0.6, **more)
    prior.fit(embeddings[:N_SEEN], means[:N_SEEN])
    return prior


def test_with_every_class_as_a_landmark_it_is_the_exact_prior(problem):
    new = problem[0][N_SEEN:]
    exact, of_all = fitted(SemanticPrior, problem), fitted(NystroemPrior, problem, n_landmarks=N_SEEN)
    torch.testing.assert_close(of_all(new), exact(new), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(of_all.leave_one_out, exact.leave_one_out, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(of_all.predictive_variance(new), exact.predictive_variance(new), rtol=0.02, atol=0)


def test_with_a_third_of_the_classes_its_error_is_nearly_the_exact_one_and_told_rightly(problem):
    new, truth = (part[N_SEEN:] for part in problem)
    exact, of_some = fitted(SemanticPrior, problem), fitted(NystroemPrior, problem, n_landmarks=N_SEEN // 3)
    seen = problem[1][:N_SEEN]
    errors = [(prior.leave_one_out - seen).square().mean() for prior in (exact, of_some)]
    assert errors[1] < 1.03 * errors[0] < 0.8 * seen.var(dim=0).mean()
    told = float(of_some.predictive_variance(new).mean())
    assert told == pytest.approx(float((of_some(new) - truth).square().mean()), rel=0.3)
    far = torch.cat([problem[0][:N_SEEN], new])
    assert of_some.predictive_variance(far)[N_SEEN:].mean() > of_some.predictive_variance(far)[:N_SEEN].mean()


def test_many_seen_classes_get_landmarks_which_are_saved_and_older_models_keep_the_exact_prior(
    world, tmp_path, monkeypatch
):
    features, labels = world.dataset.split("trainval")

    def trained():
        return make_model("priorgan", **TINY).fit(features, labels, world.dataset.class_embeddings, seed=0)

    trained().save(tmp_path / "older")
    monkeypatch.setattr(nystroem_prior, "MOST_EXACT", 4)
    monkeypatch.setattr(NystroemPrior.__init__, "__kwdefaults__", {"n_landmarks": 8})
    model = trained()
    assert isinstance(model.networks["prior"], NystroemPrior)
    model.save(tmp_path / "model")
    rows = load_model(tmp_path / "model").generate([13, 14], 5, seed=0)[0]
    assert rows.tobytes() == model.generate([13, 14], 5, seed=0)[0].tobytes()
    assert isinstance(load_model(tmp_path / "older").networks["prior"], SemanticPrior)
