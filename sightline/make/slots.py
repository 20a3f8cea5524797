"""Texts with {slots}, as recipes hold them."""

from __future__ import annotations

from string import Formatter

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError


def slots(*known: str, needed: tuple[str, ...] = ()) -> AfterValidator:
    """Refuses a text with other slots than these, or without one that is needed."""

    def check(text: str) -> str:
        found = slots_in(text)
        for slot in found:
            if slot not in known:
                fix = f"known: {', '.join('{' + name + '}' for name in known)}; write a literal brace twice"
                raise PydanticCustomError("unknown_slot", "the template has an unknown slot '{slot}'", {"slot": slot, "fix": fix})
        for slot in needed:
            if slot not in found:
                raise PydanticCustomError(
                    "no_slot", "the text lacks its slot '{slot}'", {"slot": slot, "fix": f"write {{{slot}}} where it belongs"}
                )
        return text

    return AfterValidator(check)


def slots_in(text: str) -> list[str]:
    """Names of the slots that a text has."""
    try:
        return [slot for _, slot, _, _ in Formatter().parse(text) if slot is not None]
    except ValueError as error:
        raise PydanticCustomError(
            "bad_template", "{why}", {"why": str(error), "fix": "write a literal brace twice: {{ or }}"}
        ) from error
