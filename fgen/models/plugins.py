"""Methods of other packages: an installed package brings one by an entry point of the group ``fgen.models``.

In the package's ``pyproject.toml``, of a method whose config has ``name = "mine"``:

    [project.entry-points."fgen.models"]
    mine = "mypackage.mine"

An entry point is of what a user has installed. No name in a config or a file leads to the import of anything else.
"""

import importlib
import logging
from collections import UserDict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from fgen.errors import InputError, causes
from fgen.models.base.config import ModelConfig
from fgen.models.base.generator import FeatureGenerator

log = logging.getLogger("fgen")

GROUP = "fgen.models"


class Methods(UserDict[str, type[ModelConfig]]):
    """Settings of the methods by name. A package that brings one is imported when its method is asked for.

    ``Methods(own)`` begins with those in ``own``.
    """

    def __missing__(self, name: str) -> type[ModelConfig]:
        """Return the settings of a package's method.

        Raises:
            KeyError: there is no such method. InputError: the package's method can't be used.
        """
        if name not in installed():
            raise KeyError(name)
        self.data[name] = _loaded(name)
        return self.data[name]

    def __contains__(self, name: object) -> bool:
        return name in installed() or name in self.data  # in this order: it warns of a name that is taken

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.data, *installed()]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@cache
def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of installed packages by the name of the method. Nothing is imported.

    Where a package's method has the name of one of fgen's, fgen's is used, and a warning tells of it.
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        if _is_own(entry.name):
            log.warning("the method %r of the package %s isn't used: fgen has its own", entry.name, package(entry))
        elif entry not in found.setdefault(entry.name, []):  # a folder that is twice in Python's path
            found[entry.name].append(entry)
    return found


def package(entry: EntryPoint) -> str:
    """Return the name of the package that an entry point comes from."""
    return entry.dist.name if entry.dist is not None else entry.value


def _loaded(name: str) -> type[ModelConfig]:
    """Import the package that brings a method, whose class then is in ``FeatureGenerator.methods``; return its config.

    Raises:
        InputError: two packages bring one of this name, the package can't be imported, or brings another method.
    """
    entry, *others = installed()[name]
    if others:
        names = " and ".join(map(package, (entry, *others)))
        raise InputError(f"the packages {names} both bring a method {name!r}", "one of them", "Uninstall the other")
    brings = f"the package {package(entry)} brings the method {name!r}"
    try:
        importlib.import_module(entry.module)
    except Exception as error:  # whatever a foreign package raises
        found, remedy = f"{brings}, and {entry.module} can't be imported ({causes(error)})", "Mend or uninstall it"
        raise InputError(found, "a package that fits this fgen", remedy) from error
    if name not in FeatureGenerator.methods:
        expected = f"a class Mine(FeatureGenerator, config=MineConfig), with MineConfig.name = {name!r}"
        raise InputError(f"{brings}, and {entry.module} has no such method", expected)
    return FeatureGenerator.methods[name]


def _is_own(name: str) -> bool:
    """Return whether a method is one of fgen's."""
    config = FeatureGenerator.methods.get(name)
    return config is not None and config.__module__.startswith("fgen.")
