"""The command that makes class embeddings of descriptions in words."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgen.cli.registry import OVERWRITE, PROGRESS, argument, command, say
from fgen.errors import InputError

if TYPE_CHECKING:
    from fgen.encoders.base import TextEncoder

log = logging.getLogger("fgen")


@command(
    argument(
        "descriptions",
        help="CSV: on each line a class's name, and what else is said of it; a class may have several lines. Or a "
        "folder of texts NAME.txt",
    ),
    argument("--out", required=True, help=".csv, or .npz, which also remembers the encoder"),
    argument(
        "--encoder",
        help="sentence[:NAME], by default MiniLM; word[:FILE], by default GloVe; hf:FOLDER, a Transformer; "
        "open_clip:FOLDER, CLIP's; tfidf[:FOLDER], for long texts (default: sentence)",
    ),
    argument("--model", help="the same as --encoder sentence:MODEL"),
    argument("--like", metavar="FILE", help="an .npz of fgen embed: encode as its embeddings were"),
    argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="a setting of the encoder, as pooling=cls, idf=true, truncate_dim=64; may be repeated",
    ),
    argument(
        "--template",
        action="append",
        default=[],
        metavar="TEXT",
        dest="templates",
        help="a sentence such as 'a photo of a {}' to put each text in; may be repeated",
    ),
    argument("--batch-size", type=int, default=1, help="texts encoded together; more is faster (default: 1)"),
    argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)"),
    argument("--save-encoder", metavar="FOLDER", help="keep what tfidf learned, for --encoder tfidf:FOLDER"),
    OVERWRITE,
    PROGRESS,
)
def embed(descriptions: str, out: str, overwrite: bool, progress: bool, **options: Any) -> None:
    """Descriptions in words into class embeddings."""
    from fgen.data.embedding_files import write_embeddings
    from fgen.data.tables import read_descriptions
    from fgen.encoders.descriptions import embed_classes
    from fgen.encoders.text import record_of
    from fgen.features.labels import unusual_embeddings_warning
    from fgen.io.atomic import expect_free

    chosen = _Options(**options)
    expect_free(Path(out), overwrite=overwrite)
    encoder, templates = chosen.encoder_and_templates()
    texts = read_descriptions(descriptions)
    keep = _fitted(encoder, texts, chosen.save_encoder, Path(out))
    embeddings = embed_classes(
        encoder,
        texts,
        templates=templates,
        batch_size=chosen.batch_size,
        device=chosen.device,
        show_progress_bar=progress,
        keep=keep,
    )
    if odd := unusual_embeddings_warning(embeddings, list(texts)):
        log.warning("%s: %s", descriptions, odd)
    write_embeddings(out, list(texts), embeddings, record_of(encoder, templates).to_json(), overwrite=overwrite)
    if keep is not None:
        keep.unlink()
    several = sum(len(own) > 1 for own in texts.values())
    described = f", {several:,} with several descriptions" if several else ""
    say(f"embeddings: {out} ({len(texts):,} classes{described}, {embeddings.shape[1]} numbers each)")


@dataclass(frozen=True)
class _Options:
    """The options of :func:`embed` that say how texts are encoded."""

    encoder: str | None
    model: str | None
    like: str | None
    overrides: list[str]
    templates: list[str]
    batch_size: int
    device: str
    save_encoder: str | None

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.batch_size < 1:
            raise InputError(f"--batch-size is {self.batch_size}", "at least 1")
        if self.model is not None and (self.encoder or "sentence") != "sentence":
            raise InputError(f"--model is {self.model!r} beside --encoder {self.encoder}", "one of both")
        if self.like is not None and (self.encoder or self.model or self.overrides or self.templates):
            remedy = "Leave out --encoder, --model, --set and --template: the file remembers them"
            raise InputError("--like is given beside other options of the encoder", "one of both", remedy)

    def encoder_and_templates(self) -> tuple["TextEncoder", list[str]]:
        """Return the encoder and the templates."""
        from fgen.config import apply_overrides
        from fgen.data.embedding_files import read_text_encoder
        from fgen.encoders.base import EncoderRecord
        from fgen.encoders.text import encoder_of, text_encoder

        if self.like is not None:
            record = read_text_encoder(self.like)
            if record is None:
                remedy = "Write embeddings by fgen embed --out NAME.npz"
                raise InputError(
                    f"{self.like} doesn't say by which encoder it was made", "an .npz of fgen embed", remedy
                )
            return encoder_of(EncoderRecord.from_json(record))
        spec = f"sentence:{self.model}" if self.model is not None else self.encoder or "sentence"
        return text_encoder(spec, apply_overrides({}, self.overrides)), self.templates


def _fitted(encoder: "TextEncoder", texts: Mapping[str, Sequence[str]], save_to: str | None, out: Path) -> Path | None:
    """Fit an encoder that needs it to all texts; return the file to store finished texts in, if encoding is slow."""
    from fgen.encoders.tfidf import TfidfEncoder
    from fgen.encoders.words import WordEncoder

    if isinstance(encoder, WordEncoder | TfidfEncoder) and encoder.needs_fit:
        encoder.fit([text for own in texts.values() for text in own])
    if save_to is not None:
        if not isinstance(encoder, TfidfEncoder):
            raise InputError("--save-encoder is given", "--encoder tfidf beside it", "Others have nothing to keep")
        encoder.save(save_to)
    return None if isinstance(encoder, WordEncoder | TfidfEncoder) else out.with_name(f"{out.name}.texts.partial")
