"""Commands that make data sets, look at files and convert them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgen.cli.registry import DEFAULT_ENCODER, EMBEDDINGS, ENCODER, JSON, OVERWRITE, PROGRESS, argument, command, say
from fgen.errors import InputError


@command(
    argument("pictures", help="folder with a folder of pictures for each class, or a CSV file of path,class[,split]"),
    argument("--embeddings", help=EMBEDDINGS.format("all classes") + "; without it features alone are written"),
    argument("--out", required=True, help="an .h5 or .npz file, or a folder for a .mat pair"),
    *ENCODER,
    argument(
        "--unseen",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a class to test on as unseen, or a file with one on each line; may be repeated",
    ),
    OVERWRITE,
    PROGRESS,
)
def features(
    pictures: str, embeddings: str | None, out: str, unseen: list[str], overwrite: bool, **encoding: Any
) -> None:
    """Pictures into a data set, or without --embeddings into features to ask about."""
    from fgen.data.embedding_files import read_kinds
    from fgen.data.files import expect_target, save_dataset
    from fgen.data.picture_features import expect_features_target, write_picture_features
    from fgen.encoders.image import image_encoder
    from fgen.encoders.image_folder import dataset_of_pictures, features_of_pictures
    from fgen.encoders.picture_list import list_pictures

    expect = expect_features_target if embeddings is None else expect_target
    target = expect(out, overwrite=overwrite).absolute()
    encoding["keep"] = keep = target.with_name(f"{target.name}.pictures.partial")
    classes = None if embeddings is None else read_kinds(embeddings)
    encoder = image_encoder(encoding.pop("encoder") or DEFAULT_ENCODER, encoding.pop("weights"))
    if classes is None:
        if unseen:
            raise InputError("--unseen was given without --embeddings", "both, for a data set")
        asked = list_pictures([pictures])
        rows, kept = features_of_pictures(asked.paths, encoder, **encoding)
        write_picture_features(out, rows, [asked.names[k] for k in kept], encoder.record, overwrite=overwrite)
        told = f"{len(rows):,} x {rows.shape[1]} features of {encoder.record.name}"
    else:
        chosen = [name for each in unseen for name in _class_list(each, classes[0])]
        dataset = dataset_of_pictures(pictures, *classes, unseen=chosen, encoder=encoder, **encoding)
        save_dataset(dataset, out, overwrite=overwrite)
        told = repr(dataset)
    keep.unlink()
    say(f"{told}\nwritten: {out}")


def _class_list(given: str, names: Sequence[str]) -> list[str]:
    """Return a class, or those that a file lists, one on each line."""
    from fgen.data.tables import read_descriptions_csv

    return [given] if given in names or not Path(given).is_file() else read_descriptions_csv(given)[0]


@command(argument("path", help="any file or folder of fgen's, or emoji or toy"), JSON)
def inspect(path: str, as_json: bool) -> None:
    """What a data set, bank, run folder, model, head or other file of fgen holds."""
    from fgen.data.files import expect_source
    from fgen.io.consistent_read import current

    if not path.endswith(".toml"):
        expect_source(str(current(Path(path))))  # before torch is imported
    from fgen.reports import inspection

    facts = inspection.inspect(path)
    say(json.dumps(facts, indent=2) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


@command(
    argument("source", help="emoji, toy, a folder with a .mat pair, an .h5 or .npz file"),
    argument("target", help="an .h5 or .npz file, or a folder for a .mat pair"),
    OVERWRITE,
)
def convert(source: str, target: str, overwrite: bool) -> None:
    """A data set from one format to another."""
    from fgen.data.files import expect_target, load_dataset, save_dataset

    expect_target(target, overwrite=overwrite)
    dataset = load_dataset(source)
    save_dataset(dataset, target, overwrite=overwrite)
    for note in dataset.notes:
        say(f"note: {note}")
    say(f"{dataset!r}\nwritten: {target}")
