"""The heads that train on a bank, by name."""

from __future__ import annotations

from typing import Any

from fgen.classifiers.sklearn_heads import KNNConfig, LinearSVMConfig, LogisticConfig
from fgen.classifiers.softmax import SoftmaxConfig

CLASSIFIERS: dict[str, Any] = {
    config.name: config for config in (SoftmaxConfig, LogisticConfig, LinearSVMConfig, KNNConfig)
}
