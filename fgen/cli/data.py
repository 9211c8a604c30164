"""Commands that make data sets, look at files and convert them."""

import json
from pathlib import Path

from fgen.cli.registry import EMBEDDINGS, JSON, OVERWRITE, PROGRESS, argument, command, say


@command(
    argument("pictures", help="folder with a folder of pictures for each class"),
    argument("--embeddings", required=True, help=EMBEDDINGS.format("all classes")),
    argument("--out", required=True, help="an .h5 or .npz file, or a folder for a .mat pair"),
    argument(
        "--unseen", action="append", default=[], metavar="NAME", help="a class to test on as unseen; may be repeated"
    ),
    OVERWRITE,
    PROGRESS,
)
def features(pictures: str, embeddings: str, out: str, unseen: list[str], overwrite: bool, progress: bool) -> None:
    """A folder of pictures into a data set."""
    from fgen.data.embedding_files import read_kinds
    from fgen.data.files import expect_target, save_dataset
    from fgen.encoders.image_folder import dataset_of_pictures

    names, kinds = read_kinds(embeddings)
    target = expect_target(out, overwrite=overwrite).absolute()
    keep = target.with_name(f"{target.name}.pictures.partial")
    dataset = dataset_of_pictures(pictures, names, kinds, unseen=unseen, keep=keep, progress=progress)
    save_dataset(dataset, out, overwrite=overwrite)
    keep.unlink()
    say(f"{dataset!r}\nwritten: {out}")


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
