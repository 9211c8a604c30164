"""Mixed-precision matrix multiplication: operand dtype, memory layout, side streams."""

import threading

import torch
from torch import Tensor, nn

from fgen.compute.device import rounds_products

#: Whether this torch has matrix products whose results are wider than their factors.
FLOAT_RESULTS = "dtype" in torch.ops.aten.mm.overloads()
#: Devices that read 16 bytes at a time.
WIDE = ("cuda",)


def matmul_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return bfloat16 for float32 if this thread :func:`~fgen.compute.device.rounds_products`, else ``dtype``."""
    return torch.bfloat16 if dtype == torch.float32 and rounds_products() else dtype


def to_matmul_dtype(tensor: Tensor) -> Tensor:
    """Cast a tensor to its :func:`matmul_dtype`."""
    return tensor.to(matmul_dtype(tensor.dtype))


def matmul_operand(tensor: Tensor) -> Tensor:
    """Prepare a factor for torch's matrix products.

    On a CPU it is cast by :func:`to_matmul_dtype`. Torch's own setting would round the factors too, but for all threads
    and in twice the time. A GPU rounds factors as it multiplies (TF32), which is faster than a pass over each.
    """
    return tensor if tensor.is_cuda else to_matmul_dtype(tensor)


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``left @ right``, ``(..., K)`` by ``(K, N)``; differentiable without ``out``.

    The product of bfloat16 factors is float32 on a GPU, and bfloat16 on a CPU, where ``out`` may have either dtype.
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
    """Return :func:`product` of two bfloat16 matrices on a CPU: the only place that multiplies such matrices."""
    if out is None or out.dtype == left.dtype:
        return torch.mm(left, right, out=out)
    return out.copy_(torch.mm(left, right))


def add_product(shift: Tensor, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Write ``shift + left @ right`` to ``out``, for factors from :func:`matmul_operand`."""
    if left.dtype == out.dtype:
        return torch.addmm(shift, left, right, out=out)
    return torch.add(shift, product(left, right), out=out)


def set_weight_layout(network: nn.Module) -> None:
    """Store weights so that a GPU can read 16 bytes at a time, in float32 and in bfloat16.

    Products take up to three times as long where the row length isn't a multiple of 8 (2048 features and 85 attributes
    are 2133). Such weights are stored by columns if the column length is one. Other devices keep row order.
    """
    for parameter in network.parameters():
        if parameter.ndim == 2 and _lies_by_columns(parameter.device, *parameter.shape):
            parameter.data = parameter.data.T.contiguous().T


def concat_columns(*columns: Tensor) -> Tensor:
    """Concatenate columns ``(..., A)``, ``(..., B)`` and so on to the input ``(..., A + B + ...)`` of a layer.

    A matrix ``(N, A + B + ...)`` is stored by the rule of :func:`set_weight_layout`.
    """
    first, width = columns[0], sum(part.shape[-1] for part in columns)
    if first.ndim == 2 and _lies_by_columns(first.device, first.shape[0], width):
        return torch.cat([part.T for part in columns]).T
    return torch.cat(columns, dim=-1)


def _lies_by_columns(device: torch.device, n_rows: int, width: int) -> bool:
    return device.type in WIDE and width % 8 > 0 and n_rows % 8 == 0


def cuda_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """Return this thread's CUDA stream for a purpose, always the same one.

    Torch hands out 32 streams in turn. Two purposes that shared one would not run concurrently.
    """
    key = f"{device}, {purpose}"
    if key not in _streams.__dict__:
        _streams.__dict__[key] = torch.cuda.Stream(device)
    stream: torch.cuda.Stream = _streams.__dict__[key]
    return stream


_streams = threading.local()


class SideStream:
    """Context manager that runs its body on a second CUDA stream until :meth:`join`; other devices run it in order.

    The body waits only for earlier work on the stream that was current when it was entered. Do not free or overwrite
    its inputs and outputs before :meth:`join`. A recorded CUDA graph gets a branch. This is faster if the body leaves
    much of the GPU idle, as small bfloat16 products do.

    Args:
        device: where the work runs.
        dtype: of the factors; with any other than bfloat16 the body runs in order too.
        index: number of the stream; bodies of different numbers run concurrently too.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, index: int = 0) -> None:
        self._side = None
        if device.type == "cuda" and dtype == torch.bfloat16:
            self._side = cuda_stream(device, f"side {index}")
            self._beside = torch.cuda.stream(self._side)

    def __enter__(self) -> None:
        if self._side is not None:
            self._side.wait_stream(torch.cuda.current_stream(self._side.device))
            self._beside.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._side is not None:
            self._beside.__exit__(*error)

    def join(self) -> None:
        """Make the current stream wait for the bodies so far."""
        if self._side is not None:
            torch.cuda.current_stream(self._side.device).wait_stream(self._side)
