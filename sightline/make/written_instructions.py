"""Instructions that a model writes from what each picture was asked to show (after PDS-DPO, which had GPT-4 write them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from sightline.engines.roles import Decoding
from sightline.execute import Step, Task, Use
from sightline.make.instructions import InstructionSource, instruction
from sightline.make.slots import slots
from sightline.make.writing import SHOWN, Writing, json_in, object_of, plain_text
from sightline.rows import Dropped, Instruction, RankedImage, Reply

WORDING = """\
A picture was made from this description, on the topic {topic}:
{prompt}

Write one question or task about the picture for somebody who sees it and does not know the description.
It can be done by looking closely, and takes a few sentences rather than a yes or a no. Give nothing of the description away."""
FORM = 'Reply with JSON and nothing else: {"instruction": "..."}'


class WrittenInstructions(InstructionSource):
    """Have a model, which sees no picture, write an instruction for each from its prompt and topic.

    Replies are stored as they came. One that cannot be read, or that holds an empty instruction, is a drop.
    """

    engine: str
    """Engine that writes; needs the text_chat role."""
    wording: Annotated[str, slots("prompt", "topic", needed=("prompt",))] = WORDING
    """What is asked, with what the picture was asked to show as {prompt}, and its {topic}; the form of the reply is added."""
    decoding: Decoding = Decoding(temperature=1.0, max_tokens=512)
    """How the model picks its words."""

    def tasks(self, folder: Path | None) -> list[Task]:
        asking = InstructionWriting(engine=self.engine, wording=self.wording, decoding=self.decoding)
        return [
            Task("replies/instructions", asking, ("ranking",)),
            Task("instructions", InstructionReading(), ("ranking", "replies/instructions")),
        ]


class InstructionWriting(Writing):
    """One raw reply a picture."""

    wording: str

    def request(self, row: RankedImage) -> str:
        return f"{self.wording.format(prompt=row.prompt, topic=row.topic)}\n\n{FORM}"

    def reply_schema(self) -> dict[str, Any]:
        return object_of(instruction={"type": "string"})


class InstructionReading(Step):
    """Reads raw replies. Raise its `version` for a better reading: nothing is asked again."""

    version: ClassVar[int] = 1

    def make(self, use: Use, pictures: list[RankedImage], replies: list[Reply]) -> Iterator[Instruction | Dropped]:  # type: ignore[override]
        about = {reply.about_id: reply for reply in replies}
        for ranked in pictures:
            reply = about.get(ranked.id)
            text, reason = read_instruction(reply)
            if text is None:
                said = reply.text[:SHOWN] if reply else ""
                yield Dropped(key=ranked.key, reason=reason, row_id=ranked.id, detail=said)
            else:
                yield instruction(ranked, text)


def read_instruction(reply: Reply | None) -> tuple[str | None, str]:
    """The instruction in a reply; or None, and why there is none."""
    if reply is None:
        return None, "no instruction: no reply"
    if reply.finish == "length":
        return None, "no instruction: reply cut at max_tokens"
    tree = json_in(reply.text)
    if not isinstance(tree, dict) or not isinstance(tree.get("instruction"), str):
        return None, "no instruction: unreadable reply"
    return plain_text(tree["instruction"]), "no instruction: empty"
