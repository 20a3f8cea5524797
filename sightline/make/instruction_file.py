"""Instructions of a file: for single prompts, or a list to draw from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sightline.errors import DataError
from sightline.execute import Step, Task, Use
from sightline.make.instructions import InstructionSource, chosen, instruction
from sightline.make.lines import lines_of, record_of
from sightline.make.prompts import prompt_key
from sightline.rows import Dropped, Instruction, Prompt, RankedImage

FORM = '{"text": "...", "prompt": "..."}'


class InstructionFile(InstructionSource):
    """Ask what a file says.

    A line of a .jsonl file is {"text": ..., "prompt": ...} and goes with that prompt, given by its text or, as "prompt_id", by
    its id. Lines that name no prompt, as all of a plain text file do, are for the prompts that no line names. Of several lines
    for a prompt one is drawn by the run's seed. A prompt without a line is a drop.
    """

    path: str
    """The file, from the recipe's folder or from here."""
    all: bool = False
    """Ask with every line for a prompt instead of one."""

    def tasks(self, folder: Path | None) -> list[Task]:
        texts = self.read(folder) if folder is not None else {}
        general = texts.pop(None, [])
        by_prompt = {name: lines for name, lines in texts.items() if name is not None}
        step = InstructionLines(by_prompt=by_prompt, general=general, all=self.all)
        return [Task("instructions", step, ("ranking",))]

    def foreseen(self, prompts: list[Prompt], folder: Path) -> str:
        lines = self.read(folder)
        without = 0 if None in lines else sum(not {prompt.id, prompt.key} & lines.keys() for prompt in prompts)
        if without == len(prompts):
            raise DataError(self.path, "no line is for any of the prompts", "name each prompt by its text, or by its id")
        useless = len(lines.keys() - {None, *(name for prompt in prompts for name in (prompt.id, prompt.key))})
        told = {"{} prompts without an instruction": without, "{} prompts that are not there": useless}
        return ", ".join(["instructions " + self.path, *(said.format(count) for said, count in told.items() if count)])

    def read(self, folder: Path) -> dict[str | None, list[str]]:
        """Texts by their prompt's key or id, those for any prompt by None. DataError where a line is wrong, or none is there."""
        texts: dict[str | None, list[str]] = {}
        for number, line in lines_of(self.path, folder, "instructions"):
            name, text = self._read(line, f"{self.path}, line {number}")
            texts.setdefault(name, []).append(text)
        if not texts:
            raise DataError(self.path, "this file holds no instructions", "write one a line, for example: What is to be seen?")
        return texts

    def _read(self, line: str, where: str) -> tuple[str | None, str]:
        if Path(self.path).suffix != ".jsonl":
            return None, line.strip()
        record = record_of(line, where, FORM)
        text, prompt, prompt_id = (record.get(name) for name in ("text", "prompt", "prompt_id"))
        named = [name for name in (prompt, prompt_id) if name is not None]
        if not isinstance(text, str) or not text.strip() or len(named) > 1 or not all(isinstance(name, str) for name in named):
            raise DataError(where, "no instruction is here", f"write {FORM}, both as text, or prompt_id in place of prompt")
        return prompt_key(prompt.strip()) if prompt is not None else prompt_id, text.strip()


class InstructionLines(Step):
    """Asks what the lines say. They, and not their file's place, decide the address."""

    by_prompt: dict[str, list[str]]
    general: list[str]
    all: bool

    def make(self, use: Use, pictures: list[RankedImage]) -> Iterator[Instruction | Dropped]:  # type: ignore[override]
        for ranked in pictures:
            texts = self.by_prompt.get(ranked.key) or self.by_prompt.get(ranked.prompt_id) or self.general
            if not texts:
                yield Dropped(key=ranked.key, reason="no instruction for this prompt", row_id=ranked.id, detail=ranked.prompt)
                continue
            for text in chosen(texts, self.all, use.seed, ranked.prompt_id):
                yield instruction(ranked, text)
