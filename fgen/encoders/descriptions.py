"""Class embeddings of classes that are described by one or several texts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fgen.encoders.base import TextEncoder
from fgen.encoders.passages import normalized_mean
from fgen.errors import InputError, shortened
from fgen.io.atomic import lock_file

#: Texts that are encoded before they are stored.
CHUNK = 64
#: Seconds after which a bar is shown.
PATIENCE = 2.0
PLACE = "{}"


def in_templates(text: str, templates: Sequence[str]) -> list[str]:
    """Return a text in each template, such as ``"a photo of a {}"``; without templates the text alone.

    Raises:
        InputError: a template without ``{}``.
    """
    for template in templates:
        if PLACE not in template:
            raise InputError(f"the template {shortened(template)} has no {PLACE}", "as 'a photo of a {}'")
    return [template.replace(PLACE, text) for template in templates] or [text]


def embed_classes(
    encoder: TextEncoder,
    descriptions: Mapping[str, Sequence[str]],
    *,
    templates: Sequence[str] = (),
    batch_size: int = 1,
    device: str = "cpu",
    show_progress_bar: bool = False,
    keep: Path | None = None,
) -> np.ndarray:
    """Return class embeddings ``(C, A)`` float32 of classes with one or several descriptions.

    A class's embedding is that of its text. If a class has several texts, or there are several templates, each
    embedding is normalised, a class gets their mean, and this is normalised (Radford et al. 2021).

    Args:
        encoder: of the texts.
        descriptions: C classes, and the texts of each.
        templates: sentences with ``{}``, in which each text is put.
        batch_size, device: see the encoder.
        show_progress_bar: show a bar if it takes more than two seconds.
        keep: file to store embeddings of finished texts in, so that a killed call resumes; the same bytes come of it.
            The caller removes it when the result is saved.

    Raises:
        InputError: a template without ``{}``, a class without text, or what the encoder refuses; another process is at
            work with the file.
    """
    texts = [[put for text in own for put in in_templates(text, templates)] for own in descriptions.values()]
    for name, own in zip(descriptions, texts, strict=True):
        if not own:
            raise InputError(f"the class {shortened(name)} has no description", "at least one text")
    every = [text for own in texts for text in own]
    if keep is None:
        rows = encoder.encode(every, batch_size=batch_size, device=device, show_progress_bar=show_progress_bar)
    else:
        rows = _encode_resumably(encoder, every, keep, batch_size, device, show_progress_bar)
    if len(every) == len(texts):
        return rows
    return np.stack([normalized_mean(part) for part in np.split(rows, np.cumsum([*map(len, texts)])[:-1])])


def _encode_resumably(
    encoder: TextEncoder, texts: list[str], keep: Path, batch_size: int, device: str, show_progress_bar: bool
) -> np.ndarray:
    """Return what the encoder returns of texts, of which a file holds those of an earlier call that was killed.

    The file holds the hash of the encoder and the texts, then rows ``(n, A)`` float32 of the first of them. Texts are
    encoded in parts whose size doesn't depend on where a call stopped.
    """
    part = max(1, CHUNK // batch_size) * batch_size
    known = json.dumps([encoder.record.to_json(), batch_size, device, texts])
    head = hashlib.sha256(known.encode()).digest()
    size = 4 * encoder.record.dim
    with keep.open("a+b") as file:
        lock_file(file.fileno(), keep)
        file.seek(0)
        done = 0
        if file.read(len(head)) == head:
            done = (keep.stat().st_size - len(head)) // (size * part) * part
        file.truncate(len(head) + done * size if done else 0)
        if not done:
            file.write(head)
        with tqdm(total=len(texts), initial=done, unit="text", delay=PATIENCE, disable=not show_progress_bar) as bar:
            for start in range(done, len(texts), part):
                rows = encoder.encode(texts[start : start + part], batch_size=batch_size, device=device)
                file.write(rows.astype("<f4").tobytes())
                file.flush()
                bar.update(len(rows))
        file.seek(len(head))
        return np.frombuffer(file.read(), "<f4").reshape(len(texts), -1).astype(np.float32)
