"""Measure the miniature models on held-out scenes: python -m sightline.miniature.report

Prints a table in Markdown; with --write it takes the table's place in the README beside this file.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.miniature.build import WEIGHTS

README = Path(__file__).parent / "README.md"
MARKS = ("<!-- report -->", "<!-- end of report -->")


@dataclass(frozen=True)
class Finding:
    """One line of the table; `well` is None where nothing is asked, only told."""

    model: str
    what: str
    value: str
    wanted: str = ""
    well: bool | None = None

    def line(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.well]
        return f"| {self.model} | {self.what} | {self.value} | {self.wanted} | {verdict} |"


def findings(weights: Path, scale: float, seed: int) -> Iterator[Finding]:
    """Every number that the models are held to. `scale` 1 takes 600 scenes for words and 240 prompts for pictures."""
    pictures, scenes = max(8, round(240 * scale)), max(8, round(600 * scale))
    yield from _painter(weights, pictures, seed)
    yield from _image_reward(weights, pictures, scenes, seed)
    yield from _policy(weights, scenes, seed)
    yield from _pool(weights, scenes, seed)
    yield from _judge(weights, scenes, pictures, seed)
    yield from _answer_reward(weights, scenes, seed)


def _painter(weights: Path, prompts: int, seed: int) -> Iterator[Finding]:
    from sightline.miniature.measure_pictures import guidance_curve

    curve = guidance_curve(weights / "painter", prompts, seed)
    for scale, painted in curve.items():
        yield Finding("painter", f"guidance {scale:g}: all things and colours match the prompt", str(painted.match))
    best = max(painted.match.percent for painted in curve.values())
    yield Finding("painter", "best guidance", f"{best:.1f} %", "60 %", best >= 60)
    gain = best - curve[1.0].match.percent
    yield Finding("painter", "best guidance over guidance 1", f"{gain:+.1f} points", "+15 points", gain >= 15)


def _image_reward(weights: Path, prompts: int, scenes: int, seed: int) -> Iterator[Finding]:
    from sightline.miniature.measure_pictures import picks, right_of_two

    right = right_of_two(weights / "image-reward", scenes, seed)
    for name, least in (("one thing changed", 90), ("another scene", 98)):
        yield Finding(
            "image reward", f"right of two: match, {name}", str(right[name]), f"{least} %", right[name].percent >= least
        )
    picked = picks(weights / "painter", weights / "image-reward", prompts, seed)
    yield Finding(
        "image reward",
        "picks a truly best one of the painter's four where they differ",
        str(picked.best),
        "75 %",
        picked.best.percent >= 75,
    )
    told = f"{picked.picked.percent:.1f} % over {picked.average.percent:.1f} %"
    yield Finding("image reward", "pictures that match their prompt: picked over average", told, "+10 points", picked.gain >= 10)


def _policy(weights: Path, scenes: int, seed: int) -> Iterator[Finding]:
    from sightline.miniature.measure_words import descriptions, existence
    from sightline.miniature.speaker import Speaker

    speaker = Speaker(weights / "policy")
    said, asked = descriptions(speaker, scenes, seed), existence(speaker, scenes, seed)
    yield Finding("policy", "CHAIR_i (invented among named)", f"{said.chair_i:.1f} %", "15 to 35 %", 15 <= said.chair_i <= 35)
    yield Finding("policy", "CHAIR_s (answers that invent)", f"{said.chair_s:.1f} %")
    yield Finding("policy", "coverage", f"{said.coverage:.1f} %", "75 %", said.coverage >= 75)
    yield Finding("policy", "existence questions", f"{asked.accuracy:.1f} %", "70 to 90 %", 70 <= asked.accuracy <= 90)
    settings = f"{asked.random:.1f} > {asked.popular:.1f} > {asked.adversarial:.1f}"
    yield Finding(
        "policy", "random > popular > adversarial", settings, "in that order", asked.random > asked.popular > asked.adversarial
    )
    yield Finding("policy", "fluent answers", f"{said.fluent:.1f} %", "95 %", said.fluent >= 95)
    yield Finding("policy", "words an answer (a full true one)", f"{said.words:.1f} ({said.true_words:.1f})")
    told = descriptions(speaker, scenes, seed, style="asked")
    yield Finding("policy", "CHAIR_i where the instruction says what was asked", f"{told.chair_i:.1f} %")


def _pool(weights: Path, scenes: int, seed: int) -> Iterator[Finding]:
    from sightline.miniature.measure_words import descriptions
    from sightline.miniature.speaker import Speaker
    from sightline.miniature.vlms import POOL

    for name in POOL[1:]:
        said = descriptions(Speaker(weights / name), scenes, seed)
        told = f"CHAIR_i {said.chair_i:.1f} %, coverage {said.coverage:.1f} %, right colours {said.colours:.1f} %"
        yield Finding(f"pool: {name}", "descriptions", told)


def _judge(weights: Path, scenes: int, prompts: int, seed: int) -> Iterator[Finding]:
    from sightline.miniature import painter
    from sightline.miniature.measure_pictures import held_out_prompts
    from sightline.miniature.measure_words import existence, existence_in_pictures
    from sightline.miniature.speaker import Speaker

    speaker = Speaker(weights / "judge")
    asked = existence(speaker, scenes, seed)
    yield Finding(
        "judge", "existence questions", f"{asked.accuracy:.1f} % of {asked.num_questions}", "97 %", asked.accuracy >= 97
    )
    yield Finding("judge", "existence questions with a colour", f"{asked.coloured:.1f} %", "97 %", asked.coloured >= 97)
    pictures = painter.paint(painter.load(weights / "painter"), held_out_prompts(prompts, seed), 7.0, seed)
    yield Finding(
        "judge", "existence questions about the painter's pictures", f"{existence_in_pictures(speaker, pictures, seed):.1f} %"
    )


def _answer_reward(weights: Path, scenes: int, seed: int) -> Iterator[Finding]:
    from sightline.miniature.measure_words import right_of_two

    asked = right_of_two(weights / "answer-reward", weights, scenes, seed)
    misled = right_of_two(weights / "answer-reward", weights, scenes, seed, style="misled")
    what = "right of two answers of the pool"
    yield Finding("answer reward", what, f"{asked.right:.1f} % of {asked.num_pairs}", "85 %", asked.right >= 85)
    yield Finding(
        "answer reward", f"{what} where the picture does not show what was asked", f"{misled.right:.1f} % of {misled.num_pairs}"
    )


def table(lines: list[Finding]) -> str:
    """Markdown."""
    head = "| model | what | measured | at least | met |\n|---|---|---|---|---|"
    return "\n".join([head, *(line.line() for line in lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: fewer scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    options = parser.parse_args()
    found = []
    for finding in findings(options.weights, options.scale, options.seed):
        print(finding.line(), flush=True)
        found.append(finding)
    if options.write:
        text = README.read_text(encoding="utf-8")
        between = re.compile(re.escape(MARKS[0]) + ".*" + re.escape(MARKS[1]), re.DOTALL)
        README.write_text(between.sub(lambda _: f"{MARKS[0]}\n{table(found)}\n{MARKS[1]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
