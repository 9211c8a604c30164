"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fgen
from fgen.compute.device import has_bf16, matrix_precision, retain_freed_memory
from fgen.experiment.provenance import git_commit

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe_machine() -> dict[str, Any]:
    """Processor, memory, versions and threads, and what ``precision = "auto"`` stands for here."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_field("model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in _cpu_field("flags").split()],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": os.getloadavg()[0],
        "gpu": cuda,
        "threads": torch.get_num_threads(),
        "auto_is": {
            "cpu": "bfloat16 products" if has_bf16(torch.device("cpu")) else "float32",
            "cuda": None if cuda is None else "bfloat16 products" if has_bf16(torch.device("cuda")) else "float32",
        },
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "fgen": fgen.__version__,
        "git_commit": git_commit(),
    }


def sentence(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    flags = ", ".join(machine["flags"]) or "no AVX"
    gpu = "" if machine["gpu"] is None else f"; {machine['gpu']} (auto: {machine['auto_is']['cuda']})"
    return (
        f"{machine['cores']} cores of {machine['cpu']} ({flags}), {machine['threads']} threads, "
        f"auto: {machine['auto_is']['cpu']}{gpu}; torch {machine['torch']}; load at the start {machine['load']:.1f}"
    )


def _cpu_field(name: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


@contextmanager
def step_settings(precision: str, device: torch.device) -> Iterator[None]:
    """Set memory and precision as :func:`fgen.training.loop.train` does, for code that takes steps by itself."""
    with retain_freed_memory(), matrix_precision(precision, device):
        yield
