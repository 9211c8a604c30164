"""torchvision beside the CPU build of torch: its wheels are built for CUDA, and their compiled part doesn't load."""

import importlib.util
from pathlib import Path

import torch

#: Operators of the compiled part that torchvision names when it is imported; no classifier and no transform uses them.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def _declare_operators():
    """Declare the operators, so that the import succeeds; return what keeps them declared."""
    found = importlib.util.find_spec("torchvision")
    if found is None or torch.version.cuda or "+cu" not in (Path(found.origin).parent / "version.py").read_text():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


_library = _declare_operators()
