"""Modules of torch as files that run without fgen: ``.onnx``, checked by onnxruntime, and torch's own ``.pt2``."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fgen.compute.device import matrix_precision
from fgen.errors import InputError, require
from fgen.features.scaled_rows import CPU
from fgen.inference.torch_module import GeneratorModule
from fgen.io.atomic import expect_free, new_file
from fgen.models.base.generator import FeatureGenerator
from fgen.rng import stream

#: The largest difference of an exported file's numbers, of 1 or of the largest number where that is above 1.
TOLERANCE = 1e-5
#: Rows of an example, of some classes.
EXAMPLES = 8
#: The libraries of the extra.
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def generator_example(model: FeatureGenerator) -> dict[str, Tensor]:
    """Return inputs of :class:`~fgen.inference.torch_module.GeneratorModule`: some classes, each with noise."""
    classes = np.resize(np.arange(len(model.class_embeddings)), EXAMPLES)
    noise = stream(0, "export").standard_normal((EXAMPLES, model.noise_dim), dtype=np.float32)
    return {"class_embeddings": torch.from_numpy(model.class_embeddings[classes]), "noise": torch.from_numpy(noise)}


def export_generator(model: FeatureGenerator, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a generator as ``.onnx`` or ``.pt2``: raw class embeddings and noise in, raw features out.

    Raises:
        InputError: as :func:`write_onnx` and :func:`write_torch` have it. MissingExtra: ONNX's libraries are missing.
    """
    module, inputs, metadata = GeneratorModule(model), generator_example(model), {"method": model.config.name}
    if Path(path).suffix == ".onnx":
        expected = module(**inputs).detach().numpy()
        write_onnx(module, inputs, ["features"], expected, path, metadata=metadata, overwrite=overwrite)
    else:
        write_torch(module, inputs, path, metadata=metadata, overwrite=overwrite)


class Probabilities(nn.Module):
    """What a deployed classifier answers: the probabilities of all classes and the id of the best."""

    def __init__(self, log_probabilities: nn.Module) -> None:
        super().__init__()
        self.log_probabilities = log_probabilities

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``probabilities (N, C)`` and ``class_id (N,)`` int64 of raw features ``(N, D)``."""
        scores = self.log_probabilities(features)
        return scores.exp(), scores.argmax(dim=1)


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    expected: np.ndarray,
    path: str | Path,
    *,
    metadata: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a module as ONNX by torch's default exporter, with any number of rows.

    onnxruntime runs the file on all rows and on the first alone before it takes its place.

    Args:
        module: what is exported.
        inputs: by name; at least 2 rows each.
        outputs: their names.
        expected: what the first output has to be for these inputs.
        path: an ``.onnx`` file.
        metadata: kept in the file as JSON, by name.

    Raises:
        InputError: another ending, an existing file, or numbers that differ. MissingExtra: the extra isn't installed.
    """
    onnx, _, runtime = (require(library, "onnx", "the ONNX export") for library in LIBRARIES)
    expect_suffix(path, ".onnx")
    expect_free(Path(path), overwrite=overwrite)
    with _quiet():
        program = torch.onnx.export(
            exported(module, inputs),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=_any_rows(inputs),  # else the axis is called s97
            dynamo=True,
            verbose=False,
        )
    found: Any = program.model_proto  # type: ignore[union-attr]
    onnx.helper.set_model_props(found, {name: json.dumps(value) for name, value in metadata.items()})
    content = found.SerializeToString()
    _check(runtime, content, inputs, expected)
    with new_file(Path(path), overwrite=overwrite) as partial:
        partial.write_bytes(content)


def write_torch(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: str | Path,
    *,
    metadata: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a module as ``torch.export``'s ``.pt2``, with any number of rows; ``torch.export.load`` reads it.

    The file needs no fgen and holds nothing pickled: torch stores plain tensors as bytes, and the example inputs, which
    it would pickle, are left out.

    Args:
        module: what is exported.
        inputs: by name; at least 2 rows each.
        path: a ``.pt2`` file.
        metadata: kept in the file as JSON, the extra file ``fgen.json``.

    Raises:
        InputError: another ending, or an existing file.
    """
    expect_suffix(path, ".pt2")
    expect_free(Path(path), overwrite=overwrite)
    content = io.BytesIO()
    with _quiet():
        program = exported(module, inputs)
        program.example_inputs = None
        torch.export.save(program, content, extra_files={"fgen.json": json.dumps(dict(metadata))})
    with new_file(Path(path), overwrite=overwrite) as partial:
        partial.write_bytes(content.getvalue())


def exported(module: nn.Module, inputs: Mapping[str, Tensor]) -> torch.export.ExportedProgram:
    """Return a module as torch's graph of operations, float32, for any number of rows."""
    examples, shapes = tuple(inputs.values()), _any_rows(inputs)
    with torch.no_grad(), matrix_precision("highest", CPU):
        return torch.export.export(module.eval(), examples, dynamic_shapes=shapes, strict=False)


def _any_rows(inputs: Mapping[str, Tensor]) -> tuple[dict[int, Any], ...]:
    """Return what torch's exporters are told of inputs that all have the same free number of rows."""
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in inputs)


def expect_suffix(path: str | Path, suffix: str) -> None:
    """Refuse a file's name with another ending, by which its readers would be misled."""
    if Path(path).suffix != suffix:
        raise InputError(f"{path} ends in {Path(path).suffix!r}", f"a name that ends in {suffix}")


def _check(runtime: Any, content: bytes, inputs: Mapping[str, Tensor], expected: np.ndarray) -> None:
    """Refuse a file whose first output isn't the expected rows, of all inputs and of the first row alone.

    Raises:
        InputError: the numbers differ.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    for rows in (slice(None), slice(1)):
        found = session.run(None, {name: tensor[rows].numpy() for name, tensor in inputs.items()})[0]
        gap = np.abs(found - expected[rows]).max() / max(1, np.abs(expected).max())
        if not gap <= TOLERANCE:
            remedy = "Features on another scale than in training may need float64: take to_torch().double()"
            raise InputError(f"onnxruntime's numbers differ by {gap:.1e}", f"at most {TOLERANCE}", remedy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch's exporters tell of themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
