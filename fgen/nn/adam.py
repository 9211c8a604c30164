"""Adam that starts without torch's compiler."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def undecorated(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method as it is beneath torch's decorators, which import the compiler when first called."""
    return getattr(method, "__wrapped__", method)


class Adam(torch.optim.Adam):
    """torch's fused Adam, without the import of ``torch._dynamo``, which takes 2 seconds and isn't used here.

    A parameter is read and written once a step. On a GPU a step can be part of a CUDA graph.

    Args:
        parameters: what to train, all on one device.
        settings: those of ``torch.optim.Adam``.
    """

    def __init__(self, parameters: Iterable[Tensor], **settings: Any) -> None:
        parameters = list(parameters)
        super().__init__(parameters, fused=True, capturable=parameters[0].is_cuda, **settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change the parameters by their gradients."""
        return undecorated(torch.optim.Adam.step)(self, closure)

    add_param_group = undecorated(torch.optim.Adam.add_param_group)
    zero_grad = undecorated(torch.optim.Adam.zero_grad)
    state_dict = undecorated(torch.optim.Adam.state_dict)
    load_state_dict = undecorated(torch.optim.Adam.load_state_dict)
