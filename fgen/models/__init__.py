"""The methods, by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from typing import Any

from fgen.baselines import BASELINES
from fgen.config import build
from fgen.encoders.fusion import EmbeddingConfig
from fgen.errors import InputError, did_you_mean
from fgen.models.base import FeatureGenerator
from fgen.models.cadavae import CADAVAEConfig
from fgen.models.cegzsl import CEGZSLConfig
from fgen.models.clswgan import CLSWGANConfig
from fgen.models.cycle import CycleConfig
from fgen.models.diffusion import DiffusionConfig
from fgen.models.flow import FlowConfig
from fgen.models.free import FREEConfig
from fgen.models.fvaegan import FVAEGANConfig
from fgen.models.gazsl import GAZSLConfig
from fgen.models.lisgan import LisGANConfig
from fgen.models.lsrgan import LsrGANConfig
from fgen.models.model_config import ModelConfig
from fgen.models.priorgan import PriorGANConfig
from fgen.models.tfvaegan import TFVAEGANConfig
from fgen.models.zsml import ZSMLConfig

MODELS: dict[str, type[ModelConfig]] = {
    config.name: config
    for config in (
        CADAVAEConfig,
        CEGZSLConfig,
        CLSWGANConfig,
        CycleConfig,
        DiffusionConfig,
        FlowConfig,
        FREEConfig,
        FVAEGANConfig,
        GAZSLConfig,
        LisGANConfig,
        LsrGANConfig,
        PriorGANConfig,
        TFVAEGANConfig,
        ZSMLConfig,
    )
}


def make_model(name: str, *, embedding: EmbeddingConfig | None = None, **overrides: Any) -> FeatureGenerator:
    """An untrained model of a method.

    Args:
        name: a key of ``MODELS``.
        embedding: how class embeddings are prepared; by default they are taken as they are.
        overrides: fields of the method's config, for example ``epochs=30``.

    Raises:
        InputError: an unknown method or setting (the nearest known one is named), or a value out of range.
    """
    if not isinstance(name, str) or name not in MODELS:
        known = isinstance(name, str) and name in BASELINES
        hint = "Baselines generate nothing: fgen.BASELINES, or model.name of a run" if known else ""
        hint = hint or did_you_mean(str(name), MODELS)
        raise InputError(f"model {name!r} is unknown", f"one of {', '.join(MODELS)}", hint)
    return build(MODELS[name], overrides, "model").build(embedding)
