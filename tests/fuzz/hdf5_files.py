"""HDF5 files that are whole and odd: types, shapes, storage, links, attributes and texts that nobody expects.

All of it is what HDF5 itself offers and survives: what crashes it or slips past a check isn't made here.
"""

from contextlib import suppress

import h5py
import numpy as np

LONG = "x" * 20_000
TEXTS = ("", "a\x1b[31mb", "é" * 300, LONG, "a\nb", "<b>", b"\xff\xfe", "same", "same", "\u202eabc", "0", "nan")


def pick(draw, options):
    return options[int(draw.integers(len(options)))]


def _float(bits, sign, exponent, mantissa, bias):
    kind = (h5py.h5t.IEEE_F64LE if bits > 32 else h5py.h5t.IEEE_F32LE if bits > 16 else h5py.h5t.IEEE_F16LE).copy()
    kind.set_fields(sign, mantissa, exponent, 0, mantissa)
    kind.set_ebias(bias)
    return kind


def _integer(base, precision, offset):
    kind = base.copy()
    kind.set_precision(precision)
    kind.set_offset(offset)
    return kind


def odd_types():
    """Types by name; those of NumPy are among them."""
    h5t = h5py.h5t
    made = {
        name: h5t.py_create(np.dtype(name)) for name in (">f4", "f2", "f8", "i1", "u8", ">i2", "c8", "S3", "V5", "?")
    }
    made |= {
        "bfloat16": _float(16, 15, 8, 7, 127),
        "float with another bias": _float(32, 31, 8, 23, 100),
        "float16 with another bias": _float(16, 15, 5, 10, 3),
        "double with another bias": _float(64, 63, 11, 52, 500),
        "12 bits of 32": _integer(h5t.STD_I32LE, 12, 8),
        "7 bits of 8": _integer(h5t.STD_U8LE, 7, 1),
        "33 bits of 64": _integer(h5t.STD_I64BE, 33, 20),
        "bits": h5t.STD_B32LE,
        "text": h5t.py_create(h5py.string_dtype(), logical=True),
        "fixed text": h5t.py_create(h5py.string_dtype(length=9), logical=True),
        "long fixed text": h5t.py_create(h5py.string_dtype(length=20_000), logical=True),
        "reference": h5t.py_create(h5py.ref_dtype, logical=True),
        "region": h5t.py_create(h5py.regionref_dtype, logical=True),
        "lists": h5t.py_create(h5py.vlen_dtype(np.int32), logical=True),
        "compound": h5t.py_create(np.dtype([("a", "f4"), ("b", "i2")])),
        "array": h5t.py_create(np.dtype(("f4", (3,)))),
        "enum": h5t.py_create(h5py.enum_dtype({"A": 1, "B": 4}), logical=True),
    }
    return made


def storage(draw, shape, kind):
    """Creation properties, and what they are called."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    way = pick(draw, ("contiguous", "contiguous", "contiguous", "compact", "chunked", "packed", "checked", "early"))
    if way == "compact":
        plan.set_layout(h5py.h5d.COMPACT)
    if way in ("chunked", "packed", "checked") and shape:
        plan.set_chunk(tuple(max(1, int(draw.integers(1, max(2, size + 2)))) for size in shape))
        if way == "packed":
            plan.set_shuffle()
            plan.set_deflate(9)
        if way == "checked":
            plan.set_fletcher32()
    if way == "early":
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    return plan, way


def another_type(draw, file, name):
    kinds = odd_types()
    kind = pick(draw, sorted(kinds))
    return f"{kind}, {make(draw, file, name, kinds[kind])}"


def make(draw, file, name, kind, shape=None):
    """A dataset of a type in the place of ``name``, with its values where they can be had in it."""
    values = file[name][...]
    shape = np.shape(values) if shape is None else shape
    del file[name]
    plan, way = storage(draw, shape, kind)
    group, leaf = file[name.rpartition("/")[0] or "/"], name.rpartition("/")[2]
    try:
        made = h5py.h5d.create(group.id, leaf.encode(), kind, h5py.h5s.create_simple(shape), dcpl=plan)
    except (ValueError, RuntimeError, OSError, TypeError):  # compact beyond 64 KiB, a chunk of no size
        made = h5py.h5d.create(group.id, leaf.encode(), kind, h5py.h5s.create_simple(shape))
    with suppress(Exception):  # h5py makes no such values of these: what isn't written is zeros
        h5py.Dataset(made)[...] = values if np.shape(values) == shape else np.resize(values, shape)
    return way


def another_shape(draw, file, name):
    was = file[name].shape
    shapes = [(), (0,), (1,), was[::-1], (*was, 1), (0, *was[1:]), (2 * was[0], *was[1:]) if was else (2,)]
    shape = pick(draw, shapes)
    return f"{shape}, {make(draw, file, name, file[name].id.get_type(), shape)}"


def a_giant(draw, file, name):
    """A shape with nothing behind it."""
    kind, was = file[name].dtype, file[name].shape
    shape = (pick(draw, (2**31, 10**12, 2**40)), *was[1:])
    if shape[1:] == () and not was:
        shape = ()
    chunks = pick(draw, (None, True)) if shape else None
    del file[name]
    with suppress(ValueError, OSError):
        file.create_dataset(
            name, shape=shape, dtype=kind, chunks=chunks, compression=pick(draw, (None, "gzip")) if chunks else None
        )
    return f"{shape}, {'chunked' if chunks else 'contiguous'}"


def nothing(draw, file, name):
    kind = file[name].dtype
    del file[name]
    file[name] = h5py.Empty(kind)
    return "no dataspace"


def odd_values(draw, file, name):
    values = file[name][...]
    if values.dtype.kind in "OS" or not np.ndim(values) or not values.size:
        return odd_texts(draw, file, name)
    with np.errstate(all="ignore"):
        value = np.float64(pick(draw, (np.nan, np.inf, -1, 1e30, 2**31, 0.5, 1e300)))
        values.flat[int(draw.integers(values.size))] = value.astype(values.dtype)
    file[name][...] = values
    return f"{value}"


def odd_texts(draw, file, name):
    name = "class_names" if "class_names" in file else name
    if h5py.check_string_dtype(file[name].dtype) is None or file[name].ndim != 1:
        return "no texts"
    values = [value.decode() for value in file[name][...]]
    for _ in range(int(draw.integers(1, 4))):
        values[int(draw.integers(len(values)))] = pick(draw, TEXTS)
    encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
    del file[name]
    chunks = pick(draw, (None, None, (2,)))
    file.create_dataset(name, data=encoded, dtype=h5py.string_dtype(), chunks=chunks)
    return "texts"


def odd_link(draw, file, name):
    way = pick(draw, ("soft", "dangling", "external", "hard", "cycle", "gone", "group", "type", "renamed", "virtual"))
    kept = file[name]
    shape, dtype = kept.shape, kept.dtype
    target = file.id if way == "cycle" else kept.id
    others = [other for other in ("labels", "features") if other in file and other != name]
    if way == "hard" and others:
        target = file[others[0]].id
    del file[name]
    if way == "soft":
        file["behind"] = kept
        file[name] = h5py.SoftLink("/behind")
    elif way == "dangling":
        file[name] = h5py.SoftLink("/nowhere\x1b")
    elif way == "external":
        file[name] = h5py.ExternalLink("elsewhere.h5", "/x")
    elif way in ("hard", "cycle"):
        group = file[name.rpartition("/")[0] or "/"]
        h5py.h5o.link(target, group.id, name.rpartition("/")[2].encode())
    elif way == "group":
        file.create_group(name)
    elif way == "type":
        file[name] = np.dtype("f4")
    elif way == "renamed":
        file[f"{name}\x1b[31m"] = kept
    elif way == "virtual" and shape and not dtype.hasobject:
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("elsewhere.h5", "x", shape)
        file.create_virtual_dataset(name, layout)
    return way


def odd_attribute(draw, file, name):
    holder = file if draw.integers(4) else file[name]
    key = pick(draw, [*file.attrs, "MATLAB_empty", "note"])
    values = (
        *TEXTS,
        1,
        -1,
        1.0,
        2**63 - 1,
        np.nan,
        [1, 2],
        ["a", "b"],
        [[1]],
        h5py.Empty("f4"),
        np.bytes_(b"x"),
        True,
        LONG * 4,
    )
    way = int(draw.integers(5))
    if way == 0:
        holder.attrs.pop(key, None)
        return f"no {key}"
    if way == 1:
        for number in range(100):  # so many lie elsewhere in the file
            holder.attrs[f"note {number}"] = "y" * int(draw.integers(600))
        return "many attributes"
    value = pick(draw, values)
    with suppress(ValueError, OSError, RuntimeError, TypeError):  # more than an attribute may hold
        holder.attrs[key] = value
    return f"{key}"


CHANGES = (
    another_type,
    another_type,
    another_type,
    another_shape,
    a_giant,
    nothing,
    odd_values,
    odd_texts,
    odd_link,
    odd_attribute,
    odd_attribute,
)


def datasets_of(file):
    names = []
    file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
    return sorted(name for name in names if not name.startswith("#"))


def change_hdf5(draw, path):
    """Make an HDF5 file odd in one or two ways; returns which."""
    told = []
    with h5py.File(path, "r+") as file:
        for _ in range(int(draw.choice([1, 1, 2]))):
            name, change = pick(draw, datasets_of(file)), pick(draw, CHANGES)
            with suppress(KeyError):  # the first change took away what the second was for
                told.append(f"{name} {change.__name__} {change(draw, file, name)}")
            if change is a_giant:  # nothing here shall read that
                break
        # Much lies behind, so that what is read beyond a dataset's end would be read as numbers.
        file["behind everything"] = np.full(500, 7.0, np.float32)
    return "; ".join(told)
