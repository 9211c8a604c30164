"""Commands that make banks and score them."""

import json
from typing import Any

from fgen.cli.registry import EMBEDDINGS, JSON, OVERWRITE, PROGRESS, RUN, argument, command, say
from fgen.errors import InputError


@command(
    RUN,
    argument("--classes", help="unseen, seen, all, or NAME,NAME (default: unseen)"),
    argument("--n-per-class", type=int, help="rows of each class (default: 4 times a seen class's mean real rows)"),
    argument("--out", required=True, help="the bank, an .h5 file"),
    argument("--embeddings", help=EMBEDDINGS.format("classes never in the data set")),
    argument("--seed", type=int, help="seed of model and noise (default: the run's first)"),
    argument("--real", action="store_true", help="store the real training rows too"),
    argument("--validation", action="store_true", help="also write NAME.validation.h5, to calibrate classifiers on"),
    argument("--jobs", type=int, default=1, help="processes that share the classes (default: 1)"),
    OVERWRITE,
    PROGRESS,
)
def generate(out: str, validation: bool, **options: Any) -> None:
    """Features of classes into a bank."""
    from fgen.experiment.generation import generate_from_run
    from fgen.experiment.validation_bank import path_beside

    generate_from_run(out=out, validation=validation, **options)
    say(f"bank: {out}" + (f"\nvalidation bank: {path_beside(out)}" if validation else ""))


@command(
    argument("bank", help="an .h5 file that fgen generate wrote"),
    argument("--dataset", required=True, help="emoji, toy, a folder with a .mat pair, an .h5 or .npz file"),
    argument(
        "--classifier",
        default="softmax",
        help="softmax, logistic, linear_svm, knn or cosine (default: softmax); or a class or function to import, as "
        "sklearn.linear_model.LogisticRegression or mymodule:make, that makes an object with fit(X, y), and "
        "predict_proba(X) or decision_function(X), of scaled rows and labels 0 to K - 1",
    ),
    argument(
        "--set",
        action="append",
        default=[],
        metavar="classifier.KEY=VALUE",
        dest="overrides",
        help="a setting of the head, or an argument of what is imported; classifier.scaling is the head's",
    ),
    argument(
        "--gamma", type=float, help="taken from seen classes' scores (default: chosen on BANK's .validation.h5, or 0)"
    ),
    argument("--run", help="run folder, when the head lives in the method's own space"),
    argument("--seed", type=int, default=0, help="of the head's training (default: 0)"),
    JSON,
)
def evaluate(bank: str, dataset: str, classifier: str, overrides: list[str], as_json: bool, **options: Any) -> None:
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
        say(json.dumps(result.as_dict(), indent=2))
        return
    tried = {classifier: result.uncalibrated}
    if result.scores.gamma:
        tried[f"{classifier}, gamma {result.scores.gamma:.3g}"] = result.scores
    table = {label: scores.as_dict() for label, scores in tried.items()}
    cells = [[label, *(format_score({"mean": row[name]}) for name in SCORES)] for label, row in table.items()]
    say("\n".join(filter(None, [format_table(["", *SCORES], cells), result.calibration])))
