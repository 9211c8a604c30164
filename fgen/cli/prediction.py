"""Commands that use what a run has learned."""

from pathlib import Path
from typing import Any

from fgen.cli.registry import EMBEDDINGS, ENCODER, OVERWRITE, PROGRESS, RUN, argument, command, say
from fgen.errors import InputError

EXPORTS = "npz: W, b, classes of a linear predictor; torch: a .pt2 of torch.export; onnx: checked by onnxruntime"
SUFFIXES = {"npz": ".npz", "torch": ".pt2", "onnx": ".onnx"}


@command(
    RUN,
    argument(
        "sources",
        nargs="+",
        metavar="features",
        help="pictures, a folder of them, or a CSV file with a column path; or a file of features (N, D): .h5, .npz, "
        ".npy, .mat or .csv",
    ),
    argument("--out", default="-", help="CSV; its score is the calibrated log-probability (default: -, which prints)"),
    argument(
        "--bank", action="append", default=[], dest="banks", help="of classes to be answered too; may be repeated"
    ),
    argument("--top", type=int, default=1, metavar="K", help="the K most probable classes of each row (default: 1)"),
    argument("--json", action="store_true", dest="as_json", help="a list of objects in place of the CSV table"),
    argument("--html", metavar="FILE", help="write a page with a thumbnail of each picture and its answers too"),
    *ENCODER,
    PROGRESS,
    prints=True,
)
def predict(
    run: str, sources: list[str], out: str, banks: list[str], top: int, as_json: bool, html: str | None, **encoding: Any
) -> None:
    """Classes of new pictures or features, with a run's head."""
    from fgen.data.predictions import STDOUT, Prediction, expect_predictions, write_predictions
    from fgen.encoders.picture_list import are_pictures
    from fgen.inference.pictures import question_of
    from fgen.reports.answer_sheet import write_answer_sheet
    from fgen.reports.html_page import expect_page

    if top < 1:
        raise InputError(f"--top is {top}", "at least 1")
    expect_predictions(out)
    if html is not None:
        expect_page(html)
        if not any(map(are_pictures, sources)):
            raise InputError(f"--html was given with {sources[0]}", "pictures, which it shows")
    keep = None if out == STDOUT else Path(f"{out}.pictures.partial").absolute()
    asked = question_of(run, sources, banks, keep=keep, **encoding)
    predictor = asked.predictor
    ids, scores, shares = predictor.top(asked.features, top)
    predictions = (
        Prediction(row, class_id, predictor.name(class_id), score, rank, probability)
        for row, best in enumerate(zip(ids.tolist(), scores.tolist(), shares.tolist(), strict=True))
        for rank, (class_id, score, probability) in enumerate(zip(*best, strict=True), start=1)
    )
    write_predictions(out, predictions, as_json=as_json, files=asked.names)
    if html is not None:
        write_answer_sheet(html, run, asked, ids, shares)
    if keep is not None:
        keep.unlink(missing_ok=True)
    if out != STDOUT:
        say(f"predictions: {out} ({len(asked.features):,} rows)")


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
