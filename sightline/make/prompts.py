"""Text-to-image prompts, from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sightline.engines import Engine
from sightline.errors import DataError
from sightline.plugin import Plugin, Table
from sightline.rows import Dropped, Prompt
from sightline.store.address import digest

PROMPTS = Table("prompts", {"file": "sightline.make.prompts:PromptFile"})


class PromptSource(Plugin):
    """Where prompts come from."""

    def read(self, folder: Path) -> tuple[list[Prompt], list[Dropped]]:
        """Prompts and what was refused; paths start from `folder`, or from here."""
        raise NotImplementedError

    def place(self) -> str:
        """What to name in messages."""
        return self.kind


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
            prompt_id = digest("prompt", text)
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
        path = Path(self.path) if Path(self.path).exists() else folder / self.path
        parse = self._from_json if path.suffix == ".jsonl" else self._from_text
        for number, line in enumerate(_decoded(path).splitlines(), start=1):
            if line.strip():
                yield number, parse(line, f"{self.path}, line {number}")

    def _from_text(self, line: str, where: str) -> tuple[str, str]:
        return line.strip(), self.topic

    def _from_json(self, line: str, where: str) -> tuple[str, str]:
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(where, f"this is not JSON: {error}", 'write {"text": "...", "topic": "..."}') from error
        text, topic = (record.get("text"), record.get("topic", self.topic)) if isinstance(record, dict) else (None, None)
        if not isinstance(text, str) or not text.strip() or not isinstance(topic, str):
            raise DataError(where, "no prompt is here", 'write {"text": "...", "topic": "..."}, both as text')
        return text.strip(), topic.strip()


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}", "this is not UTF-8", "save the file as UTF-8") from error
    except OSError as error:
        raise DataError(
            str(path), f"the prompts cannot be read ({error.strerror})", "give the path from the recipe's folder"
        ) from error


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
