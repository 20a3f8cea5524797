"""Texts of records that people bring."""

from __future__ import annotations

import re
from typing import Any

from sightline.files import Refused
from sightline.files.records import missing_key

PLACEHOLDER = "<image>"
AT_AN_END = re.compile(rf"^(?:\s*{PLACEHOLDER}\s*)+|(?:\s*{PLACEHOLDER}\s*)+$")
IMAGE_TOKEN = re.compile(r"<\|?(?:image|image_pad|vision_start|vision_end|video|video_pad)\|?>|\[IMG\]|<im_start>", re.IGNORECASE)


def text_of(value: Any, name: str) -> str:
    """The value, where it is text that can be stored."""
    if not isinstance(value, str):
        raise Refused(f"{name} is not text", "null" if value is None else type(value).__name__)
    if not is_unicode(value):
        raise Refused(f"{name} is not valid Unicode", "it holds half of a surrogate pair")
    return value


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def name_of(value: Any) -> str | None:
    """What a record calls itself by a value of its own; None where that names nothing."""
    is_name = isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip()
    return str(value) if is_name and is_unicode(str(value)) else None


def need_key(record: dict[str, Any], key: str) -> Any:
    """The record's value of a key that it must have."""
    if key not in record:
        raise Refused(*missing_key(key, record))
    return record[key]


def unasked(question: str) -> str:
    """The question without the placeholders at its ends."""
    return AT_AN_END.sub("", question)
