"""What fgen asks of the machine: the device, threads, the precision of matrix products, and memory that is kept.

Threads, precision and memory are global settings of torch or of the C library: each is set for a while only.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from fgen.errors import InputError

#: glibc's numbers of three settings (mallopt(3)): the most blocks with a mapping of their own, from which size on a
#: block has one, and how much free memory is kept.
M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -4, -3, -1


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``"auto"`` is CUDA if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0][:100]
        raise InputError(f"device {name!r} can't be used ({reason})", "'auto', 'cpu' or 'cuda'") from None
    return device


def device_at_hand(name: str) -> str:
    """The device's name, or ``"cpu"`` where there is no such device: what was trained elsewhere is used here."""
    try:
        choose_device(name)
    except InputError:
        return "cpu"
    return name


def with_room(device: torch.device, n_bytes: int) -> torch.device:
    """The device, or the CPU where a GPU has less memory left than that."""
    if device.type != "cuda":
        return device
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return device if torch.cuda.mem_get_info(device)[0] + kept >= n_bytes else torch.device("cpu")


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """So many CPU threads for a while; the number is global state of torch, so it is restored."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Freed memory stays with the process for a while, for the next step to use.

    Left to itself, glibc gives every freed gradient back to the system and has the next one's pages made anew, which
    takes longer than the gradient's own product. These settings are global too; other C libraries have none.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    try:
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 65536)
        # Where glibc's own adaptation ends after blocks as large as a gradient; it stops once anything is set.
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)


@contextmanager
def matrix_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products in this precision for a while; global state of torch too."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium" if precision == "auto" and has_bf16(device) else "highest")
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def step_settings(precision: str, device: torch.device) -> Iterator[None]:
    """What :func:`fgen.models.engine.train` has its steps run under, for those who run steps by themselves."""
    with kept_memory(), matrix_precision(precision, device):
        yield


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, and faster than float32.

    Intel's processors do with AMX alone: their AVX512-BF16 is slower than their float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    amx, avx = (getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("amx_tile", "avx512_bf16"))
    return amx or (avx and not _is_intel())


@cache
def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "intel" in platform.processor().lower()
