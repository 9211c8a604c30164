"""The experiments that come with fgen: TOML files to run by name, or to begin one's own with.

They are the files of ``experiments/`` in a checkout, and of ``tomls/`` beside this one in an installed package.
"""

import re
from pathlib import Path
from typing import Any

from fgen.config import dump_toml
from fgen.data.dataset import ZSLDataset
from fgen.data.files import BUILT_IN
from fgen.errors import InputError, did_you_mean, visible

FOLDERS = (Path(__file__).with_name("tomls"), Path(__file__).parents[2] / "experiments")
#: What one's own data are begun with: the method that README recommends.
START = "fgen2026_priorgan_emoji"
#: Keys that say which data; the others of the section say how embeddings are prepared.
OF_DATA = re.compile(r"(name|path|embedding)\s*=")
#: Sections on scores, which are of the data that they were measured on.
NOTES = ("[paper]", "[ours]")


def committed_experiments() -> dict[str, Path]:
    """Return the files by their names without ``.toml``, in alphabetical order."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_experiment(source: str) -> Path:
    """Return the path of a TOML file; of a bare name that is no file's, of the experiment that comes with fgen.

    Raises:
        InputError: a bare name that no experiment has.
    """
    path = Path(source)
    if path.exists() or path.suffix or path.name != source:
        return path
    return committed_experiment(source)


def committed_experiment(name: str) -> Path:
    """Return the file of an experiment that comes with fgen.

    Raises:
        InputError: there is none of that name; the message has the nearest.
    """
    known = committed_experiments()
    if name not in known:
        remedy = did_you_mean(name, known) or "fgen new lists those that come with fgen"
        raise InputError(f"{name!r} is neither a file nor an experiment of fgen's", "a TOML file, or a name", remedy)
    return known[name]


def experiment_on(name: str, dataset: ZSLDataset) -> str:
    """Return the TOML text of an experiment that comes with fgen, to be run on other data.

    Comments and all settings but those of the data stay; notes on scores are left out.

    Args:
        name: of the experiment, whose file has a key on each line.
        dataset: from :func:`fgen.load_dataset`, whose name or path and kinds of class embedding take their place.
    """
    text = committed_experiment(name).read_text(encoding="utf-8")
    head, *sections = re.split(r"(?m)^(?=\[)", text)
    sections = [section for section in sections if not section.startswith(NOTES)]
    sections = [_of_data(section, dataset) if section.startswith("[dataset]") else section for section in sections]
    return f"# Settings of fgen's {name}, for {visible(dataset.name)}.\n#\n{head}{''.join(sections)}"


def _of_data(section: str, dataset: ZSLDataset) -> str:
    """Return the text of the section ``[dataset]`` with a data set's own name or path and embeddings."""
    header, *lines = section.splitlines(keepends=True)
    return "".join([header, _source(dataset), *(line for line in lines if not OF_DATA.match(line))])


def _source(dataset: ZSLDataset) -> str:
    """Return the lines that name the data set and the kinds of class embedding in use."""
    source = dataset.source[0] if dataset.source is not None else dataset.name
    keys: dict[str, Any] = {"name" if source in BUILT_IN else "path": source}
    if len(dataset.embeddings) == 1:
        return dump_toml(keys)
    kinds = visible(", ".join(dataset.embeddings))
    return f"{dump_toml(keys)}# kinds of class embedding in the data: {kinds}\n" + dump_toml(
        {"embedding": list(dataset.embedding)}
    )
