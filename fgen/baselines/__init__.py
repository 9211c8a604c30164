"""Registry of the baselines: methods that generate nothing, which a generator has to beat on the same data.

>>> data = fgen.load_dataset("toy")
>>> features, labels = data.split("trainval")
>>> baseline = fgen.BASELINES["ridge"](alpha=1.0).build().fit(features, labels, data.class_embeddings)
>>> baseline.scores(features[:3]).shape == (3, data.n_classes)
True
"""

from typing import Any

from fgen.baselines.bilinear import AleConfig, DeviseConfig
from fgen.baselines.dap import DapConfig
from fgen.baselines.eszsl import EszslConfig
from fgen.baselines.gaussian import GaussianConfig
from fgen.baselines.multimodal import MultimodalConfig
from fgen.baselines.paired import PairedConfig
from fgen.baselines.ridge import RidgeConfig
from fgen.baselines.sae import SaeConfig
from fgen.baselines.seen_only import SeenOnlyConfig

BASELINES: dict[str, Any] = {
    config.name: config
    for config in (
        RidgeConfig,
        SeenOnlyConfig,
        DapConfig,
        EszslConfig,
        SaeConfig,
        AleConfig,
        DeviseConfig,
        GaussianConfig,
        MultimodalConfig,
        PairedConfig,
    )
}
