"""Rows for the tests of steps."""

from sightline.rows import Annotation, Instruction, Judgement, Origin, Response

ORIGIN = Origin(engine="e", model="m", revision="r")


def instruction(text: str = "What does the picture show?") -> Instruction:
    return Instruction(id="ask", key="key", text=text, pictures=["picture"], topic="art")


def response(name: str, text: str, finish: str = "stop", about: str = "ask") -> Response:
    return Response(
        id=name,
        key="key",
        instruction_id=about,
        instruction="What does the picture show?",
        pictures=["picture"],
        text=text,
        model=f"model-{name}",
        index=0,
        finish=finish,
        num_tokens=len(text.split()),
        origin=ORIGIN,
    )


def annotation(name: str, annotator: str, score: float | None, reason: str | None = None) -> Annotation:
    return Annotation(
        id=f"{annotator}-{name}", key="key", response_id=name, annotator=annotator, score=score, reason=reason, sees_picture=True
    )


def judgement(name: str, claim: str, reply: str) -> Judgement:
    question = f"Is there {claim} in the picture?"
    return Judgement(
        id=f"{name}-{claim}", key="key", response_id=name, annotator="claims", question=question, reply=reply, origin=ORIGIN
    )
