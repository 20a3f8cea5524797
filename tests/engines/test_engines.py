"""One engine is in memory at a time."""

from __future__ import annotations

import gc
import weakref
from typing import Any, ClassVar

import pytest

from sightline.engines import Engine, Engines
from sightline.errors import RunError


class Model:
    """It holds itself, as models of transformers do."""

    def __init__(self) -> None:
        self.itself = self


class Speaker(Engine):
    roles: ClassVar[frozenset[str]] = frozenset({"vision_chat"})

    def load(self) -> Any:
        if self.model == "broken":
            raise RunError("model broken", "cannot be loaded", "take another")
        return Model()


def engines() -> Engines:
    return Engines({name: Speaker(kind="speaker", model=name) for name in ("first", "second", "broken")})


def test_another_engine_takes_the_place_of_the_first_whose_memory_is_free() -> None:
    ours = engines()
    first = weakref.ref(ours.use("first", "vision_chat"))
    assert ours.use("first", "vision_chat") is first()
    ours.use("second", "vision_chat")
    assert first() is None
    ours.free()


def test_nothing_stays_out_of_pythons_search_when_an_engine_is_gone_or_could_not_be_loaded() -> None:
    ours = engines()
    ours.use("first", "vision_chat")
    assert gc.get_freeze_count() > 0
    ours.free()
    assert gc.get_freeze_count() == 0
    with pytest.raises(RunError, match="cannot be loaded"):
        ours.use("broken", "vision_chat")
    assert gc.get_freeze_count() == 0
