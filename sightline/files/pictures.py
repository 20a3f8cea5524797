"""Pictures that a dataset's rows name: taken into a store when sound, and written out again."""

from __future__ import annotations

import io
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from sightline.files import Refused
from sightline.store.address import digest_bytes
from sightline.store.shards import Store, written_whole

if TYPE_CHECKING:
    import PIL.Image

MAX_PIXELS = 50_000_000
STORED_AS_IS = ("JPEG", "MPO", "PNG")  # MPO: a phone's JPEG that carries a second view; readers show the first


@dataclass
class Album:
    """Takes pictures from a folder, which no path may leave, into a store; without one it only looks at them."""

    folder: Path
    store: Store | None
    taken: dict[str, str] = field(default_factory=dict)

    def take(self, path: str) -> str:
        """The stored name of the picture at a path in the folder."""
        if path not in self.taken:
            self.taken[path] = self.keep(self._content(path), path)
        return self.taken[path]

    def given(self, image: Any, key: str) -> str:
        """The stored name of a picture that a row gives by its path, or as {path | bytes}; the key names one without a path."""
        path, content = (image.get("path"), image.get("bytes")) if isinstance(image, dict) else (image, None)
        if isinstance(image, dict) and path is None and content is None:
            raise Refused("row names no picture", f"image has {', '.join(map(str, image)) or 'nothing'}")
        if content is not None and not isinstance(content, bytes):
            raise Refused("image bytes are not bytes", type(content).__name__)
        if content is not None:
            return self.keep(content, str(path or key))
        if not isinstance(path, str):
            raise Refused("image path is not text", "null" if path is None else type(path).__name__)
        return self.take(path)

    def keep(self, content: bytes, name: str) -> str:
        """The stored name of a picture whose bytes came with its row. PNG and JPEG keep their bytes; others become PNG."""
        if self.store is None:
            return digest_bytes(sound(content, name))
        known = digest_bytes(content)
        # a picture is stored only once it has decoded whole: taking it again, as a resumed run does, need not decode it
        return known if self.store.holds(known) else self.store.put_picture(sound(content, name))

    def _content(self, path: str) -> bytes:
        # by the path's text, not by what links resolve to: a download cache is a folder of links to files elsewhere
        place = within(self.folder, path)
        if place is None:
            raise Refused("picture's path leaves the images folder", path)
        try:
            if not place.is_file():
                raise Refused("picture is missing", path)
            return place.read_bytes()
        except (OSError, ValueError) as error:
            raise Refused("picture cannot be read", f"{path}: {error}") from error


def within(folder: Path, path: str) -> Path | None:
    """The place of a path below a folder; None where it points elsewhere."""
    root = os.path.normpath(folder.absolute())
    place = os.path.normpath(os.path.join(root, path))
    return Path(place) if place.startswith(root.rstrip(os.sep) + os.sep) else None


def sound(content: bytes, name: str) -> bytes:
    """The bytes to store of a picture that decodes whole; Refused says what is wrong with it."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and odd files: we judge them here
            with PIL.Image.open(io.BytesIO(content)) as opened:
                _check(opened, name)
                opened.load()
                return content if opened.format in STORED_AS_IS else _as_png(opened)
    except PIL.Image.DecompressionBombError as error:
        raise Refused(f"picture is larger than {MAX_PIXELS // 1_000_000} megapixels", name) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        # what Pillow's readers raise on damaged files; the first line says which
        raise Refused("picture does not decode", f"{name}: {str(error).splitlines()[0] if str(error) else 'damaged'}") from error


def _check(opened: PIL.Image.Image, name: str) -> None:
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise Refused(f"picture is larger than {MAX_PIXELS // 1_000_000} megapixels", f"{name}: {width} x {height}")
    if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
        raise Refused("picture is animated", name)


def _as_png(opened: PIL.Image.Image) -> bytes:
    mode = "RGBA" if opened.has_transparency_data else "RGB"
    stream = io.BytesIO()
    opened.convert(mode).save(stream, format="PNG")
    return stream.getvalue()


@dataclass
class Gallery:
    """Writes stored pictures below a folder, each under the path its row knew it by, or one made from the row's key."""

    folder: Path
    store: Store
    written: dict[str, str] = field(default_factory=dict)

    def put(self, picture: str, key: str, known_as: Any = None) -> str:
        """The path, below the folder, under which the picture now lies."""
        content = self.store.picture(picture).read_bytes()
        suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
        path = Path(known_as if isinstance(known_as, str) and known_as else f"images/{_plain(key)}{suffix}")
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            path = path.with_suffix(suffix)
        if within(self.folder, str(path)) is None:
            path = Path("images", path.name)
        if self.written.get(str(path), picture) != picture:
            path = path.with_stem(f"{path.stem}-{picture[:8]}")
        if str(path) not in self.written:
            self.written[str(path)] = picture
            with written_whole(self.folder / path) as aside:
                aside.write_bytes(content)
        return str(path)

    def embedded(self, picture: str, known_as: Any = None) -> dict[str, Any]:
        """The picture's bytes, with the file name its row knew it by, as `datasets` keeps a picture in a column."""
        name = PurePath(known_as).name if isinstance(known_as, str) and known_as else None
        return {"bytes": self.store.picture(picture).read_bytes(), "path": name}


def _plain(key: str) -> str:
    """The key as a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip("-.")[:100] or "picture"
