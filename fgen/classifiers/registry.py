"""The heads that train on a bank, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fgen.classifiers.base import HeadConfig
from fgen.classifiers.cosine import CosineClassifier, CosineConfig
from fgen.classifiers.sklearn_heads import KNNConfig, LinearSVMConfig, LogisticConfig
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from fgen.errors import InputError
from fgen.io.consistent_read import read_folder
from fgen.io.reading import guarded_read, read_json

#: name -> frozen config; ``config.build()`` gives an untrained head, and imports scikit-learn where it needs it.
CLASSIFIERS: dict[str, type[HeadConfig]] = {
    SoftmaxConfig.name: SoftmaxConfig,
    LogisticConfig.name: LogisticConfig,
    LinearSVMConfig.name: LinearSVMConfig,
    KNNConfig.name: KNNConfig,
    CosineConfig.name: CosineConfig,
}


SavedHead = SoftmaxClassifier | CosineClassifier


def load_head(path: str | Path) -> SavedHead:
    """Read a saved head, whichever kind it is.

    Raises:
        InputError: no such folder, files that are damaged, or a format this fgen doesn't know.
    """
    return read_folder(Path(path), _load_head)


def _load_head(path: Path) -> SavedHead:
    kinds: dict[str, Any] = {kind.format: kind for kind in (SoftmaxClassifier, CosineClassifier)}
    with guarded_read(path / "head.json", "head"):
        form = read_json(path / "head.json")["format"]
        if form not in kinds:
            raise InputError(f"the format is {form!r}", f"one of {', '.join(kinds)}")
    return kinds[form].load(path)
