"""fgen makes training data for classes nobody has pictures of: generative zero-shot learning.

Only the names in ``fgen.__all__`` are public: every other module path may change with any release. They are loaded on
first use, so that ``import fgen`` is quick and imports no optional library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgen.baselines import BASELINES as BASELINES
    from fgen.classifiers.registry import CLASSIFIERS as CLASSIFIERS
    from fgen.classifiers.softmax import SoftmaxClassifier as SoftmaxClassifier
    from fgen.data.bank import FeatureBank as FeatureBank
    from fgen.data.dataset import ZSLDataset as ZSLDataset
    from fgen.data.files import load_dataset as load_dataset
    from fgen.data.files import save_dataset as save_dataset
    from fgen.data.torch_dataset import MixedSampler as MixedSampler
    from fgen.errors import InputError as InputError
    from fgen.estimators.decision_fusion import DecisionFusion as DecisionFusion
    from fgen.estimators.feature_synthesizer import FeatureSynthesizer as FeatureSynthesizer
    from fgen.estimators.multimodal import MultimodalZeroShotClassifier as MultimodalZeroShotClassifier
    from fgen.estimators.zero_shot_classifier import ZeroShotClassifier as ZeroShotClassifier
    from fgen.experiment.config import ExperimentConfig as ExperimentConfig
    from fgen.experiment.plan import Plan as Plan
    from fgen.experiment.plan import plan as plan
    from fgen.experiment.recommended import recommended as recommended
    from fgen.experiment.results import RunResult as RunResult
    from fgen.experiment.runner import run as run
    from fgen.experiment.sweep import SweepResult as SweepResult
    from fgen.experiment.sweep import sweep as sweep
    from fgen.inference.extend import extend_head as extend_head
    from fgen.metrics.accuracy import gzsl_scores as gzsl_scores
    from fgen.metrics.gamma import apply_gamma as apply_gamma
    from fgen.metrics.gamma import choose_gamma as choose_gamma
    from fgen.models.registry import MODELS as MODELS
    from fgen.models.registry import load_model as load_model
    from fgen.models.registry import make_model as make_model
    from fgen.reports.tensorboard import TensorBoard as TensorBoard

__version__ = "0.2.0"

_HOMES = {
    "BASELINES": "fgen.baselines",
    "CLASSIFIERS": "fgen.classifiers.registry",
    "DecisionFusion": "fgen.estimators.decision_fusion",
    "ExperimentConfig": "fgen.experiment.config",
    "FeatureBank": "fgen.data.bank",
    "FeatureSynthesizer": "fgen.estimators.feature_synthesizer",
    "InputError": "fgen.errors",
    "MODELS": "fgen.models.registry",
    "MixedSampler": "fgen.data.torch_dataset",
    "MultimodalZeroShotClassifier": "fgen.estimators.multimodal",
    "Plan": "fgen.experiment.plan",
    "RunResult": "fgen.experiment.results",
    "SoftmaxClassifier": "fgen.classifiers.softmax",
    "SweepResult": "fgen.experiment.sweep",
    "TensorBoard": "fgen.reports.tensorboard",
    "ZSLDataset": "fgen.data.dataset",
    "ZeroShotClassifier": "fgen.estimators.zero_shot_classifier",
    "apply_gamma": "fgen.metrics.gamma",
    "choose_gamma": "fgen.metrics.gamma",
    "extend_head": "fgen.inference.extend",
    "gzsl_scores": "fgen.metrics.accuracy",
    "load_dataset": "fgen.data.files",
    "load_model": "fgen.models.registry",
    "make_model": "fgen.models.registry",
    "plan": "fgen.experiment.plan",
    "recommended": "fgen.experiment.recommended",
    "run": "fgen.experiment.runner",
    "save_dataset": "fgen.data.files",
    "sweep": "fgen.experiment.sweep",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
