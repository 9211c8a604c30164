"""The command ``fgen run | train | generate | features | embed | evaluate | predict | report | inspect | convert``.

Exit code 0: done. 2: wrong input, one message on stderr. 128 + n: stopped by signal n; finished work is kept.
"""

import argparse
import errno
import io
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from fgen.errors import InputError, Interrupted, visible
from fgen.experiment.provenance import version

#: Messages of torch, on a CPU and on a GPU.
NO_MEMORY = re.compile("can't allocate memory|out of memory")
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be too big",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    _open_closed_streams()
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        _flush(sys.stderr)


def _main(argv: list[str]) -> int:
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):  # names that the terminal can't show are escaped
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            arguments = _parser().parse_args(argv)
        except SystemExit as stop:
            sys.stdout.flush()
            return int(stop.code or 0)
        _refuse_streams(arguments)
        options = vars(arguments)
        options.pop("command")(**options)
        sys.stdout.flush()
    except Interrupted as stop:
        _complain(f"{stop}. Go on with: {_resume_command(argv)}")
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        _complain(f"stopped. What was finished is kept; go on with: {_resume_command(argv)}")
        return 130
    except InputError as error:
        _complain(str(error))
        return 2
    except BrokenPipeError:
        _give_up(sys.stdout)
        return 141
    except OSError as error:
        reason = FULL.get(error.errno or 0, error.strerror or str(error))
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{reason}. What was finished is kept; mend that and go on with: {_resume_command(argv)}")
        _flush(sys.stdout)
        return 2
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
            raise
        reason = str(error).splitlines()[0] if str(error) else "no more was to be had"
        remedy = "Lower bank.n_per_class, model.batch_size or model.hidden_dim"
        remedy += ", or set train.device = 'cpu'" if "CUDA" in reason else ""
        _complain(f"not enough memory ({reason}). {remedy}.")
        return 2
    return 0


def _open_closed_streams() -> None:
    """Open closed standard streams, as a daemon has them, on the null device; else the next file would replace them."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _flush(stream: TextIO) -> None:
    """Write what is left of the output, or give it up: at its exit Python would fail again, with another exit code."""
    try:
        stream.flush()
    except OSError:
        _give_up(stream)


def _give_up(stream: TextIO) -> None:
    """Redirect a stream to the null device, or Python would try to write the rest once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse_streams(arguments: argparse.Namespace) -> None:
    """Refuse ``-`` and devices as output: files are written under another name beside it and moved."""
    for option, name in (("--out", "out"), ("the target", "target")):
        given = getattr(arguments, name, None)
        if given == "-" or (given and re.match(r"/dev/[^/]*$|/dev/fd/|/proc/", os.path.abspath(given))):
            raise InputError(f"{option} is {given!r}", "a name for a file or folder", "Write to a file and print that")


def _complain(message: str) -> None:
    with suppress(OSError):  # the exit code still tells of the error
        print(visible(f"fgen: {message}"), file=sys.stderr)  # noqa: T201


def _say(text: str) -> None:
    print(visible(text, keep="\n"))  # noqa: T201


def _resume_command(argv: Sequence[str]) -> str:
    resumable = argv[:1] in (["run"], ["train"]) and "--resume" not in argv
    return shlex.join(["fgen", *argv, *(["--resume"] if resumable else [])])


Argument = Callable[[argparse.ArgumentParser], object]
Command = Callable[..., None]
#: Functions with their arguments, in the order in which the help lists them.
COMMANDS: list[tuple[Command, tuple[Argument, ...]]] = []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fgen", description="Training data for classes nobody has pictures of.")
    parser.add_argument("--version", action="version", version=f"fgen {version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for function, arguments in COMMANDS:
        text = (function.__doc__ or "").rstrip(".")
        text = text[:1].lower() + text[1:]
        subparser = commands.add_parser(function.__name__.removeprefix("_"), help=text, description=text)
        for declare in arguments:
            declare(subparser)
        subparser.set_defaults(command=function)
    return parser


def _argument(*names: str, **options: Any) -> Argument:
    """Return a function that declares an argument, as ``add_argument`` does."""
    return lambda parser: parser.add_argument(*names, **options)


def _command(*arguments: Argument) -> Callable[[Command], Command]:
    """Make a function ``_NAME(argument=...)`` the command ``NAME``; its docstring is the help."""

    def register(function: Command) -> Command:
        COMMANDS.append((function, arguments))
        return function

    return register


CONFIG = _argument("config", help="TOML file, see experiments/; or a data set, for which settings are chosen")
SET = _argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
RESUME = _argument("--resume", action="store_true", help="go on where an earlier call stopped")
RUN = _argument("run", help="run folder")
OVERWRITE = _argument("--overwrite", action="store_true")
JSON = _argument("--json", action="store_true", dest="as_json")

# Each command imports the libraries that it needs, so that --help and a typo answer at once.


@_command(
    CONFIG,
    _argument("--out", help="run folder (default: runs/NAME_OF_CONFIG, of RUN_DIR/config.toml its own)"),
    SET,
    RESUME,
    _argument("--json", action="store_true", dest="as_json", help="print result.json instead of a table"),
)
def _run(config: str, out: str | None, overrides: list[str], resume: bool, as_json: bool) -> None:
    """The whole protocol: select, train, generate, classify, score."""
    from fgen.experiment.recommended import experiment_for
    from fgen.experiment.runner import run

    file = Path(config)
    resumed = resume and (file.parent / "seeds").is_dir() and file.name == "config.toml"
    folder = Path(out or (file.parent if resumed else Path("runs") / file.stem))
    experiment = experiment_for(config, overrides, kept=folder / "config.toml" if resume else None)
    result = run(experiment, out=folder, resume=resume, progress=sys.stderr.isatty())
    _say(json.dumps(result.description, indent=2) if as_json else f"{result.table()}\nrun folder: {folder}")


@_command(CONFIG, _argument("--out", required=True, help="run folder"), SET, RESUME)
def _train(config: str, out: str, overrides: list[str], resume: bool) -> None:
    """Train generator and head on all of trainval, without a test, for data that have no test rows."""
    from fgen.experiment.directory import SeedDirectory
    from fgen.experiment.recommended import experiment_for
    from fgen.experiment.results import format_expectation
    from fgen.experiment.runner import train_only

    experiment = experiment_for(config, overrides, kept=Path(out, "config.toml") if resume else None)
    models = train_only(experiment, out=out, resume=resume, progress=sys.stderr.isatty())
    for model in models:
        _say(f"model: {model}")
        folder = SeedDirectory(model.parent)
        if folder.choice.exists():
            _say(format_expectation(folder.read_choice(experiment)[0]))


@_command(
    RUN,
    _argument("--classes", help="unseen, seen, all, or NAME,NAME (default: unseen)"),
    _argument("--n-per-class", type=int, default=300),
    _argument("--out", required=True, help="the bank, an .h5 file"),
    _argument("--embeddings", help="CSV of classes never in the data set: a name, then its embedding"),
    _argument("--seed", type=int, help="seed of model and noise (default: the run's first)"),
    _argument("--real", action="store_true", help="store the real training rows too"),
    _argument("--validation", action="store_true", help="also write NAME.validation.h5, to calibrate classifiers on"),
    OVERWRITE,
)
def _generate(out: str, validation: bool, **options: Any) -> None:
    """Features of classes into a bank."""
    from fgen.experiment.generation import generate_from_run
    from fgen.experiment.validation_bank import path_beside

    generate_from_run(out=out, validation=validation, **options, progress=sys.stderr.isatty())
    _say(f"bank: {out}" + (f"\nvalidation bank: {path_beside(out)}" if validation else ""))


@_command(
    _argument("pictures", help="folder with a folder of pictures for each class"),
    _argument("--embeddings", required=True, help="CSV of all classes: a name, then its embedding"),
    _argument("--out", required=True, help="an .h5 or .npz file, or a folder for a .mat pair"),
    _argument(
        "--unseen", action="append", default=[], metavar="NAME", help="a class to test on as unseen; may be repeated"
    ),
    OVERWRITE,
)
def _features(pictures: str, embeddings: str, out: str, unseen: list[str], overwrite: bool) -> None:
    """A folder of pictures into a data set."""
    from fgen.data.files import expect_target, save_dataset
    from fgen.data.tables import read_embeddings_csv
    from fgen.encoders.image_folder import dataset_of_pictures

    names, matrix = read_embeddings_csv(embeddings)
    target = expect_target(out, overwrite=overwrite).absolute()
    keep = target.with_name(f"{target.name}.pictures.partial")
    dataset = dataset_of_pictures(pictures, names, matrix, unseen=unseen, keep=keep, progress=sys.stderr.isatty())
    save_dataset(dataset, out, overwrite=overwrite)
    keep.unlink()
    _say(f"{dataset!r}\nwritten: {out}")


@_command(
    _argument("descriptions", help="CSV: on each line a class's name, and what else is said of it"),
    _argument("--out", required=True, help="CSV, for generate --embeddings"),
    _argument("--encoder", default="sentence", help="sentence (MiniLM) or word (GloVe) (default: sentence)"),
    _argument("--model", help="another sentence encoder: a folder, or a name of sentence-transformers"),
    OVERWRITE,
)
def _embed(descriptions: str, out: str, encoder: str, model: str | None, overwrite: bool) -> None:
    """Descriptions in words into class embeddings."""
    from fgen.data.tables import read_descriptions_csv, write_embeddings_csv
    from fgen.encoders.text import ENCODERS
    from fgen.features.labels import unusual_embeddings_warning
    from fgen.io.atomic import expect_free

    if encoder not in ENCODERS:
        raise InputError(f"--encoder is {encoder!r}", f"one of {', '.join(ENCODERS)}")
    expect_free(Path(out), overwrite=overwrite)
    names, texts = read_descriptions_csv(descriptions)
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    embeddings = ENCODERS[encoder](texts, model, progress=sys.stderr.isatty())
    if odd := unusual_embeddings_warning(embeddings, names):
        logging.getLogger("fgen").warning("%s: %s", descriptions, odd)
    write_embeddings_csv(out, names, embeddings, overwrite=overwrite)
    _say(f"embeddings: {out} ({len(names):,} classes, {embeddings.shape[1]} numbers each)")


@_command(
    _argument("bank"),
    _argument("--dataset", required=True, help="emoji, toy, a folder with a .mat pair, an .h5 or .npz file"),
    _argument(
        "--classifier",
        default="softmax",
        help="softmax, logistic, linear_svm, knn or cosine (default: softmax); or a class or function to import, as "
        "sklearn.linear_model.LogisticRegression or mymodule:make, that makes an object with fit(X, y), and "
        "predict_proba(X) or decision_function(X), of scaled rows and labels 0 to K - 1",
    ),
    _argument(
        "--set",
        action="append",
        default=[],
        metavar="classifier.KEY=VALUE",
        dest="overrides",
        help="a setting of the head, or an argument of what is imported; classifier.scaling is the head's",
    ),
    _argument(
        "--gamma", type=float, help="taken from seen classes' scores (default: chosen on BANK's .validation.h5, or 0)"
    ),
    _argument("--run", help="run folder, when the head lives in the method's own space"),
    _argument("--seed", type=int, default=0),
    JSON,
)
def _evaluate(bank: str, dataset: str, classifier: str, overrides: list[str], as_json: bool, **options: Any) -> None:
    """Score a bank with a classifier."""
    from fgen.classifiers.any_estimator import imported_config, is_import_path
    from fgen.config import apply_overrides
    from fgen.data.files import load_dataset
    from fgen.experiment.config import named_config
    from fgen.experiment.evaluation import evaluate_bank, head_settings, split_seed_of
    from fgen.experiment.results import SCORES, format_score, format_table

    imports = is_import_path(classifier)  # the command line's alone, never a bank's
    sections = apply_overrides({"classifier": {} if imports else head_settings(bank, classifier)}, overrides)
    if list(sections) != ["classifier"]:
        raise InputError(f"--set names the section {[*sections][1]!r}", "classifier, the only one that evaluate has")
    named = sections["classifier"].get("name", classifier)
    if named != classifier:
        raise InputError(f"--set names the head {named!r}, and --classifier {classifier!r}", "--classifier alone")
    if imports:
        config = imported_config(classifier, sections["classifier"], options["seed"])
    else:
        config = named_config("classifier", sections["classifier"])
    rows = load_dataset(dataset, seed=split_seed_of(bank))
    result = evaluate_bank(bank, rows, config, **options)
    if as_json:
        _say(json.dumps(result.as_dict(), indent=2))
        return
    tried = {classifier: result.uncalibrated}
    if result.scores.gamma:
        tried[f"{classifier}, gamma {result.scores.gamma:.3g}"] = result.scores
    table = {label: scores.as_dict() for label, scores in tried.items()}
    cells = [[label, *(format_score({"mean": row[name]}) for name in SCORES)] for label, row in table.items()]
    _say("\n".join(filter(None, [format_table(["", *SCORES], cells), result.calibration])))


@_command(
    RUN,
    _argument("features", help=".h5, .npz or .npy with features (N, D)"),
    _argument("--out", required=True, help="CSV; its score is the calibrated log-probability"),
    _argument(
        "--bank", action="append", default=[], dest="banks", help="of classes to be answered too; may be repeated"
    ),
)
def _predict(run: str, features: str, out: str, banks: list[str]) -> None:
    """Classes of new features, with a run's head."""
    from fgen.data.tables import expect_predictions, read_features, write_predictions_csv
    from fgen.inference.from_run import predictor_of_run

    expect_predictions(Path(out))
    rows, _ = read_features(features)
    predictor = predictor_of_run(run, banks, width=rows.shape[1])
    classes, scores = predictor.predict(rows)
    names = [predictor.name(class_id) for class_id in classes]
    write_predictions_csv(out, zip(range(len(classes)), classes, names, scores, strict=True))
    _say(f"predictions: {out} ({len(classes):,} rows)")


@_command(
    _argument("runs", nargs="+", metavar="RUN_DIR", help="run folders; the first is what others are held to"),
    _argument("--out", required=True, help="HTML, with its pictures inside"),
)
def _report(runs: list[str], out: str) -> None:
    """A page about runs: scores, training, classes, features."""
    from fgen.reports.run_report import write_report

    write_report(runs, out, progress=sys.stderr.isatty())
    _say(f"report: {out}")


@_command(_argument("path"), JSON)
def _inspect(path: str, as_json: bool) -> None:
    """What a data set, bank, run folder, model, head or other file of fgen holds."""
    from fgen.data.files import expect_source
    from fgen.io.consistent_read import current

    if not path.endswith(".toml"):
        expect_source(str(current(Path(path))))  # before torch is imported
    from fgen.reports.inspection import inspect

    facts = inspect(path)
    _say(json.dumps(facts, indent=2) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


@_command(
    _argument("source", help="emoji, toy, a folder with a .mat pair, an .h5 or .npz file"),
    _argument("target", help="an .h5 or .npz file, or a folder for a .mat pair"),
    OVERWRITE,
)
def _convert(source: str, target: str, overwrite: bool) -> None:
    """A data set from one format to another."""
    from fgen.data.files import expect_target, load_dataset, save_dataset

    expect_target(target, overwrite=overwrite)
    dataset = load_dataset(source)
    save_dataset(dataset, target, overwrite=overwrite)
    for note in dataset.notes:
        _say(f"note: {note}")
    _say(f"{dataset!r}\nwritten: {target}")


if __name__ == "__main__":
    sys.exit(main())
