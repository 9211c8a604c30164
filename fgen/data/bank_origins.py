"""What a bank notes of the runs and the data that it comes from, and what of it differs from others."""

from collections.abc import Iterable, Mapping
from typing import Any

#: What it means where a part of two data sets' ``digests`` differs.
PARTS = {
    "features": "other features (of another network, or scaled otherwise), so scores say nothing",
    "labels": "other labels",
    "classes": "other class names or embeddings",
    "training": "other training rows: test rows may have been trained on, and scores be too good",
}
UNKNOWN = (
    "other features, labels, class embeddings or splits; if features are another network's, scores say nothing, "
    "and if splits are others, test rows may have been trained on"
)


def origins(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The config of a bank, or of each of those that it was merged from."""
    found, waiting = [], [config]
    while waiting:
        one = waiting.pop()
        merged = one.get("merged")
        if isinstance(merged, list):
            waiting.extend(other for other in reversed(merged) if isinstance(other, Mapping))
        else:
            found.append(one)
    return found


def run_section(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section of the settings of the run that a bank comes from; of several runs, what is the same in all."""
    runs = [one.get("run", one) for one in origins(config)]
    found = [given for run in runs if isinstance(run, Mapping) and isinstance(given := run.get(section), Mapping)]
    if not found or any(given.get("name") != found[0].get("name") for given in found):
        return {}
    return {key: value for key, value in found[0].items() if all(key in one and one[key] == value for one in found)}


def training_digests(config: Mapping[str, Any], fingerprints: Iterable[str]) -> list[dict[str, Any]]:
    """Return the ``digests`` of each data set that a bank's generators were trained on.

    Args:
        config: the bank's.
        fingerprints: of the bank's data sets; of those that the config lacks, ``all`` alone is known.
    """
    given = (one.get("data") for one in origins(config))
    noted = [dict(data) for data in given if isinstance(data, Mapping) and isinstance(data.get("all"), str)]
    known = {data["all"] for data in noted}
    return [*noted, *({"all": sha256} for sha256 in fingerprints if sha256 not in known)]


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """The parts of :data:`PARTS` that differ between two data sets by their ``digests``, with what that means; or
    ``unknown``, where the digests of the parts weren't noted. Other validation or test rows alone make no difference.
    """
    if one["all"] == other["all"]:
        return {}
    if not all(part in one and part in other for part in PARTS):
        return {"unknown": UNKNOWN}
    return {part: told for part, told in PARTS.items() if one[part] != other[part]}
