"""The heads that train on a bank, by name."""

from __future__ import annotations

from fgen.classifiers.base import HeadConfig
from fgen.classifiers.cosine import CosineConfig
from fgen.classifiers.heads import load_head as load_head
from fgen.classifiers.sklearn_heads import KNNConfig, LinearSVMConfig, LogisticConfig
from fgen.classifiers.softmax import SoftmaxConfig

#: name -> frozen config; ``config.build()`` gives an untrained head, and imports scikit-learn where it needs it.
CLASSIFIERS: dict[str, type[HeadConfig]] = {
    SoftmaxConfig.name: SoftmaxConfig,
    LogisticConfig.name: LogisticConfig,
    LinearSVMConfig.name: LinearSVMConfig,
    KNNConfig.name: KNNConfig,
    CosineConfig.name: CosineConfig,
}
