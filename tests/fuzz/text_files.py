"""CSV, TOML and JSON that are deep, huge, long, of another type, or full of characters that nobody expects."""

import json

from tests.fuzz.hdf5_files import pick

ODD_CELLS = (
    "",
    " ",
    "1e999",
    "-1e999",
    "0x10",
    "nan",
    "-inf",
    "1_000",
    "１２",
    "1,5",
    '"',
    '"a\nb"',
    "\0",
    "\x1b[31m",
    "x" * 20_000,
    "9" * 5000,
    "1e-400",
    "=1+1",
    "\ufeff",
    "é",
    "\u202e",
    "1;2",
    "\t",
    "true",
    "٣",
)


def change_csv(draw, path):
    """Cells, lines and ends of lines that no table of classes has."""
    rows = [line.split(",") for line in path.read_text().split("\n")]
    way = pick(draw, ("cell", "cell", "cell", "line", "wide", "deep", "ends", "bytes"))
    if way == "cell":
        for _ in range(int(draw.integers(1, 4))):
            row = pick(draw, rows)
            row[int(draw.integers(len(row)))] = pick(draw, ODD_CELLS)
    elif way == "line":
        rows.insert(
            int(draw.integers(len(rows) + 1)), pick(draw, (rows[0], rows[-1], [], ["a"], ["", "", ""], ["z"] * 9))
        )
    elif way == "wide":
        rows = [[*row, *["1"] * 20_000] for row in rows]
    elif way == "deep":
        rows += [[f"class {k}", "1", "2"] for k in range(3000)]
    text = pick(draw, ("\n", "\n", "\r\n", "\r", "\n\n\0") if way == "ends" else ("\n",)).join(map(",".join, rows))
    content = text.encode("utf-8", "surrogatepass")
    if way == "bytes":
        content = pick(
            draw, (text.encode("utf-16"), content + b"\xff", b"\xef\xbb\xbf" * 2 + content, content[:-1] + b'"')
        )
    path.write_bytes(content)
    return way


#: Values as TOML writes them.
TOML_VALUES = (
    "[" * 5000 + "]" * 5000,
    "{a=" * 900 + "1" + "}" * 900,
    "1" * 5000,
    "0x" + "f" * 5000,
    "1e999",
    "-nan",
    "inf",
    "-1",
    "0",
    "9223372036854775808",
    '"a\\u001b[31m"',
    '"\\u0000"',
    "'''\n'''",
    '"' + "x" * 100_000 + '"',
    "[]",
    "{}",
    "[[]]",
    "true",
    "1.5",
    "1979-05-27T07:32:00Z",
    "[1, 'a']",
    '"none"',
    '"fast"',
    "[0, 0]",
    "[-1]",
    "{x = 1}",
    '""',
    "00",
    "'",
    "0b2",
)
TOML_LINES = (
    "[a.b.c]",
    "[model]",
    "[[model]]",
    "model = 1",
    '"\x1b[31m" = 1',
    '"a\\u001b[31m" = 1',
    "[" + "a." * 3000 + "b]",
    "a" * 50_000 + " = 1",
    "x" + ".y" * 3000 + " = 1",
    "# " + "c" * 200_000,
    "=",
    "[train",
    "threads = 0",
    "[paper]\nT1 = {}",
    "\ufeff",
    "['']",
    "\0",
)


def change_toml(draw, path):
    """A value of another kind, a key or section that nobody knows, nesting without end, numbers of 5,000 digits."""
    lines = path.read_text().split("\n")
    way = pick(draw, ("value", "value", "value", "line", "line", "gone"))
    for _ in range(int(draw.integers(1, 3))):
        places = [at for at, line in enumerate(lines) if "=" in line] if way == "value" else range(len(lines))
        at = int(pick(draw, list(places) or [0]))
        if way == "value":
            lines[at] = f"{lines[at].partition('=')[0]}= {pick(draw, TOML_VALUES)}"
        elif way == "line":
            lines.insert(at, pick(draw, TOML_LINES))
        elif lines:
            del lines[at]
    path.write_text("\n".join(lines), encoding="utf-8")
    return way


#: Values as JSON writes them: Python reads NaN and Infinity too.
JSON_VALUES = (
    "null",
    "[]",
    "{}",
    '""',
    "[null]",
    "[[1]]",
    '{"a": []}',
    "true",
    "-1",
    "0",
    "1.5",
    "1e999",
    "NaN",
    "-Infinity",
    "Infinity",
    "1e308",
    "9" * 300,
    "9" * 5000,
    "100000000",
    "2147483648",
    '"\\u001b[31m"',
    '"\\ud800"',
    '"\\u0000"',
    '"' + "x" * 100_000 + '"',
    '"clswgan"',
    "[" * 300 + "]" * 300,
    "[" * 100_000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    "[1, 2, 3]",
    '["a", "a"]',
    '"../../x"',
    "{",
)
WHOLE = (
    "",
    "null",
    "[]",
    "{}",
    "3",
    '"text"',
    "[" * 100_000,
    "{" * 3000,
    "\ufeff{}",
    "NaN",
    "{}{}",
    "\0",
    "[" + "1," * 100_000 + "1]",
)
#: Stands in a document for the value that JSON itself couldn't write.
MARK = "here comes something odd"


def change_json(draw, path):
    """A value of another kind, a key more or less, one that is there twice; or another document altogether."""
    if not draw.integers(8):
        path.write_text(pick(draw, WHOLE), encoding="utf-8")
        return "another document"
    document = json.loads(path.read_text())
    places = list(_places(document))
    holder, key = pick(draw, places)
    way = pick(draw, ("value", "value", "value", "gone", "more", "twice"))
    if way == "gone":
        del holder[key]
    elif way == "more" and isinstance(holder, dict):
        holder[pick(draw, ("more", "\x1b[31m", "", "x" * 20_000))] = MARK
    else:
        holder[key] = MARK
    text = json.dumps(document, indent=pick(draw, (None, 2)))
    odd = pick(draw, JSON_VALUES)
    if way == "twice" and isinstance(holder, dict):
        odd = f"1, {json.dumps(key)}: {odd}"
    path.write_text(text.replace(json.dumps(MARK), odd), encoding="utf-8")
    return f"{way} {key}: {odd[:40]}"


def _places(node):
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])
