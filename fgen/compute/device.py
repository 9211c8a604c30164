"""Device, threads, precision of matrix products, and retained memory of the process.

Threads, precision and memory are global settings of torch or of the C library: each is set temporarily.
"""

import ctypes
import importlib.util
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from fgen.errors import InputError, first_line

#: glibc's numbers of three settings (mallopt(3)): the most blocks with a mapping of their own, from which size on a
#: block has one, and how much free memory is kept.
M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -4, -3, -1
#: What the libraries that NumPy and SciPy are built with call the functions that return their number of threads, and
#: those that set it.
BLAS_THREADS = (
    *(
        (f"{name}_get_num_threads{end}", f"{name}_set_num_threads{end}")
        for name in ("scipy_openblas", "openblas")
        for end in ("64_", "")
    ),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
)
#: Modules that are linked to NumPy's and to SciPy's BLAS; each has its own copy.
LINKED_TO_BLAS = ("numpy.linalg._umath_linalg", "scipy.linalg._fblas")
#: A larger number of CPU threads is taken for a typing error.
MOST_THREADS = 1024


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``"auto"`` is CUDA if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = first_line(error).partition(". ")[0][:100]
        raise InputError(f"device {name!r} can't be used ({reason})", "'auto', 'cpu' or 'cuda'") from None
    return device


def available_device(name: str) -> str:
    """Return ``name`` if this machine has the device, else ``"cpu"``, for models that were trained elsewhere."""
    with suppress(InputError):
        choose_device(name)
        return name
    return "cpu"


def cpu_if_no_memory(device: torch.device, n_bytes: int) -> torch.device:
    """Return the device, or the CPU if a GPU has less than ``n_bytes`` of memory left."""
    if device.type != "cuda":
        return device
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return device if torch.cuda.mem_get_info(device)[0] + kept >= n_bytes else torch.device("cpu")


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Set the number of torch's CPU threads for the calling thread meanwhile; None leaves the number as it is.

    All of fgen sets the number here. A product on more threads is summed up in another order.
    """
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    _set_threads(threads)
    try:
        yield
    finally:
        _set_threads(before)


def _set_threads(number: int) -> None:
    # Torch keeps the number by thread; but one that begins later has what was set last, by whichever thread.
    with _setting_threads, ThreadPoolExecutor(max_workers=1) as beginner:
        common = beginner.submit(torch.get_num_threads).result()
        torch.set_num_threads(number)
        beginner.submit(torch.set_num_threads, common).result()


_setting_threads = threading.Lock()


def crowded(threads: int | None) -> str | None:
    """Return a warning if the machine's cores are busy with other work and threads would slow each other down.

    After each part of a product, all threads wait for the last one. GNU's OpenMP, which torch uses on Linux, waits by
    spinning, which takes shared cores from the last thread. On two busy cores L-BFGS took nine times as long on 2
    threads as on 1, and as long as on 1 with ``OMP_WAIT_POLICY=passive``.
    """
    n_threads, cores = threads or torch.get_num_threads(), os.cpu_count() or 1
    waits_passively = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive" or n_threads == 1
    if waits_passively or sys.platform != "linux" or os.getloadavg()[0] < cores:
        return None
    return (
        f"this machine's {cores} cores are busy (load {os.getloadavg()[0]:.0f}), where {n_threads} threads can take "
        "many times as long as 1: set train.threads = 1, or start with OMP_WAIT_POLICY=passive in the environment"
    )


def threads_in_use() -> dict[str, int | None]:
    """Return the number of torch's CPU ``threads`` and of NumPy's ``blas_threads``.

    The latter is None if NumPy's BLAS doesn't report it.
    """
    return {"threads": torch.get_num_threads(), "blas_threads": _blas_threads()}


@contextmanager
def blas_threads(threads: int | None) -> Iterator[None]:
    """Set the number of threads of NumPy's and SciPy's BLAS meanwhile, for the whole process.

    None leaves the numbers as they are, and so does a BLAS that can't be told.
    """
    libraries = [] if threads is None else [found for name in LINKED_TO_BLAS if (found := _blas(name)) is not None]
    before = [read() for read, _ in libraries]
    try:
        for _, write in libraries:
            write(threads)
        yield
    finally:
        for (_, write), number in zip(libraries, before, strict=True):
            write(number)


def _blas_threads() -> int | None:
    found = _blas(LINKED_TO_BLAS[0])
    return None if found is None else int(found[0]())


def _blas(module: str) -> tuple[Callable[[], int], Callable[[int | None], None]] | None:
    """Return the functions that read and set the threads of the BLAS of a module; None if it has neither."""
    found = importlib.util.find_spec(module)
    try:
        library = ctypes.CDLL(found.origin if found is not None else None)
    except OSError:
        return None
    functions = ((getattr(library, read, None), getattr(library, write, None)) for read, write in BLAS_THREADS)
    return next(((read, write) for read, write in functions if read is not None and write is not None), None)


class _Shared:
    """Setting of the whole process for several threads at once: the first one makes it, the last one undoes it.

    Args:
        make: makes it and returns what undoes it.
    """

    def __init__(self, make: Callable[[], Callable[[], None]]) -> None:
        self._make, self._lock, self._n_users = make, threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._n_users:
                self._undo = self._make()
            self._n_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if not self._n_users:
                    self._undo()


def _retain_freed_memory() -> Callable[[], None]:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        return lambda: None

    def give_back() -> None:
        libc.mallopt(M_MMAP_MAX, 65536)
        # Where glibc's own adaptation ends after blocks as large as a gradient; it stops once anything is set.
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)

    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return give_back


#: Keep freed memory in the process meanwhile, for the next step to use. By default glibc returns every freed gradient
#: to the system, and allocating the next one's pages takes longer than the gradient's own product. These settings are
#: global too; other C libraries don't have them.
retain_freed_memory = _Shared(_retain_freed_memory)


class _Thread(threading.local):
    """Precision that a thread has set for its matrix products; None leaves it to torch's own setting."""

    rounds: bool | None = None


_thread = _Thread()
#: Held while a thread launches a GPU's products in a precision of its own.
_gpu_turn = threading.RLock()


def rounds_products() -> bool:
    """Return whether this thread casts the factors of float32 products to bfloat16.

    If the thread has set nothing, torch's precision decides, but only on a CPU that multiplies bfloat16 fast: others
    take up to three hundred times as long.
    """
    if _thread.rounds is None:
        return torch.get_float32_matmul_precision() == "medium" and has_bf16(torch.device("cpu"))
    return _thread.rounds


@contextmanager
def matrix_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Set the precision of this thread's matrix products meanwhile.

    On a CPU fgen casts the factors itself (:mod:`fgen.compute.matmul`) and torch's own products stay float32, so that
    threads are independent. A GPU's precision is a setting of the whole process, so its threads take turns.
    """
    before, rounds = _thread.rounds, precision == "auto" and has_bf16(device)
    _thread.rounds = rounds
    try:
        with _gpu_products(rounds) if device.type == "cuda" else _float32_products():
            yield
    finally:
        _thread.rounds = before


def _set_float32() -> Callable[[], None]:
    # "high" is a GPU's step in another thread; of a CPU's products it rounds none.
    before = torch.get_float32_matmul_precision()
    if before != "medium":
        return lambda: None
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(before)


_float32_products = _Shared(_set_float32)


@contextmanager
def _gpu_products(rounds: bool) -> Iterator[None]:
    with _gpu_turn:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if rounds else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware, and faster than float32.

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
