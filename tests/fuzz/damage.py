"""Damage to bytes: each function takes a generator and a bytearray and changes it."""

import struct


def truncate(draw, data):
    del data[int(draw.integers(len(data))) :]


def flip_bits(draw, data):
    for _ in range(int(draw.integers(1, 20))):
        data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))


def flip_early_bits(draw, data):
    """Headers and tags lie at the front and are few beside the numbers."""
    for _ in range(int(draw.integers(1, 6))):
        data[int(draw.integers(min(len(data), 2048)))] ^= 1 << int(draw.integers(8))


def fill_run(draw, data):
    start = int(draw.integers(len(data)))
    stop = min(len(data), start + int(draw.integers(1, 300)))
    data[start:stop] = bytes([int(draw.choice([0, 255, 32]))]) * (stop - start)


def splice(draw, data):
    start, stop = sorted(int(at) for at in draw.integers(len(data), size=2))
    piece, at = bytes(data[start : min(stop, start + 500)]), int(draw.integers(len(data)))
    data[at : at + len(piece) * int(draw.integers(2))] = piece


def cut_out(draw, data):
    start = int(draw.integers(len(data)))
    del data[start : start + int(draw.integers(1, 200))]


def claim_a_giant(draw, data):
    """A size field becomes huge: sizes are aligned integers of four or eight bytes with a small value."""
    aligned = [at for at in range(0, len(data) - 8, 4) if 0 < struct.unpack_from("<I", data, at)[0] < 5000]
    for at in draw.choice(aligned, size=int(draw.integers(1, 4))) if aligned else ():
        struct.pack_into("<I", data, int(at), int(draw.choice([0, 2**16, 2**30, 2**31 - 1, 2**32 - 1])))


def append_noise(draw, data):
    data += draw.bytes(int(draw.integers(1, 300)))


def replace_all(draw, data):
    data[:] = draw.bytes(int(draw.integers(0, 600)))


DAMAGES = (
    truncate,
    flip_bits,
    flip_early_bits,
    flip_early_bits,
    fill_run,
    splice,
    cut_out,
    claim_a_giant,
    claim_a_giant,
    append_noise,
    replace_all,
)


def damage_bytes(draw, path):
    """Damage a file's bytes one to three times; returns what was done."""
    data, names = bytearray(path.read_bytes()), []
    for _ in range(int(draw.choice([1, 1, 2, 3]))):
        damage = DAMAGES[int(draw.integers(len(DAMAGES)))]
        if data:
            damage(draw, data)
        names.append(damage.__name__)
    path.write_bytes(data)
    return ", ".join(names)
