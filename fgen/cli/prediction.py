"""Commands that use what a run has learned."""

from pathlib import Path

from fgen.cli.registry import RUN, argument, command, say


@command(
    RUN,
    argument("features", help=".h5, .npz or .npy with features (N, D)"),
    argument("--out", required=True, help="CSV; its score is the calibrated log-probability"),
    argument(
        "--bank", action="append", default=[], dest="banks", help="of classes to be answered too; may be repeated"
    ),
)
def predict(run: str, features: str, out: str, banks: list[str]) -> None:
    """Classes of new features, with a run's head."""
    from fgen.data.tables import expect_predictions, read_features, write_predictions_csv
    from fgen.inference.from_run import predictor_of_run

    expect_predictions(Path(out))
    rows, _ = read_features(features)
    predictor = predictor_of_run(run, banks, width=rows.shape[1])
    classes, scores = predictor.predict(rows)
    names = [predictor.name(class_id) for class_id in classes]
    write_predictions_csv(out, zip(range(len(classes)), classes, names, scores, strict=True))
    say(f"predictions: {out} ({len(classes):,} rows)")
