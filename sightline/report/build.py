"""`report.html`: what a run made, dropped, learned and scored, on one self-contained page."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field

from sightline.plugin import Section
from sightline.report import chain, wording
from sightline.report.annotators import comparison
from sightline.report.evidence import Evidence
from sightline.report.gallery import gallery, wins_sentence
from sightline.report.lmms_eval import lmms_eval
from sightline.report.pairs import pairs
from sightline.report.pictures import Pictures
from sightline.report.provenance import provenance
from sightline.report.results import benchmarks, examples, footnotes, headline, opening
from sightline.report.training import training
from sightline.store.runs import Run
from sightline.store.shards import written_whole

TEMPLATES = Path(__file__).parent / "templates"


class Report(Section):
    """The page about the run."""

    title: str | None = None
    """Name at the top of the page; the run's name where none is given."""
    num_prompts: int = Field(12, ge=0, le=100)
    """Prompts in the picture grid, spread over the topics."""
    num_pairs: int = Field(12, ge=0, le=200)
    """Pairs shown side by side, spread over the topics."""
    num_examples: int = Field(8, ge=0, le=100)
    """Answers shown before and after."""
    num_disagreements: int = Field(4, ge=0, le=50)
    """Answers shown on which two annotators disagree."""


def build(run: Run, section: Report | None = None) -> Path:
    """Write the run's page from what is in its folder and its store; parts that are absent are left out."""
    path = run.folder / "report.html"
    with written_whole(path) as aside:
        aside.write_text(render(run, section or Report()), encoding="utf-8")
    return path


def render(run: Run, section: Report) -> str:
    """The page's text. The same run gives the same text."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # with its fingerprint in the page's policy the browser runs this script, and none that a model's answer might hold
    fingerprint = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template("page.html.j2").render(**_parts(Evidence(run), section), style=style, script=script, script_hash=fingerprint)


def _parts(evidence: Evidence, section: Report) -> dict[str, Any]:
    """What the template shows, by name; None and empty parts have no section."""
    pictures = Pictures(evidence.store)
    found = benchmarks(evidence.results)
    shown = examples(evidence.results, pictures, section.num_examples)
    grid = gallery(evidence, pictures, section.num_prompts)
    links = chain.links(evidence)
    return {
        "title": section.title or evidence.run.folder.name,
        "headline": headline(found) or _fallback(links),
        "footnotes": list(footnotes(found)),
        "benchmarks": found,
        "lmms_eval": lmms_eval(evidence.results),
        "examples": shown,
        "opening": opening(shown),
        "links": links,
        "drops": chain.drops(evidence),
        "timings": chain.timings(evidence),
        "gallery": grid,
        "wins_sentence": wins_sentence(grid.wins) if grid and grid.wins else "",
        "pairs": pairs(evidence, pictures, section.num_pairs),
        "comparison": comparison(evidence, pictures, section.num_disagreements),
        "training": training(evidence),
        "sft": evidence.checkpoint.get("sft"),
        "provenance": provenance(evidence),
        "num_missing_shards": evidence.num_missing_shards,
        "flips": [row.is_flipped for row in evidence.rows("flipped")],
    }


def _fallback(links: list[chain.Link]) -> str:
    """The headline of a run without benchmark results."""
    if not links:
        return "This run has made nothing yet."
    first, last = links[0], links[-1]
    if first is last:
        return f"{first.rows:,} {first.name}."
    return f"{first.rows:,} {first.name} became {last.rows:,} {last.name}."


def template(name: str) -> Any:
    """One of our pages' templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    for filter_ in (wording.number, wording.signed, wording.amount, wording.duration, wording.plural, wording.share):
        environment.filters[filter_.__name__] = filter_
    return environment.get_template(name)
