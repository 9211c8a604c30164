"""Methods of installed packages, by the entry-point group ``fgen.models``."""

import sys

import pytest

import fgen
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.models import plugins
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import MODELS, load_model, make_model

CODE = """
from dataclasses import dataclass
from typing import ClassVar
from fgen.models.clswgan import CLSWGAN, CLSWGANConfig

@dataclass(frozen=True, kw_only=True)
class Config(CLSWGANConfig):
    name: ClassVar[str] = "NAME"
    shine: float = 0.5

class Method(CLSWGAN, config=Config):
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package into a folder of Python's path; afterwards none of it is left."""
    own, modules = dict(FeatureGenerator.methods), set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def install(package, method, code):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fgen.models]\n{method} = {package}_code\n")
        (tmp_path / f"{package}_code.py").write_text(code.replace("NAME", method))
        plugins.installed.cache_clear()
        return info

    plugins.installed.cache_clear()
    yield install
    FeatureGenerator.methods.clear()
    FeatureGenerator.methods.update(own)
    for name in set(MODELS.data) - set(own):
        del MODELS[name]
    for name in set(sys.modules) - modules:
        if name.endswith("_code"):
            del sys.modules[name]
    plugins.installed.cache_clear()


def settings(name, **model):
    return {"dataset": {"name": "toy"}, "model": {"name": name, **model}}


def test_a_package_is_imported_when_its_method_is_asked_for_and_not_before(install):
    install("wug", "wugan", CODE)
    assert "wugan" in MODELS
    assert [*MODELS][-1] == "wugan"
    assert len(MODELS) == len(MODELS.data) + 1
    ExperimentConfig.from_mapping(settings("clswgan"))
    with pytest.raises(InputError, match=r"one of cadavae, .*, wugan, ridge"):
        ExperimentConfig.from_mapping(settings("wugn"))
    assert "wug_code" not in sys.modules
    assert ExperimentConfig.from_mapping(settings("wugan", shine=0.25)).model.shine == 0.25
    assert make_model("wugan", shine=2).config.shine == 2
    with pytest.raises(InputError, match=r"model\.shine is set, which clswgan doesn't have.* belongs to wugan"):
        ExperimentConfig.from_mapping(settings("clswgan", shine=1))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nowhere_at_all", "wug_code can't be imported (ModuleNotFoundError: No module named 'nowhere_at_all')"),
        ("x = 1 / 0", "can't be imported (ZeroDivisionError: division by zero)"),
        ("x = 1", "wug_code has no such method; expected a class Mine(FeatureGenerator, config=MineConfig)"),
        (CODE.replace("NAME", "other"), "wug_code has no such method"),
    ],
)
def test_a_broken_package_is_named_and_in_nobody_elses_way(install, code, words):
    install("wug", "wugan", code)
    with pytest.raises(InputError, match="the package wug brings the method 'wugan'") as error:
        ExperimentConfig.from_mapping(settings("wugan"))
    assert words in str(error.value)
    with pytest.raises(InputError, match=r"unknown key model\.epoch; .*Did you mean epochs?"):
        ExperimentConfig.from_mapping(settings("clswgan", epoch=1))
    assert ExperimentConfig.from_mapping(settings("clswgan")).model.name == "clswgan"


def test_fgens_own_method_is_used_in_place_of_a_packages_of_the_same_name(install, caplog):
    install("wug", "clswgan", CODE)
    assert "clswgan" in MODELS
    assert MODELS["clswgan"].__module__ == "fgen.models.clswgan"
    assert "shine" not in fgen.MODELS["clswgan"].__dataclass_fields__
    assert "the method 'clswgan' of the package wug isn't used" in caplog.text


def test_two_packages_with_one_name_are_both_named(install):
    install("wug", "wugan", CODE)
    install("fep", "wugan", CODE)
    with pytest.raises(InputError, match=r"packages (wug and fep|fep and wug) both bring a method 'wugan'"):
        make_model("wugan")


def test_a_model_whose_package_is_gone_says_so(install, tmp_path, world):
    info = install("wug", "wugan", CODE)
    data = world.dataset
    model = make_model("wugan", steps=1, hidden_dim=8, cls_weight=0.0)
    model.fit(*data.split("trainval"), data.class_embeddings, seed=0).save(tmp_path / "model")
    assert load_model(tmp_path / "model").config.name == "wugan"
    (info / "entry_points.txt").unlink()
    plugins.installed.cache_clear()
    del MODELS["wugan"]
    with pytest.raises(InputError, match="'wugan' is neither fgen's nor of an installed package"):
        load_model(tmp_path / "model")


def test_the_estimators_have_a_packages_method_and_leave_broken_ones_alone(install):
    install("broken", "brokengan", "x = 1 / 0")
    install("wug", "wugan", CODE)
    classifier = fgen.ZeroShotClassifier().set_params(model__epochs=1)
    assert classifier.get_params()["model__epochs"] == 1
    assert not {"broken_code", "wug_code"} & set(sys.modules)
    for estimator in (classifier, fgen.FeatureSynthesizer()):
        assert estimator.set_params(method="wugan", model__shine=0.25).get_params()["model__shine"] == 0.25
    with pytest.raises(InputError, match=r"parameter model__shin is unknown.* Did you mean 'model__shine'"):
        classifier.set_params(model__shin=1)
    with pytest.raises(InputError, match="the package broken brings the method 'brokengan'"):
        classifier.set_params(method="brokengan", model=None).fit([[0.0], [1.0]], [0, 1])
