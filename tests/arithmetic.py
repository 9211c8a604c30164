"""What ``auto`` and torch's threads mean in the tests, so that each machine can test what others do.

``FGEN_TEST_PRODUCTS=float32|bfloat16`` decides what ``precision = "auto"`` stands for on the CPU, by default what the
processor is faster with; ``FGEN_TEST_THREADS=1|2`` how many threads torch has, by default 1. Both hold in the processes
that tests start, too (``children/sitecustomize.py``). Nothing outside the tests reads them.

``python -m tests.arithmetic`` prints the products that are not the processor's own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRODUCTS, THREADS = ("float32", "bfloat16"), ("1", "2")
ASKED = {"FGEN_TEST_PRODUCTS": PRODUCTS, "FGEN_TEST_THREADS": THREADS}


def wrong_switch() -> str | None:
    """What is wrong with a switch: what was found, what was expected, what to do; None if all is well."""
    for name, values in ASKED.items():
        if (found := os.environ.get(name)) is not None and found not in values:
            return f"{name} is {found!r}; expected {' or '.join(values)}. Leave it out for the default."
    if os.environ.get("FGEN_TEST_PRODUCTS") == "bfloat16" and (reason := lacks_bf16()):
        found = f"FGEN_TEST_PRODUCTS is 'bfloat16', and torch multiplies no bfloat16 on this CPU ({reason})"
        return f"{found}; expected a torch that does. Set FGEN_TEST_PRODUCTS=float32, or run on another machine."
    return None


def lacks_bf16() -> str | None:
    """Why torch can't multiply bfloat16 on this CPU; None if it can."""
    import torch

    try:
        torch.mm(*torch.ones(2, 2, 2, dtype=torch.bfloat16))
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    return None


def n_threads() -> int:
    """How many threads torch has in the tests."""
    found = os.environ.get("FGEN_TEST_THREADS", "1")
    return int(found) if found in THREADS else 1


def replacements(products: str) -> Iterator[tuple[str, str, Any]]:
    """What is put in the place of what, by module and name, so that ``auto`` stands for these products.

    Torch multiplies bfloat16 on every CPU, but without AVX512 up to three hundred times as slowly as float32. There
    products of float32 stand in: of the same rounded factors, summed up in float32 and rounded to bfloat16, as torch's
    own are but for the order of the sums.
    """
    from fgen.compute import device as room
    from fgen.compute import matmul

    own = OWN.setdefault("has_bf16", room.has_bf16)
    yield "device", "has_bf16", lambda device: products == "bfloat16" if device.type == "cpu" else own(device)
    yield "matmul", "cpu_product", stand_in if slow_bf16() else OWN.setdefault("cpu_product", matmul.cpu_product)


#: What fgen does by itself, kept where it is replaced.
OWN: dict[str, Any] = {}


def slow_bf16() -> bool:
    """Whether torch has nothing but its slow products of bfloat16 here."""
    import torch

    try:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except AttributeError:  # a torch without oneDNN
        return True


def stand_in(left: Any, right: Any, out: Any = None) -> Any:
    """``fgen.compute.matmul.cpu_product`` by float32."""
    result = (left.float() @ right.float()).to(left.dtype)
    return result if out is None else out.copy_(result)


def own_products() -> str:
    """What ``auto`` stands for on this processor."""
    import torch

    from fgen.compute import device

    has_bf16 = OWN.get("has_bf16", device.has_bf16)
    return PRODUCTS[has_bf16(torch.device("cpu"))]


def apply() -> None:
    """Make the products what the switch says, in this process."""
    import fgen.compute.device
    import fgen.compute.matmul

    if (asked := os.environ.get("FGEN_TEST_PRODUCTS")) in PRODUCTS:
        for module, name, value in replacements(asked):
            setattr(getattr(fgen.compute, module), name, value)


def sentence() -> str:
    """What the tests ran on."""
    import torch

    own = own_products()
    asked, capability = os.environ.get("FGEN_TEST_PRODUCTS", own), torch.backends.cpu.get_cpu_capability()
    by = " (by products of float32)" if asked == "bfloat16" and slow_bf16() else ""
    return (
        f"arithmetic: auto is {asked}{by}, {n_threads()} thread{'s' * (n_threads() > 1)}; "
        f"this processor's own is {own}: {_processor()}, {capability}, torch {torch.__version__}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    print(*{*PRODUCTS} - {own_products()})
