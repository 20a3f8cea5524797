"""A small run on disk with rows of every type, made by the store's own means and by no model.

`python tests/report/conftest.py FOLDER` makes one there, with its page, to look at while the page is worked on.
"""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sightline.miniature import world
from sightline.rows import (
    Annotation,
    Candidate,
    Claim,
    Dropped,
    Image,
    Instruction,
    Judgement,
    Origin,
    Pair,
    Prompt,
    RankedImage,
    Response,
)
from sightline.store.address import digest
from sightline.store.runs import Run
from sightline.store.shards import Shard, Store, bucket_of

GUIDANCE = (5.0, 7.0, 9.0, 11.0)
FAITHFUL = {5.0: 0.65, 7.0: 0.8, 9.0: 0.6, 11.0: 0.4}  # how often a picture painted at this scale shows what was asked
POOL = {
    "policy": 0.75,
    "policy-sampled": 0.6,
    "careful": 0.05,
    "hasty": 0.3,
    "second-opinion": 0.4,
}  # how often each names what is not there

RECIPE = """\
name: quickstart
seed: 0
engines:
  painter: {kind: diffusers, model: miniature/painter, steps: 20}
  eyes: {kind: image_reward, model: miniature/image-reward}
  policy: {kind: transformers, model: miniature/policy}
  judge: {kind: transformers, model: miniature/judge}
  taste: {kind: armorm, model: miniature/answer-reward}
make:
  images: {engine: painter, guidance: [5, 7, 9, 11]}
  pairs: {kind: best_worst, weights: {claims: 1.0}, min_gap: 1}
train:
  objective: {kind: dpo, beta: 0.1, nll: 0.2}
"""


def origin(engine: str, model: str, settings: str = "{}", seed: int | None = None) -> Origin:
    return Origin(engine=engine, model=f"miniature/{model}", revision=digest(model), settings=settings, seed=seed)


def png(scene: world.Scene, rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    world.draw(scene, rng).save(stream, "PNG")
    return stream.getvalue()


def altered(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """One thing is another than asked."""
    at = int(rng.integers(len(scene.things)))
    kind = str(rng.choice([kind for kind in world.KINDS if kind not in scene.kinds]))
    return replace(scene, things=tuple(replace(thing, kind=kind) if i == at else thing for i, thing in enumerate(scene.things)))


def answer(scene: world.Scene, habit: float, rng: np.random.Generator) -> tuple[str, list[tuple[str, bool]]]:
    """A description that sometimes names what is not there, and its claims with their truth."""
    claims = [(thing.phrase, True) for thing in scene.things]
    absent = [kind for kind in world.KINDS if kind not in scene.kinds]
    for kind in rng.permutation(absent)[: len(scene.things)]:
        if rng.random() < habit / 2:
            claims.append((f"a {world.USUAL_COLOUR[kind]} {kind}", False))
    return f"The picture shows {world.enumerate_phrases([text for text, _ in claims])} in the {scene.place}.", claims


class Maker:
    """Makes the run step by step; every choice comes from one seeded generator."""

    def __init__(self, folder: Path, num_prompts: int = 24) -> None:
        self.rng = np.random.default_rng(11)
        self.run = Run.create(folder / "runs" / "quickstart", RECIPE, folder / "store")
        self.store: Store = self.run.store
        topics = list(world.TOPICS)
        self.scenes: list[world.Scene] = []
        while len(self.scenes) < num_prompts:  # no prompt twice
            scene = world.sample(self.rng, topics[len(self.scenes) % len(topics)])
            self.scenes += [scene] if world.prompt(scene) not in map(world.prompt, self.scenes) else []
        self.painted: dict[str, world.Scene] = {}  # picture -> what it shows
        self.truth: dict[str, list[tuple[str, bool]]] = {}  # response id -> claims

    def note(self, step: str, rows: list, dropped: list[Dropped] | None = None, seconds: float = 1.0) -> list:
        """Store a step's rows as two shards, split by key, and enter them in the manifest."""
        shards, dropped = [], dropped or []
        for bucket in (0, 1):
            held = [row for row in rows if bucket_of(row.key, 2) == bucket]
            refused = [row for row in dropped if bucket_of(row.key, 2) == bucket]
            shard = Shard(step, bucket, digest(step, bucket, [row.id for row in held]))
            self.store.write(shard, held, refused, seconds / 2)
            shards.append([shard.bucket, shard.address])
        reasons = {reason: sum(row.reason == reason for row in dropped) for reason in {row.reason for row in dropped}}
        self.run.note_step(step, {"shards": shards, "rows": len(rows), "dropped": reasons, "seconds": seconds, "reused": 0})
        return rows

    def make(self) -> Run:
        prompts = self.note("prompts", [self.prompt(scene) for scene in self.scenes], seconds=0.02)
        images = self.note(
            "images", [row for pair in zip(prompts, self.scenes, strict=True) for row in self.images(*pair)], seconds=31.4
        )
        unclear = [Dropped(key="unseen-1", reason="no clear best picture", detail="gap 0.004")]
        ranked = self.note("ranking", [self.rank(prompt, images) for prompt in prompts], unclear, seconds=6.2)
        asked = self.note("instructions", [self.instruct(row) for row in ranked], seconds=0.03)
        responses = [row for name in POOL for row in self.note(*self.respond(name, asked), seconds=7.5)]
        self.judge(responses)
        self.note("annotations/taste", [self.taste(row) for row in responses], seconds=4.1)
        claims = {
            row.response_id: row for row in self.note("annotations/claims", [self.check(row) for row in responses], seconds=12.8)
        }
        self.note("pairs", *self.pair(asked, responses, claims), seconds=0.05)
        self.train()
        (self.run.folder / "results.json").write_text(
            json.dumps({"benchmarks": BENCHMARKS, "examples": self.examples(), "steps": {}})
        )
        return self.run

    def prompt(self, scene: world.Scene) -> Prompt:
        text = world.prompt(scene)
        return Prompt(id=digest(text), key=digest(text), text=text, topic=scene.topic)

    def picture(self, scene: world.Scene) -> str:
        name = self.store.put_picture(png(scene, self.rng))
        self.painted[name] = scene
        return name

    def images(self, prompt: Prompt, scene: world.Scene) -> list[Image]:
        made = []
        for index, guidance in enumerate(GUIDANCE):
            shows = scene if self.rng.random() < FAITHFUL[guidance] else altered(scene, self.rng)
            made.append(
                Image(
                    id=digest(prompt.id, index), key=prompt.key, prompt_id=prompt.id, prompt=prompt.text, topic=prompt.topic,
                    picture=self.picture(shows), guidance=guidance, index=index, origin=origin("painter", "painter",
                    '{"steps": 20}', index),
                )
            )  # fmt: skip
        return made

    def rank(self, prompt: Prompt, images: list[Image]) -> RankedImage:
        mine = [image for image in images if image.prompt_id == prompt.id]
        scores = [
            (1.1 if world.prompt(self.painted[i.picture]) == prompt.text else -0.7) + self.rng.normal(0, 0.35) for i in mine
        ]
        candidates = [
            Candidate(image_id=i.id, picture=i.picture, guidance=i.guidance, score=float(score))
            for i, score in zip(mine, scores, strict=True)
        ]
        best = max(candidates, key=lambda candidate: candidate.score)
        return RankedImage(
            id=digest("ranked", prompt.id), key=prompt.key, prompt_id=prompt.id, prompt=prompt.text, topic=prompt.topic,
            image_id=best.image_id, picture=best.picture, score=best.score, candidates=candidates, origin=origin("eyes",
            "image-reward"),
        )  # fmt: skip

    def instruct(self, row: RankedImage) -> Instruction:
        text = world.ASKED[0].format(prompt=row.prompt)
        return Instruction(
            id=digest("asked", row.id),
            key=row.key,
            text=text,
            pictures=[row.picture],
            prompt=row.prompt,
            topic=row.topic,
            image_id=row.image_id,
        )

    def respond(self, name: str, asked: list[Instruction]) -> tuple[str, list[Response], list[Dropped]]:
        rows = []
        for instruction in asked:
            text, claims = answer(self.painted[instruction.pictures[0]], POOL[name], self.rng)
            row = Response(
                id=digest(name, instruction.id), key=instruction.key, instruction_id=instruction.id, instruction=instruction.text,
                pictures=instruction.pictures, text=text, model=name, index=0, finish="stop", num_tokens=len(text.split()),
                origin=origin(name, name.removesuffix("-sampled"), '{"max_tokens": 64}'),
            )  # fmt: skip
            self.truth[row.id] = claims
            rows.append(row)
        cut = [Dropped(key=rows[0].key, reason="cut at max_tokens", detail="64 tokens")] if name == "hasty" else []
        return f"responses/{name}", rows, cut

    def judge(self, responses: list[Response]) -> None:
        rows = [
            Judgement(
                id=digest("judged", row.id, text), key=row.key, response_id=row.id, annotator="claims",
                question=f"Is there {text}?",
                reply="Yes." if holds else "No.", origin=origin("judge", "judge"),
            )
            for row in responses
            for text, holds in dict(self.truth[row.id]).items()
        ]  # fmt: skip
        self.note("judgements/claims", rows, seconds=38.0)

    def taste(self, row: Response) -> Annotation:
        score = 0.01 * row.num_tokens + float(self.rng.normal(0, 0.08))  # an image-blind scorer that likes long answers
        return Annotation(
            id=digest("taste", row.id), key=row.key, response_id=row.id, annotator="taste", score=score, sees_picture=False
        )

    def check(self, row: Response) -> Annotation:
        claims = [
            Claim(text=text, question=f"Is there {text} in the picture?", reply="Yes." if holds else "No.", holds=holds)
            for text, holds in self.truth[row.id]
        ]
        unreadable = self.rng.random() < 0.04
        if unreadable:
            claims[0] = replace(claims[0], reply="A picture.", holds=None)
        score = None if unreadable else -float(sum(claim.holds is False for claim in claims))
        reason = "1 verdict is unreadable" if unreadable else None
        return Annotation(
            id=digest("claims", row.id),
            key=row.key,
            response_id=row.id,
            annotator="claims",
            score=score,
            reason=reason,
            claims=claims,
            sees_picture=True,
        )

    def pair(
        self, asked: list[Instruction], responses: list[Response], claims: dict[str, Annotation]
    ) -> tuple[list[Pair], list[Dropped]]:
        """The best answer against one or two worse ones."""
        pairs, dropped = [], []
        for instruction in asked:
            scored = [row for row in responses if row.instruction_id == instruction.id and claims[row.id].score is not None]
            scored.sort(key=lambda row: claims[row.id].score, reverse=True)
            worse = [row for row in scored if claims[row.id].score <= claims[scored[0].id].score - 1][-1 - len(pairs) % 2 :]
            pairs += [self.prefer(instruction, scored[0], row, claims) for row in worse]
            if not worse:
                dropped.append(Dropped(key=instruction.key, reason="best and worst are closer than min_gap", detail="gap 0 of 1"))
        return pairs, dropped

    def prefer(self, asked: Instruction, chosen: Response, rejected: Response, claims: dict[str, Annotation]) -> Pair:
        return Pair(
            id=digest(chosen.id, rejected.id), key=asked.key, instruction=asked.text, pictures=asked.pictures, chosen=chosen.text,
            rejected=rejected.text, chosen_score=claims[chosen.id].score, rejected_score=claims[rejected.id].score,
            chosen_id=chosen.id,
            rejected_id=rejected.id, chosen_model=chosen.model, rejected_model=rejected.model, instruction_id=asked.id,
            topic=asked.topic,
            rule="best_worst",
        )  # fmt: skip

    def train(self) -> None:
        log = self.store.root / "checkpoints" / "abc" / "log.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text("".join(json.dumps(self.log_line(step)) + "\n" for step in range(60)))
        self.run.note(checkpoint={"log": str(log), "seconds": 41.5, "address": digest("checkpoint"), "steps": 60})

    def log_line(self, step: int) -> dict[str, float]:
        learned = 1 - math.exp(-step / 18)
        wobble = float(self.rng.normal(0, 0.08)) * (step > 0)
        chosen, rejected = -0.9 * learned + wobble, -4.1 * learned + 2 * wobble
        margin = chosen - rejected
        return {
            "step": step, "epoch": step / 20, "loss": math.log1p(math.exp(-margin)), "margin": margin, "chosen_reward": chosen,
            "rejected_reward": rejected, "accuracy": 0.5 if step == 0 else min(1.0, 0.5 + 0.5 * learned + 0.3 * wobble),
            "nll": 0.31 - 0.05 * learned + 0.1 * wobble, "grad_norm": 2.2 * math.exp(-step / 25) + abs(wobble),
            "learning_rate": 2e-4,
        }  # fmt: skip

    def examples(self) -> list[dict]:
        found = []
        for number in range(8):
            scene = world.sample(self.rng, held_out=True)
            before, claims = answer(scene, 0.9, self.rng)
            after, still = answer(scene, 0.4 if number == 5 else 0.0, self.rng)
            found.append({
                "picture": self.store.put_picture(png(scene, self.rng)), "question": world.DESCRIBE, "base": before,
                "aligned": after,
                "hallucinated_base": [text.split()[-1] for text, holds in claims if not holds],
                "hallucinated_aligned": [text.split()[-1] for text, holds in still if not holds],
                "truth": [thing.phrase for thing in scene.things],
            })  # fmt: skip
        return found


def line(
    metric: str, better: str | None, unit: str, base: tuple, aligned: tuple, change: tuple, n: int, split: str | None = None
) -> dict:
    spans = {"base": base, "aligned": aligned, "difference": change}
    read = {name: dict(zip(("value", "low", "high", "p", "resolvable"), span, strict=False)) for name, span in spans.items()}
    return {"metric": metric, "split": split, "better": better, "unit": unit, "n": n, **read}


BENCHMARKS = [
    {
        "benchmark": "chair", "rule": "clean", "n": 600, "guesses": {},
        "metrics": [
            line("CHAIR_i", "lower", "%", (21.4, 19.6, 23.1), (6.3, 5.1, 7.6), (-15.1, -17.0, -13.2, 0.0001), 600),
            line("CHAIR_s", "lower", "%", (48.2, 44.2, 52.2), (13.8, 11.2, 16.7), (-34.4, -38.5, -30.2, 0.0001), 600),
            line("coverage", "higher", "%", (94.1, 92.7, 95.3), (93.6, 92.2, 94.9), (-0.5, -1.4, 0.4, 0.271, 1.3), 600),
            line("words", None, "words", (18.9, 18.5, 19.3), (15.2, 14.9, 15.5), (-3.7, -4.1, -3.4, 0.0001), 600),
        ],
    },
    {
        "benchmark": "pope", "kind": "pope", "rule": "published", "n": 1800, "guesses": {"base": 3, "aligned": 5},
        "cut": {"base": 0, "aligned": 0},
        "metrics": [
            line("accuracy", "higher", "%", (81.2, 79.3, 83.0), (83.1, 81.3, 84.8), (1.9, 0.6, 3.2, 0.004), 1800),
            line("accuracy (adversarial)", "higher", "%", (74.0, 70.4, 77.4), (72.3, 68.6, 75.8),
                (-1.7, -3.2, -0.2, 0.027), 600, "adversarial"),
            line("F1", "higher", "%", (82.5, 80.6, 84.3), (82.9, 81.0, 84.7), (0.4, -0.9, 1.7, 0.55), 1800),
            line("yes ratio", None, "%", (57.4, 55.1, 59.7), (48.9, 46.6, 51.2), (-8.5, -10.0, -7.1, 0.0001), 1800),
        ],
    },
]  # fmt: skip


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run. Tests read it; they do not change it."""
    return Maker(tmp_path_factory.mktemp("whole")).make()


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """A run of four prompts under construction, for tests that leave parts out."""
    return Maker(tmp_path, num_prompts=4)


if __name__ == "__main__":
    from sightline.report.build import build

    print(build(Maker(Path(sys.argv[1])).make()))
