"""The shell door: ``fgen run | train | features | embed | generate | evaluate | predict | report | inspect | convert``.

Exit 0: done. 2: the input is wrong, one message on stderr. 128 + n: stopped by signal n, nothing lost.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from fgen.errors import InputError, Interrupted, visible
from fgen.experiment.provenance import version

#: What torch says, on a CPU and on a GPU.
NO_MEMORY = re.compile("can't allocate memory|out of memory")
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be too big",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    _open_closed_streams()
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # nobody reads what is left of it, and Python would exit with another code
            _give_up(sys.stderr)


def _main(argv: list[str]) -> int:
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name that a terminal can't show is no reason to stop
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            arguments = _parser().parse_args(argv)
        except SystemExit as stop:
            sys.stdout.flush()
            return int(stop.code or 0)
        _refuse_streams(arguments)
        arguments.command(arguments)
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
        try:
            sys.stdout.flush()
        except OSError:  # it is stdout that can't be written to
            _give_up(sys.stdout)
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
    """Have what a daemon's closed streams are sent go nowhere; the next file that is opened would take their place."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _give_up(stream: TextIO) -> None:
    """What is left of the output goes nowhere, or Python would try to write it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse_streams(arguments: argparse.Namespace) -> None:
    """Refuse to write to ``-`` or a device: files are made beside their final name and moved there."""
    for option, given in (
        ("--out", getattr(arguments, "out", None)),
        ("the target", getattr(arguments, "target", None)),
    ):
        if given == "-" or (given and re.match(r"/dev/[^/]*$|/dev/fd/|/proc/", os.path.abspath(given))):
            raise InputError(f"{option} is {given!r}", "a name for a file or folder", "Write to a file and print that")


def _complain(message: str) -> None:
    with suppress(OSError):  # the exit code says that there was something to say
        print(visible(f"fgen: {message}"), file=sys.stderr)  # noqa: T201


def _say(text: str) -> None:
    print(visible(text, keep="\n"))  # noqa: T201


def _resume_command(argv: Sequence[str]) -> str:
    resumable = argv[:1] in (["run"], ["train"]) and "--resume" not in argv
    return shlex.join(["fgen", *argv, *(["--resume"] if resumable else [])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fgen", description="Training data for classes nobody has pictures of.")
    parser.add_argument("--version", action="version", version=f"fgen {version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for name, function, text in (
        ("run", _run, "the whole protocol: select, train, generate, classify, score"),
        ("train", _train, "train the generator alone, on all of trainval, for the config's own epochs"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("config", help="TOML file, see experiments/")
        default = "" if name == "train" else " (default: runs/NAME_OF_CONFIG, of RUN_DIR/config.toml its own)"
        command.add_argument("--out", required=name == "train", help=f"run folder{default}")
        command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
        command.add_argument("--resume", action="store_true", help="go on where an earlier call stopped")
        if name == "run":
            command.add_argument("--json", action="store_true", help="print result.json instead of a table")
        command.set_defaults(command=function)

    command = commands.add_parser("generate", help="features of classes into a bank")
    command.add_argument("run", help="run folder")
    command.add_argument("--classes", help="unseen, seen, all, or NAME,NAME (default: unseen)")
    command.add_argument("--n-per-class", type=int, default=300)
    command.add_argument("--out", required=True, help="the bank, an .h5 file")
    command.add_argument("--embeddings", help="CSV of classes never in the data set: a name, then its embedding")
    command.add_argument("--seed", type=int, help="seed of model and noise (default: the run's first)")
    command.add_argument("--real", action="store_true", help="store the real training rows too")
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(command=_generate)

    command = commands.add_parser("features", help="a folder of pictures into a data set")
    command.add_argument("pictures", help="folder with a folder of pictures for each class")
    command.add_argument("--embeddings", required=True, help="CSV of all classes: a name, then its embedding")
    command.add_argument("--out", required=True, help="an .h5 or .npz file, or a folder for a .mat pair")
    command.add_argument(
        "--unseen", action="append", default=[], metavar="NAME", help="a class to test on as unseen; may be repeated"
    )
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(command=_features)

    command = commands.add_parser("embed", help="descriptions in words into class embeddings")
    command.add_argument("descriptions", help="CSV: on each line a class's name, and what else is said of it")
    command.add_argument("--out", required=True, help="CSV, for generate --embeddings")
    command.add_argument("--encoder", default="sentence", help="sentence (MiniLM) or word (GloVe) (default: sentence)")
    command.add_argument("--model", help="another sentence encoder: a folder, or a name of sentence-transformers")
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(command=_embed)

    command = commands.add_parser("evaluate", help="score a bank with a classifier")
    command.add_argument("bank")
    command.add_argument("--dataset", required=True, help="emoji, toy, a folder with a .mat pair, an .h5 or .npz file")
    command.add_argument(
        "--classifier", default="softmax", help="softmax, logistic, linear_svm, knn or cosine (default: softmax)"
    )
    command.add_argument("--set", action="append", default=[], metavar="classifier.KEY=VALUE", dest="overrides")
    command.add_argument("--gamma", type=float, default=0.0, help="taken from seen classes' scores (default: 0)")
    command.add_argument("--run", help="run folder, when the head lives in the method's own space")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", action="store_true")
    command.set_defaults(command=_evaluate)

    command = commands.add_parser("predict", help="classes of new features, with a run's head")
    command.add_argument("run", help="run folder")
    command.add_argument("features", help=".h5, .npz or .npy with features (N, D)")
    command.add_argument("--out", required=True, help="CSV; its score is the calibrated log-probability")
    command.add_argument(
        "--bank",
        action="append",
        default=[],
        dest="banks",
        help="of classes to be answered too; may be repeated",
    )
    command.set_defaults(command=_predict)

    command = commands.add_parser("report", help="a page about runs: scores, training, classes, features")
    command.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run folders; the first is what others are held to")
    command.add_argument("--out", required=True, help="HTML, with its pictures inside")
    command.set_defaults(command=_report)

    command = commands.add_parser(
        "inspect", help="what a data set, bank, run folder, model, head or other file of fgen holds"
    )
    command.add_argument("path")
    command.add_argument("--json", action="store_true")
    command.set_defaults(command=_inspect)

    command = commands.add_parser("convert", help="a data set from one format to another")
    command.add_argument("source", help="emoji, toy, a folder with a .mat pair, an .h5 or .npz file")
    command.add_argument("target", help="an .h5 or .npz file, or a folder for a .mat pair")
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(command=_convert)
    return parser


# Libraries are imported by the command that needs them, so that --help and a typo answer at once.


def _run(arguments: argparse.Namespace) -> None:
    from fgen.experiment.config import ExperimentConfig
    from fgen.experiment.runner import run

    config = ExperimentConfig.from_file(arguments.config, arguments.overrides)
    folder = Path(arguments.config).parent
    resumed = arguments.resume and (folder / "seeds").is_dir() and Path(arguments.config).name == "config.toml"
    out = arguments.out or (folder if resumed else Path("runs") / Path(arguments.config).stem)
    result = run(config, out=out, resume=arguments.resume, progress=sys.stderr.isatty())
    _say(json.dumps(result.description, indent=2) if arguments.json else f"{result.table()}\nrun folder: {out}")


def _train(arguments: argparse.Namespace) -> None:
    from fgen.experiment.config import ExperimentConfig
    from fgen.experiment.runner import train_only

    config = ExperimentConfig.from_file(arguments.config, arguments.overrides)
    models = train_only(config, out=arguments.out, resume=arguments.resume, progress=sys.stderr.isatty())
    _say("\n".join(f"model: {model}" for model in models))


def _generate(arguments: argparse.Namespace) -> None:
    from fgen.experiment.generation import generate_from_run

    generate_from_run(
        arguments.run,
        out=arguments.out,
        classes=arguments.classes,
        n_per_class=arguments.n_per_class,
        embeddings=arguments.embeddings,
        seed=arguments.seed,
        real=arguments.real,
        overwrite=arguments.overwrite,
        progress=sys.stderr.isatty(),
    )
    _say(f"bank: {arguments.out}")


def _features(arguments: argparse.Namespace) -> None:
    from fgen.data.files import expect_target, save_dataset
    from fgen.data.tables import read_embeddings_csv
    from fgen.encoders.image_folder import dataset_of_pictures

    names, embeddings = read_embeddings_csv(arguments.embeddings)
    out = expect_target(arguments.out, overwrite=arguments.overwrite).absolute()
    keep = out.with_name(f"{out.name}.pictures.partial")
    dataset = dataset_of_pictures(
        arguments.pictures, names, embeddings, unseen=arguments.unseen, keep=keep, progress=sys.stderr.isatty()
    )
    save_dataset(dataset, arguments.out, overwrite=arguments.overwrite)
    keep.unlink()
    _say(f"{dataset!r}\nwritten: {arguments.out}")


def _embed(arguments: argparse.Namespace) -> None:
    from fgen.data.tables import read_descriptions_csv, write_embeddings_csv
    from fgen.encoders.text import ENCODERS
    from fgen.features.labels import unusual_embeddings_warning
    from fgen.io.atomic import expect_free

    if arguments.encoder not in ENCODERS:
        raise InputError(f"--encoder is {arguments.encoder!r}", f"one of {', '.join(ENCODERS)}")
    expect_free(Path(arguments.out), overwrite=arguments.overwrite)
    names, texts = read_descriptions_csv(arguments.descriptions)
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    embeddings = ENCODERS[arguments.encoder](texts, arguments.model, progress=sys.stderr.isatty())
    if odd := unusual_embeddings_warning(embeddings, names):
        logging.getLogger("fgen").warning("%s: %s", arguments.descriptions, odd)
    write_embeddings_csv(arguments.out, names, embeddings, overwrite=arguments.overwrite)
    _say(f"embeddings: {arguments.out} ({len(names):,} classes, {embeddings.shape[1]} numbers each)")


def _evaluate(arguments: argparse.Namespace) -> None:
    from fgen.classifiers.registry import CLASSIFIERS
    from fgen.config import apply_overrides
    from fgen.data.files import load_dataset
    from fgen.experiment.config import classifier_config
    from fgen.experiment.evaluation import evaluate_bank, head_settings, split_seed_of
    from fgen.experiment.results import SCORES, format_score, format_table

    if arguments.classifier not in CLASSIFIERS:
        raise InputError(f"--classifier is {arguments.classifier!r}", f"one of {', '.join(CLASSIFIERS)}")
    sections = apply_overrides({"classifier": head_settings(arguments.bank, arguments.classifier)}, arguments.overrides)
    if list(sections) != ["classifier"]:
        raise InputError(f"--set names the section {[*sections][1]!r}", "classifier, the only one that evaluate has")
    named = sections["classifier"].get("name", arguments.classifier)
    if named != arguments.classifier:
        raise InputError(
            f"--set names the head {named!r}, and --classifier {arguments.classifier!r}", "--classifier alone"
        )
    config = classifier_config(sections["classifier"])
    dataset = load_dataset(arguments.dataset, seed=split_seed_of(arguments.bank))
    scores = evaluate_bank(
        arguments.bank, dataset, config, seed=arguments.seed, run=arguments.run, gamma=arguments.gamma
    ).as_dict()
    if arguments.json:
        _say(json.dumps({name: scores[name] for name in SCORES}, indent=2))
        return
    row = [arguments.classifier, *(format_score({"mean": scores[name]}) for name in SCORES)]
    _say(format_table(["", *SCORES], [row]))


def _predict(arguments: argparse.Namespace) -> None:
    from fgen.data.tables import expect_predictions, read_features, write_predictions_csv
    from fgen.inference.from_run import predictor_of_run

    expect_predictions(Path(arguments.out))
    features, _ = read_features(arguments.features)
    predictor = predictor_of_run(arguments.run, arguments.banks, width=features.shape[1])
    classes, scores = predictor.predict(features)
    names = [predictor.name(class_id) for class_id in classes]
    write_predictions_csv(arguments.out, zip(range(len(classes)), classes, names, scores, strict=True))
    _say(f"predictions: {arguments.out} ({len(classes):,} rows)")


def _report(arguments: argparse.Namespace) -> None:
    from fgen.reports.run_report import write_report

    write_report(arguments.runs, arguments.out, progress=sys.stderr.isatty())
    _say(f"report: {arguments.out}")


def _inspect(arguments: argparse.Namespace) -> None:
    from fgen.reports.inspection import inspect

    facts = inspect(arguments.path)
    _say(json.dumps(facts, indent=2) if arguments.json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


def _convert(arguments: argparse.Namespace) -> None:
    from fgen.data.files import expect_target, load_dataset, save_dataset

    expect_target(arguments.target, overwrite=arguments.overwrite)
    dataset = load_dataset(arguments.source)
    save_dataset(dataset, arguments.target, overwrite=arguments.overwrite)
    for note in dataset.notes:
        _say(f"note: {note}")
    _say(f"{dataset!r}\nwritten: {arguments.target}")


if __name__ == "__main__":
    sys.exit(main())
