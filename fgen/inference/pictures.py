"""Rows to predict the classes of: read from a file, or made of pictures by the encoder that a run learned from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgen.data.picture_features import read_origin
from fgen.data.tables import read_features
from fgen.encoders.efficientnet import LITE0
from fgen.encoders.image import ImageEncoder, image_encoder
from fgen.encoders.image_folder import features_of_pictures
from fgen.encoders.picture_list import are_pictures, list_pictures
from fgen.errors import InputError, MissingExtra
from fgen.features.encoder_record import EncoderRecord
from fgen.features.rows import Features
from fgen.inference.from_run import encoder_of_run, predictor_of_run
from fgen.inference.predictor import Predictor

log = logging.getLogger("fgen")


@dataclass(frozen=True, eq=False)
class Question:
    """Rows whose classes are asked for, and what predicts them.

    Attributes:
        predictor: of a run.
        features: ``(N, D)``.
        names: of N pictures, where the rows are of pictures.
        paths: of N pictures, where they were given as files.
    """

    predictor: Predictor
    features: Features
    names: Sequence[str] | None = None
    paths: Sequence[Path] | None = None


def question_of(
    run: str | Path,
    sources: Sequence[str | Path],
    banks: Sequence[str | Path] = (),
    *,
    encoder: str | None = None,
    weights: str | None = None,
    keep: Path | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> Question:
    """Return what a run is asked: the features of a file or of pictures, and the run's predictor.

    Args:
        run: run folder.
        sources: one file of features, see :func:`fgen.data.tables.read_features`; or pictures, folders of them and
            tables of paths, see :func:`fgen.encoders.picture_list.list_pictures`.
        banks: see :func:`fgen.inference.from_run.predictor_of_run`.
        encoder, weights: see :func:`encoder_for`.
        keep, skip_broken, progress: see :func:`fgen.encoders.image_features.encode_images`.

    Raises:
        InputError: sources that can't be read, several files of features, or what the functions above refuse.
    """
    if not any(map(are_pictures, sources)):
        if len(sources) > 1:
            raise InputError(f"{len(sources)} files were given", "one file of features, or pictures")
        return _question_of_file(run, sources[0], banks)
    pictures = list_pictures(sources)
    network = encoder_for(run, encoder, weights)
    predictor = predictor_of_run(run, banks, width=network.record.dim)
    features, rows = features_of_pictures(
        pictures.paths, network, keep=keep, skip_broken=skip_broken, progress=progress
    )
    names, paths = ([items[row] for row in rows] for items in (pictures.names, pictures.paths))
    return Question(predictor, features, names, paths)


def _question_of_file(run: str | Path, path: str | Path, banks: Sequence[str | Path]) -> Question:
    features, _ = read_features(path)
    origin, known = read_origin(path, len(features)), encoder_of_run(run)
    if origin.image_encoder is not None and known is not None:
        expect_same_encoder(origin.image_encoder, known, run)
    return Question(predictor_of_run(run, banks, width=features.shape[1]), features, origin.names)


def encoder_for(run: str | Path, name: str | None = None, weights: str | None = None) -> ImageEncoder:
    """Return the encoder of the pictures that a run learned from.

    Args:
        run: run folder. Where it doesn't know the encoder, a warning says which one is taken.
        name: see :func:`fgen.encoders.image.image_encoder`; None takes the run's, or EfficientNet-Lite0.
        weights: file of its weights, if not those that it comes with.

    Raises:
        InputError: the run's features are another network's, of other weights or of other preprocessing.
    """
    known = encoder_of_run(run)
    if known is None:
        log.warning("%s doesn't say which encoder its features are of: %s is taken", run, name or LITE0)
        return image_encoder(name or LITE0, weights)
    try:
        encoder = image_encoder(name or known.name, weights)
    except InputError as error:
        if name is not None or weights is not None or isinstance(error, MissingExtra):
            raise
        remedy = "Give --encoder and --weights as fgen features had them"
        raise InputError(f"{run} learned from features of {known.name}: {error}", remedy=remedy) from None
    expect_same_encoder(encoder.record, known, run)
    return encoder


def expect_same_encoder(found: EncoderRecord, known: EncoderRecord, run: str | Path) -> None:
    """Refuse another encoder than the one a run learned from; warn where it can't be told.

    The name may differ where the weights are the same, as of a folder that was moved.

    Raises:
        InputError: another network, other weights or other preprocessing.
    """
    same = bool(found.weights) and found.weights == known.weights
    if found.name != known.name and not same:
        raise InputError(f"The pictures are encoded by {found.name}", f"{known.name}, as those that {run} learned from")
    if not same and found.weights and known.weights:
        expected = f"those that {run} learned from ({known.weights[:12]})"
        remedy = "Give their file by --weights"
        raise InputError(f"{found.name} has other weights (SHA-256 {found.weights[:12]})", expected, remedy)
    if not same:
        log.warning("%s: whether the weights of %s are those that it learned from can't be told", run, known.name)
    if (found.dim, dict(found.preprocessing)) != (known.dim, dict(known.preprocessing)):
        expected = f"{dict(known.preprocessing)}, as of those that {run} learned from"
        raise InputError(f"{found.name} prepares pictures by {dict(found.preprocessing)}", expected)
