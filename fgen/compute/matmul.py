"""Matrix products as the hardware likes them: how factors are rounded, how they lie, and what goes on beside them."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from fgen.compute.device import rounds_products

#: Whether this torch has matrix products whose results are wider than their factors.
FLOAT_RESULTS = "dtype" in torch.ops.aten.mm.overloads()
#: Devices that read 16 bytes at a time.
WIDE = ("cuda",)


def matmul_dtype(dtype: torch.dtype) -> torch.dtype:
    """Bfloat16 for float32 where this thread :func:`~fgen.compute.device.rounds_products`, else the same."""
    return torch.bfloat16 if dtype == torch.float32 and rounds_products() else dtype


def to_matmul_dtype(tensor: Tensor) -> Tensor:
    """A tensor in its :func:`matmul_dtype`."""
    return tensor.to(matmul_dtype(tensor.dtype))


def matmul_operand(tensor: Tensor) -> Tensor:
    """A factor as torch's own matrix products take it.

    On a CPU :func:`rounded`: its products of float32 would round both factors too if torch were told so, but for all
    threads, and take twice as long. A GPU rounds factors as it multiplies (TF32), which takes less than a pass over
    each.
    """
    return tensor if tensor.is_cuda else to_matmul_dtype(tensor)


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``left @ right``, ``(..., K)`` by ``(K, N)``; without an ``out`` autograd follows it.

    Of factors in bfloat16 a GPU gives what it has summed up in float32; a CPU rounds that too, but puts it into an
    ``out`` of either type.
    """
    if left.ndim > 2:
        return product(left.flatten(0, -2), right).unflatten(0, left.shape[:-1])
    if left.dtype != torch.bfloat16:
        return torch.mm(left, right, out=out)
    if not left.is_cuda:
        return cpu_product(left, right, out)
    if not FLOAT_RESULTS:
        result = torch.mm(left, right).float()
        return result if out is None else out.copy_(result)
    whole = torch.float32
    return torch.mm(left, right, whole) if out is None else torch.mm(left, right, whole, out=out)


def cpu_product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """:func:`product` of two matrices in bfloat16 on a CPU: the one place where such are multiplied."""
    if out is None or out.dtype == left.dtype:
        return torch.mm(left, right, out=out)
    return out.copy_(torch.mm(left, right))


def add_product(shift: Tensor, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """``shift + left @ right``, of factors as :func:`matmul_operand` gives them, in the type of ``out``."""
    if left.dtype == out.dtype:
        return torch.addmm(shift, left, right, out=out)
    return torch.add(shift, product(left, right), out=out)


def set_weight_layout(network: nn.Module) -> None:
    """Lay weights so that a GPU reads them 16 bytes at a time, in float32 and in bfloat16.

    Where a row's length doesn't allow for that (2048 features and 85 attributes are 2133), products take up to three
    times as long: those weights lie column by column, if a column's length does. On other devices all stays as it is.
    """
    for parameter in network.parameters():
        if parameter.ndim == 2 and _lies_by_columns(parameter.device, *parameter.shape):
            parameter.data = parameter.data.T.contiguous().T


def concat_columns(*columns: Tensor) -> Tensor:
    """Columns ``(..., A)``, ``(..., B)`` and so on to ``(..., A + B + ...)``, rows of a layer.

    Rows ``(N, A)`` are laid by the rule of :func:`set_weight_layout`, for a layer's weights are read beside them.
    """
    first, width = columns[0], sum(part.shape[-1] for part in columns)
    if first.ndim == 2 and _lies_by_columns(first.device, len(first), width):
        return torch.cat([part.T for part in columns]).T
    return torch.cat(columns, dim=-1)


def _lies_by_columns(device: torch.device, n_rows: int, width: int) -> bool:
    return device.type in WIDE and width % 8 > 0 and n_rows % 8 == 0


def cuda_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """The thread's stream on a GPU for a purpose, always the same and shared with no other: torch gives out 32 in turn,
    and two branches on one stream would be none."""
    key = f"{device}, {purpose}"
    if key not in _streams.__dict__:
        _streams.__dict__[key] = torch.cuda.Stream(device)
    stream: torch.cuda.Stream = _streams.__dict__[key]
    return stream


_streams = threading.local()


class SideStream:
    """``with aside:`` what a GPU may do beside all that comes after it, until :meth:`join`; others do it in its turn.

    A graph of such a step has branches. What is done aside waits for what was done before on the stream that it is
    begun from, and for nothing else; what either side reads or writes has to be kept until they are joined. It pays
    where the work leaves much of the GPU idle, as small products of rounded factors do.

    Args:
        device: where the work is done.
        dtype: of the factors; of anything but bfloat16 all is done in its turn too.
        lane: works in different lanes are beside each other too.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, lane: int = 0) -> None:
        self._side = None
        if device.type == "cuda" and dtype == torch.bfloat16:
            self._side = cuda_stream(device, f"lane {lane}")
            self._beside = torch.cuda.stream(self._side)

    def __enter__(self) -> None:
        if self._side is not None:
            self._side.wait_stream(torch.cuda.current_stream(self._side.device))
            self._beside.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._side is not None:
            self._beside.__exit__(*error)

    def join(self) -> None:
        """What follows here, in the step or in another lane, comes after all that was put aside."""
        if self._side is not None:
            torch.cuda.current_stream(self._side.device).wait_stream(self._side)
