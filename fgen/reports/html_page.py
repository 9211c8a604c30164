"""Parts of a self-contained HTML page: tables, embedded pictures, paragraphs. All text is escaped."""

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fgen.errors import InputError
from fgen.io.atomic import expect_free, new_file

#: The first bytes of a page, by which fgen recognises its own.
HEAD = "<!doctype html>\n<!-- fgen report -->\n"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem; border-top: 1px solid #ddd; padding-top: 1rem }
div { overflow-x: auto }
table { border-collapse: collapse; margin: .8rem 0 }
td, th { padding: .25rem .8rem .25rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee }
td.words, th.words { text-align: left; white-space: normal; min-width: 9rem }
img { max-width: 100%; height: auto }
.warning { color: #a33; font-weight: 600 }
.note { color: #666 }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto }
"""


def page(title: str, parts: Iterable[str]) -> Iterable[str]:
    """Yield the page's text, part by part."""
    yield f'{HEAD}<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>\n'
    for part in parts:
        yield f"{part}\n"


def expect_page(out: str | Path) -> None:
    """Refuse what :func:`write_page` can't write to, before work is done for it.

    Raises:
        InputError: another ending than ``.html``, a file that is no page of fgen's, or a folder that isn't there.
    """
    out = Path(out)
    if out.is_file() and not out.read_bytes().startswith(HEAD.encode()):
        raise InputError(f"{out} exists and is no report", "a new name, or an older report")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out} ends in {out.suffix!r}", "an .html file")
    expect_free(out, overwrite=True)


def write_page(out: str | Path, title: str, parts: Iterable[str]) -> None:
    """Write a page, whole or not at all, in place of an older one."""
    expect_page(out)
    with new_file(Path(out), overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(page(title, parts))


def heading(level: int, text: str) -> str:
    """Return a heading, ``<h1>`` to ``<h6>``."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def note(text: str, kind: str = "note") -> str:
    """Return a paragraph; ``kind`` is ``"note"`` or ``"warning"``."""
    return f'<p class="{kind}">{html.escape(text)}</p>'


def folded(summary: str, text: str) -> str:
    """Return preformatted text that is hidden until its summary is clicked."""
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (0,)) -> str:
    """Return a table.

    Args:
        header: a cell for each column, or nothing.
        words: the columns that hold no numbers.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="words"' if column in words else "" for column in range(len(cells))]
        return "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    lines = [*([line(header, "th")] if header else []), *(line(row, "td") for row in rows)]
    return f"<div><table>{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table></div>"


def picture(draw: Callable[[io.BytesIO], None], what: str) -> str:
    """Return the PNG that ``draw`` writes as an embedded image, with ``what`` as its alternative text."""
    buffer = io.BytesIO()
    draw(buffer)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{html.escape(what)}" src="data:image/png;base64,{data}"></p>'
