"""Commands that use what a run has learned."""

from typing import Any

from fgen.cli.registry import EMBEDDINGS, OVERWRITE, RUN, argument, command, say
from fgen.errors import InputError

EXPORTS = "npz: W, b, classes of a linear predictor; torch: a .pt2 of torch.export; onnx: checked by onnxruntime"
SUFFIXES = {"npz": ".npz", "torch": ".pt2", "onnx": ".onnx"}


@command(
    RUN,
    argument("features", help=".h5, .npz, .npy, .mat or .csv with features (N, D)"),
    argument("--out", default="-", help="CSV; its score is the calibrated log-probability (default: -, which prints)"),
    argument(
        "--bank", action="append", default=[], dest="banks", help="of classes to be answered too; may be repeated"
    ),
    argument("--top", type=int, default=1, metavar="K", help="the K most probable classes of each row (default: 1)"),
    argument("--json", action="store_true", dest="as_json", help="a list of objects in place of the CSV table"),
    prints=True,
)
def predict(run: str, features: str, out: str, banks: list[str], top: int, as_json: bool) -> None:
    """Classes of new features, with a run's head."""
    from fgen.data.predictions import STDOUT, Prediction, expect_predictions, write_predictions
    from fgen.data.tables import read_features
    from fgen.inference.from_run import predictor_of_run

    if top < 1:
        raise InputError(f"--top is {top}", "at least 1")
    expect_predictions(out)
    rows, _ = read_features(features)
    predictor = predictor_of_run(run, banks, width=rows.shape[1])
    answers = [each.tolist() for each in predictor.top(rows, top)]
    predictions = (
        Prediction(row, class_id, predictor.name(class_id), score, rank, probability)
        for row, best in enumerate(zip(*answers, strict=True))
        for rank, (class_id, score, probability) in enumerate(zip(*best, strict=True), start=1)
    )
    write_predictions(out, predictions, as_json=as_json)
    if out != STDOUT:
        say(f"predictions: {out} ({len(rows):,} rows)")


@command(
    RUN,
    argument("--format", choices=tuple(SUFFIXES), required=True, dest="file_format", help=EXPORTS),
    argument("--out", required=True, help="a file ending in .npz, .pt2 or .onnx"),
    argument("--generator", action="store_true", help="the generator: class embeddings and noise to features"),
    OVERWRITE,
)
def export(run: str, file_format: str, out: str, generator: bool, overwrite: bool) -> None:
    """A run's predictor or generator as a file that needs no fgen."""
    from fgen.inference.export import expect_suffix, export_generator
    from fgen.inference.from_run import model_of_run, predictor_of_run

    expect_suffix(out, SUFFIXES[file_format])
    if generator and file_format == "npz":
        raise InputError("--format is npz, and a generator isn't affine", "--format torch or onnx")
    if generator:
        export_generator(model_of_run(run)[0], out, overwrite=overwrite)
    else:
        predictor_of_run(run).export(out, overwrite=overwrite)
    say(f"{'generator' if generator else 'predictor'}: {out}")


@command(
    argument("head", metavar="HEAD.npz", help="W (K, D) and b (K,) over raw features, classes (K,) that RUN knows"),
    argument("--run", required=True, help="run folder, whose generator makes features of old and new classes"),
    argument("--embeddings", required=True, help=EMBEDDINGS.format("the new classes")),
    argument("--out", required=True, help="the head with the new classes, an .npz file"),
    argument("--gamma", type=float, default=0.0, help="added to the new classes' biases (default: 0.0)"),
    OVERWRITE,
)
def extend(head: str, **options: Any) -> None:
    """New classes into a linear head, whose other rows stay."""
    from fgen.inference.extend import extend_file

    say(f"{extend_file(head, **options)}\nhead: {options['out']}")
