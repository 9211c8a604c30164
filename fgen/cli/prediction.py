"""Commands that use what a run has learned."""

from fgen.cli.registry import RUN, argument, command, say
from fgen.errors import InputError


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
