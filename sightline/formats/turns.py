"""Turns of a conversation, as the records of LLaVA, mllm-dpo, TRL, ms-swift and LLaMA-Factory hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import DataError
from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import PLACEHOLDER, need_key, text_of, unasked
from sightline.rows import Pair

TEXT_ALONE = frozenset({"text"})
WITH_PICTURES = frozenset({"text", "image"})


@dataclass(frozen=True)
class Turns:
    """How a format writes turns: the keys of who speaks and of what is said, and what it calls the two who speak."""

    who: str
    what: str
    asks: str
    answers: str

    def exchange(self, value: Any, name: str) -> tuple[str, str]:
        """What is asked and answered in two turns."""
        question, answer = self._texts(value, name, (self.asks, self.answers))
        return question, answer

    def question_of(self, value: Any, name: str) -> str:
        """What the one turn asks; a text is taken as it is."""
        return self._texts(value, name, (self.asks,))[0]

    def answer_of(self, value: Any, name: str) -> str:
        """What the one turn answers; a text is taken as it is."""
        return self._texts(value, name, (self.answers,))[0]

    def _texts(self, value: Any, name: str, roles: Sequence[str]) -> list[str]:
        if isinstance(value, str) and len(roles) == 1:
            return [text_of(value, name)]
        turns = [value] if isinstance(value, dict) else value
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise Refused(f"{name} is not a list of turns", "null" if value is None else type(value).__name__)
        said = [(str(need_key(turn, self.who)), need_key(turn, self.what)) for turn in turns]
        if [role for role, _ in said] != list(roles):
            wanted = " and ".join(f"one {role} turn" for role in roles)
            raise Refused(f"{name} is not {wanted}", ", ".join(role for role, _ in said) or "no turn")
        return [
            _text(what, f"{name}' question", WITH_PICTURES) if role == self.asks else _text(what, f"{name}' answer", TEXT_ALONE)
            for role, what in said
        ]

    def retold(self, value: Any, *texts: str) -> Any:
        """The same turns, in the same shape, with these texts."""
        if isinstance(value, str):
            return texts[0]
        if isinstance(value, dict):
            return {**value, self.what: _with_text(value.get(self.what), texts[0])}
        return [self.retold(turn, text) for turn, text in zip(value, texts, strict=True)]

    def question(self, text: str | list[dict[str, Any]]) -> dict[str, Any]:
        return {self.who: self.asks, self.what: text}

    def answer(self, text: str | list[dict[str, Any]]) -> dict[str, Any]:
        return {self.who: self.answers, self.what: text}


LLAVA = Turns("from", "value", "human", "gpt")
CHAT = Turns("role", "content", "user", "assistant")


def _text(said: Any, name: str, kinds: frozenset[str]) -> str:
    """A text, or that of the one text among a content's parts, which may be of these kinds."""
    if not isinstance(said, list):
        return text_of(said, name)
    found = [part.get("type") if isinstance(part, dict) else type(part).__name__ for part in said]
    if found.count("text") != 1 or set(found) - kinds:
        raise Refused(f"{name} is not one text", f"its parts: {', '.join(map(str, found)) or 'none'}")
    return text_of(said[found.index("text")].get("text"), name)


def _with_text(said: Any, text: str) -> Any:
    if not isinstance(said, list):
        return text
    return [{**part, "text": text} if part["type"] == "text" else part for part in said]


def asked(pair: Pair) -> str:
    """The instruction with a placeholder for each picture before it; as it is, where it says itself where they stand."""
    count = pair.instruction.count(PLACEHOLDER)
    if count == len(pair.pictures):
        return pair.instruction
    if count:
        problem = f"its instruction says {PLACEHOLDER} {count} times and it has {len(pair.pictures)} pictures"
        raise DataError(f"pair {pair.key}", problem, "mend the instruction where it was made; `sightline check` lists such rows")
    return f"{PLACEHOLDER}\n" * len(pair.pictures) + pair.instruction


def need_same_question(question: str, again: str) -> None:
    """Refused where the two sides of a pair were asked different things."""
    if question != again:
        raise Refused("the two sides ask different questions", again[:80])


def asked_again(question: str, pair: Pair) -> str:
    """The question that a record holds where the pair still asks it, else the pair's."""
    return question if unasked(question) == pair.instruction else asked(pair)


def pictures_of(record: dict[str, Any], column: str, key: str, question: str, album: Album) -> list[str]:
    """Stored names of the pictures of a column that may be absent where the question says of none."""
    if record.get(column) is None and PLACEHOLDER not in question:
        return []
    given = need_key(record, column)
    return [album.given(image, key) for image in (given if isinstance(given, list) else [given])]


def placed(pair: Pair, given: Any, gallery: Gallery, embed: bool = False) -> Any:
    """The pair's pictures as a record holds them, in the shape in which it gave them: where they now lie, or {bytes, path}."""
    entries = given if isinstance(given, list) else [given]
    if len(entries) != len(pair.pictures):
        entries = [None] * len(pair.pictures)
    made = [_entry(pair.key, picture, entry, gallery, embed) for picture, entry in zip(pair.pictures, entries, strict=True)]
    return made if given is None or isinstance(given, list) or len(made) != 1 else made[0]


def _entry(key: str, picture: str, entry: Any, gallery: Gallery, embed: bool) -> Any:
    name = entry.get("path") if isinstance(entry, dict) else entry
    if embed:
        return gallery.embedded(picture, name)
    path = gallery.put(picture, key, name)
    return {**entry, "path": path} if isinstance(entry, dict) else path
