"""A page with a thumbnail of each picture, and the classes that a run answers."""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fgen.encoders.pictures import open_picture
from fgen.inference.pictures import Question
from fgen.reports.html_page import heading, note, write_page

#: Width and height, in pixels, that a thumbnail fits into.
SIDE = 128
#: Pictures on a page. Each takes about 5 kB, and a browser shows ten thousand slowly.
MOST = 1000
STYLE = """<style>
body { max-width: 84rem }
.sheet { display: flex; flex-wrap: wrap; gap: 1rem }
.sheet figure { width: 15rem; box-sizing: border-box; margin: 0; padding: .6rem }
.sheet figure { border: 1px solid #ddd; border-radius: .4rem; overflow: hidden }
.sheet .thumbnail { height: 128px; display: flex; align-items: center; justify-content: center }
.sheet .file { font-size: .8rem; color: #666; overflow-wrap: anywhere; margin: .4rem 0 }
.sheet .answer { position: relative; z-index: 0; padding: 0 .3rem }
.sheet .answer { display: flex; justify-content: space-between; gap: .5rem }
.sheet .bar { position: absolute; left: 0; top: 2px; bottom: 2px; background: #cfe0f3; z-index: -1 }
.sheet .unseen .bar { background: #f6d9b8 }
.sheet .name { overflow-wrap: anywhere }
</style>"""


def write_answer_sheet(
    out: str | Path, run: str, asked: Question, class_ids: np.ndarray, probabilities: np.ndarray
) -> None:
    """Write a page that needs no other file; an older page of fgen's under that name is replaced.

    Args:
        out: the ``.html`` file.
        run: what the title calls the run.
        asked: N pictures that were given as files; the first 1,000 are shown.
        class_ids, probabilities: ``(N, K)`` of the answers, the most probable first.

    Raises:
        InputError: ``out`` is something else, or a file is no picture. MissingExtra: without ``fgen[image]``.
    """
    write_page(out, f"fgen: answers of {run}", _parts(run, asked, class_ids, probabilities))


def _parts(run: str, asked: Question, class_ids: np.ndarray, probabilities: np.ndarray) -> Iterable[str]:
    """Yield the parts of the page, a thumbnail at a time."""
    yield STYLE
    yield heading(1, f"Answers of {run}")
    shown = f", of which the first {MOST:,} are shown" if len(class_ids) > MOST else ""
    yield note(
        f"{len(class_ids):,} pictures{shown}. A bar is as long as its class is probable. It is orange where the class "
        "had no pictures to learn from, and blue where it had some."
    )
    yield '<div class="sheet">'
    seen, predictor = {*asked.predictor.seen.tolist()}, asked.predictor
    answers = zip(class_ids[:MOST].tolist(), probabilities[:MOST].tolist(), strict=True)
    for path, name, best in zip(asked.paths or (), asked.names or (), answers, strict=False):
        lines = "".join(_line(predictor.name(k), share, k in seen) for k, share in zip(*best, strict=True))
        yield (
            f'<figure><div class="thumbnail">{_thumbnail(path, name)}</div>'
            f'<figcaption><div class="file">{html.escape(name)}</div>{lines}</figcaption></figure>'
        )
    yield "</div>"


def _line(class_name: str, probability: float, is_seen: bool) -> str:
    """Return one answer, with a bar as long as it is probable."""
    bar = f'<span class="bar" style="width: {100 * probability:.1f}%"></span>'
    name = f'<span class="name">{html.escape(class_name)}</span>'
    kind = "answer" if is_seen else "answer unseen"
    return f'<div class="{kind}">{bar}{name}<span>{100 * probability:.0f} %</span></div>'


def _thumbnail(path: Path, name: str) -> str:
    """Return a picture as an embedded JPEG."""
    picture = open_picture(path)
    picture.thumbnail((SIDE, SIDE))
    picture.save(content := io.BytesIO(), format="JPEG", quality=80)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/jpeg;base64,{data}">'
