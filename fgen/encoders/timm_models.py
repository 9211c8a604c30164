"""Encoders of pictures by the networks of timm."""

from pathlib import Path

from fgen.encoders.network import NetworkEncoder
from fgen.encoders.weights import built, downloaded, load_weights, read_weights
from fgen.errors import InputError, did_you_mean, first_line, require


def timm_encoder(name: str, weights: str | Path | None = None) -> NetworkEncoder:
    """Return an encoder by a network of timm without its classifier: pooled features.

    Args:
        name: as timm calls the network, such as ``"convnext_tiny"``, or the network and its weights, such as
            ``"resnet50.a1_in1k"``. The preprocessing is that of the named weights.
        weights: file of a state dict, with or without the classifier; by default timm downloads its own.

    Raises:
        InputError: an unknown name, weights that don't fit or can't be downloaded. MissingExtra: without
            ``fgen[vision]``.
    """
    spec = f"timm:{name}"
    timm = require("timm", "vision", f"the encoder {spec}")
    if not timm.is_model(name):
        remedy = did_you_mean(name, timm.list_models())
        raise InputError(f"timm has no network {name!r}", "one of timm.list_models()", remedy)
    if weights is None:
        network = downloaded(spec, lambda: built(lambda: timm.create_model(name, pretrained=True, num_classes=0)))
    else:
        try:
            network = built(lambda: timm.create_model(name, num_classes=0))
        except Exception as error:  # a name of weights that it doesn't have
            raise InputError(f"timm can't build {name!r} ({first_line(error)})", "a network of timm's") from None
        heads = network.pretrained_cfg.get("classifier") or ()
        load_weights(network, read_weights(weights), spec, unused=[heads] if isinstance(heads, str) else heads)
    config = timm.data.resolve_model_data_config(network)
    return NetworkEncoder(spec, network, timm.data.create_transform(**config, is_training=False), config)
