"""The direction of imports, and what `import fgen` may pull in."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fgen
from fgen.experiment.committed import FOLDERS

ROOT = Path(fgen.__file__).parent

# From the ground up: an entry imports from floors below its own, and nothing from its neighbours.
FLOORS = [
    {"errors"},
    {"rng", "config", "compute", "io"},
    {"features", "nn"},
    {"data", "metrics", "training", "classifiers"},
    {"baselines", "models", "encoders"},
    {"experiment"},
    {"inference"},
    {"estimators", "reports"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
#: Arrays in, arrays out: what learns knows no data set.
ROOMS_WITHOUT_DATA = {"models", "training", "nn", "classifiers", "baselines"}
MOST_PARAMETERS = 8
#: Functions that users call with keywords, and may have more.
DOORS = {
    "fgen.data.dataset.ZSLDataset.__init__",
    "fgen.encoders.image_folder.dataset_of_pictures",
    "fgen.estimators.feature_synthesizer.FeatureSynthesizer.__init__",
    "fgen.estimators.multimodal.MultimodalZeroShotClassifier.__init__",
    "fgen.estimators.zero_shot_classifier.ZeroShotClassifier.__init__",
    "fgen.models.base.generator.FeatureGenerator.fit",
    "fgen.classifiers.base.Head.fit",
    "fgen.experiment.generation.generate_from_run",
}
OPTIONAL = {"sklearn", "matplotlib", "tensorboard", "transformers", "sentence_transformers", "PIL", "pandas"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "fgen":
            yield from (f"fgen.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules():
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "fgen" and len(parts) > 1 and parts[1] != room(path):
            assert FLOOR[parts[1]] < FLOOR[room(path)], f"{path.name} imports {name}, which isn't below it"
            assert not (parts[1] == "data" and room(path) in ROOMS_WITHOUT_DATA), f"{path.name} imports {name}"


def functions(path):
    """Each function of a file by its dotted name."""
    waiting = [(dotted(path), ast.parse(path.read_text(encoding="utf-8")))]
    while waiting:
        name, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}" if hasattr(child, "name") and not isinstance(child, ast.alias) else name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield inner, child
            waiting.append((inner, child))


def test_no_function_but_a_door_has_more_than_eight_parameters():
    many = {}
    for path in modules():
        for name, function in functions(path):
            parts = function.args
            names = [argument.arg for argument in (*parts.posonlyargs, *parts.args, *parts.kwonlyargs)]
            many |= {name: len(names)} if len({*names} - {"self", "cls"}) > MOST_PARAMETERS else {}
    assert many.keys() <= DOORS, many
    assert {name for name in DOORS if name not in many} == set(), "a door that got narrow is no exception any more"


def test_an_installed_fgen_has_every_file_of_the_checkout(tmp_path):
    """An editable install, as make's, would hide that a folder is no package or that a file of data is left out."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT.parent / name, tmp_path)
    shutil.copytree(ROOT, tmp_path / "fgen", ignore=shutil.ignore_patterns("__pycache__"))
    experiments = {path.name: path.read_bytes() for path in (ROOT.parent / "experiments").glob("*.toml")}
    (tmp_path / "experiments").mkdir()
    for name, content in experiments.items():
        (tmp_path / "experiments" / name).write_bytes(content)
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tomls = tmp_path / "built" / FOLDERS[0].relative_to(ROOT.parent)
    assert {path.name: path.read_bytes() for path in tomls.iterdir()} == experiments
    shutil.rmtree(tomls)
    sources, built = (
        {path.relative_to(at) for path in at.rglob("*") if path.is_file()}
        for at in (tmp_path / "fgen", tmp_path / "built" / "fgen")
    )
    assert sources == built


def test_an_editable_fgen_is_found_from_the_folder_above_its_checkout(tmp_path):
    """There the checkout, a folder that is called fgen and isn't the package, stands first in Python's path."""
    checkout, site = tmp_path / "fgen", tmp_path / "site"
    shutil.copytree(ROOT, checkout / "fgen", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT.parent / name, checkout)
    code = "from setuptools import build_meta; print(build_meta.build_editable('..'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    code = f"import site; site.addsitedir({str(site)!r}); import fgen; print(fgen.__version__)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == fgen.__version__, found.stderr


def dotted(path):
    parts = ("fgen", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_files():
    """Each module of fgen with those that it imports, also within functions and for types alone."""
    paths = {dotted(path): path for path in sorted(ROOT.rglob("*.py"))}
    graph = {}
    for name, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                modules = (f"{node.module}.{alias.name}" for alias in node.names)
                found |= {module if module in paths else node.module for module in modules}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = found & paths.keys() - {name}
    return graph


def test_no_files_import_each_other_in_a_circle():
    graph = imported_files()
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    assert not graph, f"circles among {sorted(graph)}"


def test_every_room_has_a_floor_and_there_are_at_most_ten():
    assert {room(path) for path in modules()} <= set(FLOOR)
    assert len(FLOORS) <= 10, "__main__ included"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_optional_library_is_imported_at_the_top_of_a_core_module(path):
    top = ast.parse(path.read_text(encoding="utf-8")).body
    names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in top if isinstance(node, ast.ImportFrom) and node.module]
    assert not {name.split(".")[0] for name in names} & OPTIONAL


def test_importing_fgen_pulls_in_no_optional_library():
    code = f"import fgen, sys; print(sorted(set(sys.modules) & {OPTIONAL!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_every_public_name_can_be_reached():
    for name in fgen.__all__:
        assert getattr(fgen, name) is not None
