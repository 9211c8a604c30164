"""The command ``fgen``: its commands, their arguments, exit codes and messages.

Exit code 0: done. 2: wrong input, one message on stderr. 128 + n: stopped by signal n; finished work is kept.
Each command imports the libraries that it needs, so that ``--help`` and a typing error answer at once.
"""

import errno
import io
import logging
import re
import shlex
import signal
import sys
from collections.abc import Sequence

from fgen.cli import banks, catalogue, data, embedding, imagination, prediction, running
from fgen.cli.parser import parser_of
from fgen.cli.registry import Command
from fgen.cli.signals import Stopped, stops_as_interrupts
from fgen.cli.streams import complain, flush, give_up, open_closed_streams, refuse_streams
from fgen.errors import InputError, Interrupted

#: Messages of torch, on a CPU and on a GPU.
NO_MEMORY = re.compile("can't allocate memory|out of memory")
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be too big",
}
#: In the order in which the help lists them.
COMMANDS: tuple[Command, ...] = (
    running.run,
    running.train,
    banks.generate,
    data.features,
    embedding.embed,
    banks.evaluate,
    prediction.predict,
    prediction.export,
    prediction.extend,
    running.fuse,
    imagination.imagine,
    running.sweep,
    running.join,
    running.compare,
    running.report,
    data.inspect,
    data.convert,
    catalogue.new,
    catalogue.methods,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    open_closed_streams()
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        flush(sys.stderr)


def _main(argv: list[str]) -> int:
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):  # names that the terminal can't show are escaped
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            options = vars(parser_of(COMMANDS).parse_args(argv))
        except SystemExit as stop:
            sys.stdout.flush()
            return int(stop.code or 0)
        command, quiet = options.pop("command"), options.pop("quiet")
        if quiet:
            logging.getLogger().handlers[0].setLevel(logging.ERROR)  # a later call has a handler of its own
        if "progress" in options:
            options["progress"] = sys.stderr.isatty() and not quiet
        refuse_streams(options, prints=command.prints)
        with stops_as_interrupts():
            command.run(**options)
        sys.stdout.flush()
    except Interrupted as stop:
        complain(f"{stop}. Go on with: {_resume_command(argv)}")
        return 128 + stop.signal_number
    except KeyboardInterrupt as stop:
        complain(f"stopped. What was finished is kept; go on with: {_resume_command(argv)}")
        return 128 + (stop.signal_number if isinstance(stop, Stopped) else signal.SIGINT)
    except InputError as error:
        complain(str(error))
        return 2
    except BrokenPipeError:
        give_up(sys.stdout)
        return 141
    except OSError as error:
        reason = FULL.get(error.errno or 0, error.strerror or str(error))
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{reason}. What was finished is kept; mend that and go on with: {_resume_command(argv)}")
        flush(sys.stdout)
        return 2
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
            raise
        reason = str(error).splitlines()[0] if str(error) else "no more was to be had"
        remedy = "Lower bank.n_per_class, model.batch_size or model.hidden_dim"
        remedy += ", or set train.device = 'cpu'" if "CUDA" in reason else ""
        complain(f"not enough memory ({reason}). {remedy}.")
        return 2
    return 0


def _resume_command(argv: Sequence[str]) -> str:
    resumable = argv[:1] in (["run"], ["train"]) and "--resume" not in argv
    return shlex.join(["fgen", *argv, *(["--resume"] if resumable else [])])
