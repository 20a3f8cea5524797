"""Stored pictures as data URIs: small ones untouched, photographs as thumbnails."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from sightline.store.shards import Store

PIXEL_ART_SIDE = 64
"""Pictures up to this many pixels wide and high are shown enlarged, pixel by pixel."""
THUMBNAIL_SIDE = 256
SMALL_SIDE = 96
"""Side of thumbnails once half of the page's allowance for pictures is spent."""
ALLOWANCE_BYTES = 4_000_000


@dataclass(frozen=True)
class Shown:
    """A picture as the page holds it."""

    uri: str
    width: int
    height: int

    @property
    def is_pixel_art(self) -> bool:
        return self.uri.startswith("data:image/png")  # photographs are always JPEG here


class Pictures:
    """Pictures of a store, made fit for a page that stays small however many it shows."""

    def __init__(self, store: Store, allowance: int = ALLOWANCE_BYTES) -> None:
        self.store = store
        self.allowance = allowance
        self.spent = 0
        self._made: dict[tuple[str, int], Shown | None] = {}

    def show(self, name: str | None) -> Shown | None:
        """The picture of this name; None where the store has none or it does not decode."""
        if not name:
            return None
        side = THUMBNAIL_SIDE if self.spent < self.allowance / 2 else SMALL_SIDE
        if (name, side) not in self._made:
            self._made[name, side] = self._make(name, side)
        shown = self._made[name, side]
        self.spent += len(shown.uri) if shown else 0
        return shown

    def _make(self, name: str, side: int) -> Shown | None:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            content = self.store.picture(name).read_bytes()
            with Image.open(io.BytesIO(content)) as opened:
                if max(opened.size) <= PIXEL_ART_SIDE and opened.format == "PNG":
                    opened.load()
                    return Shown(_data_uri("png", content), *opened.size)
                upright = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            return None
        upright.thumbnail((side, side))
        stream = io.BytesIO()
        upright.save(stream, "JPEG", quality=82, optimize=True)
        return Shown(_data_uri("jpeg", stream.getvalue()), *upright.size)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
