"""Text-to-image prompts: where they come from, and those of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sightline.engines import Engine
from sightline.errors import DataError
from sightline.execute import Executor, Tally
from sightline.make.lines import lines_of, record_of
from sightline.plugin import Plugin, Table
from sightline.rows import Dropped, Prompt
from sightline.store.address import digest

PROMPTS = Table(
    "prompts", {"file": "sightline.make.prompts:PromptFile", "written": "sightline.make.written_prompts:WrittenPrompts"}
)

FORM = '{"text": "...", "topic": "..."}'


class PromptSource(Plugin):
    """Where prompts come from."""

    def engine_roles(self) -> dict[str, str]:
        """Engines that this source asks: name -> role."""
        return {}

    def read(self, folder: Path) -> tuple[list[Prompt], list[Dropped]]:
        """Prompts and what was refused; paths start from `folder`, or from here."""
        raise NotImplementedError

    def obtain(
        self, hands: Executor, folder: Path, painter: Engine | None, on_step: Callable[[Tally], None]
    ) -> tuple[list[Prompt], list[Dropped]]:
        """The prompts of a run, all of which the painter can read; `on_step` hears of the steps that it takes to have them."""
        return self._readable(folder, painter)

    def foreseen(self, folder: Path, painter: Engine | None) -> tuple[list[Prompt] | None, str]:
        """What a check knows before a run: the prompts, None where they are not there yet, and a line about them."""
        prompts, dropped = self._readable(folder, painter)
        topics = len({prompt.topic for prompt in prompts})
        twice = f", {len(dropped)} duplicates left out" if dropped else ""
        return prompts, f"prompts {self.place()}: {len(prompts)} over {topics} topics{twice}"

    def place(self) -> str:
        """What to name in messages."""
        return self.kind

    def _readable(self, folder: Path, painter: Engine | None) -> tuple[list[Prompt], list[Dropped]]:
        prompts, dropped = self.read(folder)
        if painter is not None:
            refuse_unknown_words(prompts, painter, self.place())
        return prompts, dropped


class PromptFile(PromptSource):
    """Prompts of a file: .jsonl with {"text": ..., "topic": ...} a line, or plain text with a prompt a line."""

    path: str
    """The file, from the recipe's folder or from here."""
    topic: str = "unsorted"
    """Topic of lines that name none."""

    def read(self, folder: Path) -> tuple[list[Prompt], list[Dropped]]:
        prompts: dict[str, Prompt] = {}
        dropped = []
        for number, (text, topic) in self._lines(folder):
            prompt_id = prompt_key(text)
            if prompt_id in prompts:
                dropped.append(
                    Dropped(key=prompt_id, reason="duplicate prompt", row_id=prompt_id, detail=f"line {number}: {text}")
                )
            else:
                prompts[prompt_id] = Prompt(id=prompt_id, key=prompt_id, text=text, topic=topic)
        if not prompts:
            raise DataError(
                self.path, "this file holds no prompts", "write one a line, for example: a red cup and a green tree in the park"
            )
        return list(prompts.values()), dropped

    def place(self) -> str:
        return self.path

    def _lines(self, folder: Path) -> Iterator[tuple[int, tuple[str, str]]]:
        parse = self._from_json if Path(self.path).suffix == ".jsonl" else self._from_text
        for number, line in lines_of(self.path, folder, "prompts"):
            yield number, parse(line, f"{self.path}, line {number}")

    def _from_text(self, line: str, where: str) -> tuple[str, str]:
        return line.strip(), self.topic

    def _from_json(self, line: str, where: str) -> tuple[str, str]:
        record = record_of(line, where, FORM)
        text, topic = record.get("text"), record.get("topic", self.topic)
        if not isinstance(text, str) or not text.strip() or not isinstance(topic, str):
            raise DataError(where, "no prompt is here", f"write {FORM}, both as text")
        return text.strip(), topic.strip()


def prompt_key(text: str) -> str:
    """By which all rows of a prompt go."""
    return digest("prompt", text)


def refuse_unknown_words(prompts: list[Prompt], painter: Engine, where: str) -> None:
    """DataError where the painter's vocabulary is closed and a prompt has words outside it: it would paint something else."""
    unknown = painter.unknown_words([prompt.text for prompt in prompts])
    if not unknown:
        return
    text, words = next(iter(unknown.items()))
    quoted = ", ".join(f"'{word}'" for word in words)
    more = f" ({len(unknown) - 1} more prompts have such words)" if len(unknown) > 1 else ""
    known = ", ".join(sorted(word for word in painter.vocabulary() or () if word.isalnum()))
    raise DataError(where, f"{painter.model} does not know {quoted} in the prompt '{text}'{more}", f"it knows: {known}")
