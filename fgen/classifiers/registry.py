"""Registry of the heads that train on a bank, by name.

>>> data = fgen.load_dataset("toy")
>>> head = fgen.CLASSIFIERS["cosine"](scaling="standard").build().fit(*data.split("trainval"))
>>> head.predict(data.features[:3]).shape
(3,)
"""

from pathlib import Path

from fgen.classifiers.base import HeadConfig
from fgen.classifiers.cosine import CosineClassifier, CosineConfig
from fgen.classifiers.linear_scores import LinearScores
from fgen.classifiers.sklearn_heads import KNNConfig, LinearSVMConfig, LogisticConfig
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from fgen.classifiers.storage import StoredHead
from fgen.io import stored_folder

#: name -> frozen config; ``config.build()`` gives an untrained head, and imports scikit-learn where it needs it.
CLASSIFIERS: dict[str, type[HeadConfig]] = {
    SoftmaxConfig.name: SoftmaxConfig,
    LogisticConfig.name: LogisticConfig,
    LinearSVMConfig.name: LinearSVMConfig,
    KNNConfig.name: KNNConfig,
    CosineConfig.name: CosineConfig,
}


def load_head(path: str | Path) -> StoredHead:
    """Read a saved head, whichever kind it is.

    Raises:
        InputError: no such folder, files that are damaged, or a format this fgen doesn't know.
    """
    kinds: tuple[type[StoredHead], ...] = (SoftmaxClassifier, LinearScores, CosineClassifier)
    return stored_folder.read(path, "head", {kind.format: kind.restored for kind in kinds})
