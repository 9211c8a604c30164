"""Work on a damaged file in a process of its own, which can be ended, measured and listened to.

What a library makes of damage, a crash, a loop or gigabytes, then stays out of the process of the tests.
"""

import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

#: A process that sleeps is ended after so many seconds of the clock; one that works, by what the processor counts.
PATIENCE = 60
MOST_BYTES = 3 << 30


@dataclass
class Outcome:
    """What became of a piece of work.

    Attributes:
        result: what it returned, by way of JSON; None where it didn't come to that.
        trouble: the traceback of an exception, or how the process ended; empty where it returned.
        printed: all that went to stdout and stderr.
        seconds: the processor's time. grown: bytes of memory that it took.
    """

    result: Any
    trouble: str
    printed: bytes
    seconds: float
    grown: int


def in_a_process(work: Callable[[], Any], seconds: int) -> Outcome:
    """Do a piece of work in a forked process that has ``seconds`` of the processor's time."""
    told, tell = os.pipe()
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            os.close(told)
            _work(work, seconds, tell, printed.fileno())
        os.close(tell)
        answer = _heard(told, child)
        _, status, usage = os.wait4(child, 0)
        printed.seek(0)
        reply = json.loads(answer) if answer else {}
        code = os.waitstatus_to_exitcode(status)
        ended = "" if code == 0 else f"ended by signal {-code}" if code < 0 else f"ended with {code}"
        return Outcome(
            reply.get("result"),
            reply.get("trouble", ended or "ended without a word"),
            printed.read(),
            usage.ru_utime + usage.ru_stime,
            1024 * (usage.ru_maxrss - reply.get("before", usage.ru_maxrss)),
        )


def _heard(told: int, child: int) -> bytes:
    """All that the process tells until it ends, or is ended when patience is."""
    parts, until = [], time.monotonic() + PATIENCE
    with os.fdopen(told, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            part = pipe.read(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
    os.kill(child, signal.SIGKILL)
    return b""


def _work(work: Callable[[], Any], seconds: int, tell: int, printed: int) -> None:
    """The child's part; doesn't return."""
    reply: dict[str, Any] = {}
    try:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        torch.set_num_threads(1)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + seconds + 1, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError), open("/proc/self/statm", "rb") as file:  # so that no case fills the machine
            most = int(file.read().split()[0]) * resource.getpagesize() + MOST_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        reply["before"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply |= {"result": work(), "trouble": ""}
    except BaseException:
        reply["trouble"] = traceback.format_exc()
    with open(tell, "wb") as pipe:
        sys.stdout.flush()
        sys.stderr.flush()
        pipe.write(json.dumps(reply).encode())
    os._exit(0)
