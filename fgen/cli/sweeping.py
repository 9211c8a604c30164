"""The command ``fgen sweep``: its table grows while runs end."""

from collections.abc import Sequence
from pathlib import Path

from fgen.errors import InputError, first_line
from fgen.experiment.grid import combinations, parse_grid
from fgen.experiment.sweep import SweepResult, iter_sweep
from fgen.experiment.workers import Workers
from fgen.io.atomic import atomic_file
from fgen.reports.comparison import Compared, as_csv, compared

TABLE, FAILURES = "table.csv", "failures.txt"


def swept(
    configs: Sequence[str],
    out: Path,
    *,
    grid: Sequence[str],
    overrides: Sequence[str],
    seeds: Sequence[int] | None,
    progress: bool,
    **workers: object,
) -> tuple[list[Compared], InputError | None]:
    """Run a sweep; write its table after each experiment that is finished, and its failures at the end.

    Returns:
        Finished experiments beside the first of them, in the grid's order; and the error that tells of the others.
    """
    engine = Workers(**workers)  # type: ignore[arg-type]
    experiments = combinations(configs, parse_grid(grid), seeds=seeds, overrides=overrides)
    rows: dict[str, Compared] = {}
    result = SweepResult()
    for result in iter_sweep(experiments, out, engine, progress=progress):
        for name, finished in result.results.items():
            if name not in rows:
                rows[name] = compared(name, finished, next(iter(rows.values())).result if rows else finished)
                _write(out / TABLE, as_csv(list(rows.values())))
    first = next(iter(result.results.values()), None)
    ordered = [compared(name, one, first) for name, one in result.results.items() if first is not None]
    if ordered:
        _write(out / TABLE, as_csv(ordered))
    return ordered, _failure(result.failures, out / FAILURES)


def _failure(failures: dict[str, Exception], path: Path) -> InputError | None:
    """Return an error that tells of the first failure and of their number; write all of them to a file."""
    path.unlink(missing_ok=True)
    if not failures:
        return None
    _write(path, "\n".join(f"{name}: {error}" for name, error in failures.items()) + "\n")
    name, error = next(iter(failures.items()))
    found = f"{len(failures)} runs failed; {name}: {first_line(error, 1000)}"
    return InputError(found, "none", f"{path} tells of each; the same command tries them again")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write_text(text, encoding="utf-8")
