"""Who does the work: local pipelines and models, and served ones, behind a few roles."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from sightline.engines.calls import Calls
from sightline.engines.weights import fingerprint
from sightline.errors import RecipeError
from sightline.plugin import Plugin, Table, suggest
from sightline.rows import Origin

ENGINES = Table(
    "engines",
    {
        "diffusers": "sightline.engines.diffusers:Diffusers",
        "transformers": "sightline.engines.transformers:Transformers",
        "image_reward": "sightline.engines.image_reward:ImageReward",
        "armorm": "sightline.engines.armorm:ArmoRM",
        "clip_scores": "sightline.engines.clip_scores:ClipScores",
        "openai_http": "sightline.engines.openai_http:OpenAIHTTP",
    },
)


class Engine(Plugin):
    """An engine's recipe section; `load` gives the object that does the work."""

    roles: ClassVar[frozenset[str]] = frozenset()
    version: ClassVar[int] = 1  # raise it when the same weights and settings would now give different results
    served: ClassVar[bool] = False
    """The model runs behind a server: its files are not looked for, and its `load` has `calls`, to note replies in."""
    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that move results by rounding at most; left out of addresses, so that changing them keeps what is stored."""

    model: str
    """Model folder, hub name, or miniature/<name> for one that is shipped; of a served model, what its server calls it."""
    revision: str | None = None
    """Hub revision; a commit makes the run reproducible."""

    def load(self) -> Any:
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Stands for the weights: digest of a local folder, commit of a hub model."""
        return fingerprint(self.model, self.revision)

    def identity(self) -> dict[str, Any]:
        """Everything that decides this engine's results; part of the address of what it makes."""
        section = {key: value for key, value in self.model_dump().items() if key not in self.incidental}
        return {"section": section, "version": self.version, "weights": self.fingerprint()}

    def look(self) -> str | None:
        """What a check says of a served model; None for one whose files are looked for. Needs no torch."""
        return None

    def vocabulary(self) -> frozenset[str] | None:
        """All words that this engine's model can read; None where it can read any. Needs no torch."""
        return None

    def unknown_words(self, texts: list[str]) -> dict[str, list[str]]:
        """Text -> its words that this engine's model cannot read; nothing where its vocabulary is open. Needs no torch."""
        return {}


class Engines:
    """The engines of a run. One is in memory at a time; asking for another frees it first."""

    def __init__(self, sections: Mapping[str, Engine]) -> None:
        self.sections = dict(sections)
        self.calls: Calls | None = None  # of the shard under way
        self._loaded: tuple[Engine, Any] | None = None

    def use(self, name: str, role: str) -> Any:
        """The loaded engine, which has the role."""
        section = self.section(name, role, f"engine {name}")
        if self._loaded is None or self._loaded[0] != section:
            self.free()
            gc.freeze()  # what is there already is not searched when this engine is freed: that took 0.2 s each time
            try:
                self._loaded = (section, section.load())
            finally:
                if self._loaded is None:
                    gc.unfreeze()
        if section.served:
            self._loaded[1].calls = self.calls
        return self._loaded[1]

    def section(self, name: str, role: str, where: str) -> Engine:
        """The engine's section; RecipeError where there is none of this name and role."""
        if name not in self.sections:
            raise RecipeError(where, f"no engine named '{name}'", suggest(name, list(self.sections)))
        section = self.sections[name]
        if role not in section.roles:
            able = [other for other, found in self.sections.items() if role in found.roles]
            raise RecipeError(
                where, f"engine '{name}' ({section.kind}) is no {role}", f"engines that are: {', '.join(able) or 'none'}"
            )
        return section

    def origin(self, name: str, settings: str = "{}", seed: int | None = None) -> Origin:
        """Provenance for a row that this engine made."""
        section = self.sections[name]
        return Origin(engine=name, model=section.model, revision=section.fingerprint(), settings=settings, seed=seed)

    def free(self) -> None:
        """Drop the loaded engine and give its memory back."""
        if self._loaded is None:
            return
        self._loaded = None
        gc.collect()
        gc.unfreeze()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
            sys.modules["torch"].cuda.empty_cache()
