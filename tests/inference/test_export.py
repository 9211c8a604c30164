"""A predictor and its generator away from fgen: as numbers, as modules of torch, as ONNX and as ``.pt2`` files."""

import json
import sys
import zipfile
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax

import fgen
from experiments.examples import export_a_predictor
from fgen.errors import InputError, MissingExtra
from fgen.inference import export
from fgen.inference.predictor import Predictor
from fgen.inference.torch_module import GeneratorModule
from tests.conftest import TINY

numeric = pytest.mark.numeric

SETTINGS = {
    "softmax": {"method": "clswgan", "classifier": {"solver": "lbfgs"}},
    "recipe": {"method": "priorgan", "classifier": {"name": "cosine", "whitening": 1.0, "scaling": "sqrt"}},
    "own space": {"method": "cegzsl", "classifier": {"solver": "lbfgs"}},
}
runtime = partial(pytest.importorskip, "onnxruntime")
QUICK = {"model": TINY, "n_per_class": 10, "calibrate": False}


@pytest.fixture(scope="module")
def data():
    return fgen.load_dataset("toy")


@pytest.fixture(scope="module")
def classifiers(data):
    """One of each kind, with a gamma, and labels that are names."""
    (X, y), names = data.split("trainval"), np.array(data.class_names)
    made = {}
    for kind, settings in SETTINGS.items():
        classifier = fgen.ZeroShotClassifier(data.class_embeddings, classes=names, **QUICK, **settings)
        made[kind] = classifier.fit(X, names[y])
        made[kind].gamma_ = 1.5
    return made


@numeric
@pytest.mark.parametrize("kind", SETTINGS)
def test_the_module_gives_the_classifiers_probabilities_and_its_state_restores_it(kind, classifiers, data):
    classifier, X = classifiers[kind], data.features[:50]
    module, other = classifier.to_torch(), classifier.to_torch()
    found = module(torch.tensor(X)).exp()
    np.testing.assert_allclose(found.numpy(), classifier.predict_proba(X), atol=1e-5)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(torch.tensor(X)).exp(), found)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any("critic" in name or "generator" in name for name in module.state_dict()), "it needs neither"


@pytest.fixture(scope="module", params=SETTINGS)
def exported(request, classifiers, tmp_path_factory):
    """A classifier and the ONNX file of it; that of the softmax head is what the example script writes."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    if request.param == "softmax":
        return export_a_predictor.main(folder), folder / "classifier.onnx"
    classifiers[request.param].to_onnx(folder / "classifier.onnx")
    return classifiers[request.param], folder / "classifier.onnx"


def test_onnxruntime_gives_the_classifiers_probabilities_for_any_number_of_rows(exported, data):
    classifier, path = exported
    session = runtime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    labels = np.array(json.loads(session.get_modelmeta().custom_metadata_map["classes"]))
    for n_rows in (1, 7, 64):
        X = data.features[:n_rows]
        probabilities, class_id = session.run(["probabilities", "class_id"], {"features": X})
        np.testing.assert_allclose(probabilities, classifier.predict_proba(X), atol=1e-5)
        assert (labels[class_id] == classifier.predict(X)).all()
    assert [file.name for file in path.parent.iterdir()] == [path.name], "one file, with its weights inside"


def test_a_file_that_answers_otherwise_never_takes_its_place(exported, monkeypatch):
    classifier, path = exported
    program, before = SimpleNamespace(model_proto=import_module("onnx").load(path)), path.read_bytes()
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: program)
    monkeypatch.setattr(Predictor, "probabilities", lambda self, rows: np.zeros((len(rows), len(self.labels))))
    with pytest.raises(InputError, match="numbers differ by"):
        classifier.to_onnx(path, overwrite=True)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="exists"):
        classifier.to_onnx(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_generator_is_exported_with_all_that_comes_before_and_after_it(classifiers, data, tmp_path):
    classifier, path = classifiers["recipe"], tmp_path / "generator.onnx"
    session_of = runtime().InferenceSession
    classifier.to_onnx(path, generator=True)
    session = session_of(path.read_bytes(), providers=["CPUExecutionProvider"])
    model, raw = classifier.generator_, data.class_embeddings[np.resize(np.arange(data.n_classes), 30)]
    noise = np.random.default_rng(0).standard_normal((30, model.noise_dim), dtype=np.float32)
    (features,) = session.run(None, {"class_embeddings": raw, "noise": noise})
    expected = model._synthesise_raw(torch.from_numpy(noise), torch.from_numpy(model.preprocessor(raw)))
    np.testing.assert_allclose(features, expected.detach().numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("method", "more"), [("flow", {"n_ode_steps": 1}), ("diffusion", {"n_timesteps": 2})])
def test_a_generator_of_several_steps_takes_any_number_of_rows(method, more, data):
    X, y = data.split("trainval")
    model = fgen.make_model(method, **(TINY | {"epochs": 1} | more)).fit(X, y, data.class_embeddings, seed=0)
    module, inputs = GeneratorModule(model), export.generator_example(model)
    graph = export.exported(module, inputs).module()
    one = {name: tensor[:1] for name, tensor in inputs.items()}
    assert torch.allclose(graph(*one.values()), module(**one), atol=1e-6)


@numeric
def test_numbers_in_raw_space_predict_as_the_classifier_does(classifiers, data):
    classifier, X = classifiers["softmax"], data.features
    W, b, classes = classifier.to_numpy()
    logits = X @ W.T + b
    np.testing.assert_allclose(softmax(logits, axis=1), classifier.predict_proba(X), atol=1e-5)
    assert (classes[logits.argmax(axis=1)] == classifier.predict(X)).all()


@pytest.mark.parametrize(
    ("kind", "bent"),
    [("recipe", "the scaling 'sqrt' and the head 'cosine' are not affine"), ("own space", "cegzsl's map .* is not")],
)
def test_what_has_no_numbers_says_what_is_not_affine_and_what_to_do(kind, bent, classifiers):
    with pytest.raises(InputError, match=f"{bent}.*to_torch.*to_onnx"):
        classifiers[kind].to_numpy()


@numeric
def test_classes_that_the_head_does_not_know_get_no_probability(classifiers, data):
    (X, y), model = data.split("trainval"), classifiers["softmax"].generator_
    head = fgen.SoftmaxClassifier(solver="lbfgs").fit(X[y != 3], y[y != 3])
    predictor = Predictor(model, head, np.array(data.class_names), np.arange(20), 1.0)
    found = predictor.to_torch()(torch.tensor(X)).exp().numpy()
    np.testing.assert_allclose(found, predictor.probabilities(predictor.scores(X)), atol=1e-5)
    assert not found[:, [3, 20]].any()
    W, b, classes = predictor.to_numpy()
    assert (len(W), len(b), data.class_names[3] in classes) == (19, 19, False)


def test_neighbours_are_no_formula_of_weights(classifiers, data):
    pytest.importorskip("sklearn")
    (X, y), settings = data.split("trainval"), QUICK | {"classifier": {"name": "knn"}}
    classifier = fgen.ZeroShotClassifier(data.class_embeddings, **settings).fit(X, y)
    with pytest.raises(InputError, match="'knn' is no formula of weights"):
        classifier.to_torch()


def test_scikit_learns_linear_heads_are_exported_too(data):
    pytest.importorskip("sklearn")
    (X, y), settings = data.split("trainval"), QUICK | {"classifier": {"name": "logistic"}}
    classifier = fgen.ZeroShotClassifier(data.class_embeddings, **settings).fit(X, y)
    found = classifier.to_torch()(torch.tensor(X)).exp().numpy()
    np.testing.assert_allclose(found, classifier.predict_proba(X), atol=1e-5)


@numeric
def test_a_pt2_file_is_read_without_fgen_and_without_unpickling(classifiers, data, tmp_path, monkeypatch):
    classifier, path, X = classifiers["own space"], tmp_path / "classifier.pt2", data.features[:7]
    expected, more = classifier.predict_proba(X), {"fgen.json": ""}
    classifier.predictor_.export(path)
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fgen"]:
            patch.setitem(sys.modules, name, None)
        patch.delattr(torch, "load")
        module = torch.export.load(path, extra_files=more).module()
        found = module(torch.tensor(X)).exp().detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert json.loads(more["fgen.json"])["classes"] == classifier.classes_.tolist()
    with zipfile.ZipFile(path) as archive:
        assert not any(info.file_size for info in archive.infolist() if info.filename.endswith(".pt"))


def test_without_the_extra_the_message_names_it(classifiers, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(MissingExtra, match=r'pip install "fgen\[onnx\]"'):
        classifiers["softmax"].to_onnx(tmp_path / "classifier.onnx")
