"""The page is made of what a run has, and of nothing else."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

from PIL import Image as Picture

from sightline.report import Report, build
from sightline.report.annotators import comparison
from sightline.report.build import render
from sightline.report.evidence import Evidence, spread
from sightline.report.gallery import gallery, wins_by_guidance
from sightline.report.pictures import Pictures
from sightline.report.training import training
from sightline.rows import Annotation, Candidate, RankedImage, Response
from sightline.store.runs import Run
from sightline.store.shards import Shard

VOID = {"meta", "link", "img", "input", "br"}


class Structure(HTMLParser):
    """Ids of sections, levels of headings, and elements left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.headings: list[int] = []
        self.outside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "section":
            self.sections.append(given["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.outside += [value for name, value in attrs if name in ("src", "href") and not value.startswith(("data:", "#"))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def text_of(run: Run, **settings) -> str:
    return build(run, Report(**settings)).read_text(encoding="utf-8")


def test_a_whole_run_gets_all_sections_in_order_in_one_file(finished_run):
    page = text_of(finished_run)
    found = Structure(page)
    wanted = "results examples chain ranking pairs annotators dropped training timings provenance".split()
    assert found.sections == wanted
    assert found.outside == []
    assert "@import" not in page
    assert not found.open
    assert "Hallucinated objects fell from" in page
    assert len(page) < 5_000_000


def test_headings_never_skip_a_level(finished_run):
    levels = Structure(text_of(finished_run)).headings
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_same_run_gives_the_same_page(finished_run):
    assert render(finished_run, Report()) == render(finished_run, Report())


def test_counts_on_the_page_are_those_of_the_run(finished_run):
    page = text_of(finished_run, num_prompts=5, num_pairs=3)
    section = page[page.index('<section id="ranking"') : page.index('<section id="pairs"')]
    assert section.count('data-prompt="') == 5
    assert section.count('class="winner"') == 5
    assert section.count("<img") == 5 * 4
    pairs = page[page.index('<section id="pairs"') : page.index('<section id="annotators"')]
    assert pairs.count("<article") == 3
    assert f"{len(finished_run.rows('pairs'))}\u00a0pairs for training" in pairs


def test_an_empty_run_gets_a_page_that_says_so(tmp_path):
    page = text_of(Run.create(tmp_path / "runs" / "new", "name: new\n", tmp_path / "store"))
    assert "This run has made nothing yet." in page
    assert Structure(page).sections == ["provenance"]


def test_a_run_without_results_log_and_annotations_leaves_these_sections_out(maker):
    maker.note("prompts", [maker.prompt(scene) for scene in maker.scenes])
    page = text_of(maker.run)
    assert Structure(page).sections == ["chain", "timings", "provenance"]
    assert "4 prompts." in page


def test_pictures_and_shards_that_are_gone_leave_a_gap_and_no_crash(maker):
    run = maker.make()
    for row in run.rows("ranking"):
        run.store.picture(row.picture).unlink(missing_ok=True)
    bucket, address = run.manifest["steps"]["pairs"]["shards"][0]
    run.store.path(Shard("pairs", bucket, address)).unlink()
    page = text_of(run)
    assert "picture missing" in page
    assert "No longer in the store: 1\u00a0shard of this run." in page


def test_answers_cannot_bring_html_into_the_page(maker):
    run = maker.make()
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    example = {"picture": None, "question": evil, "base": evil, "aligned": evil, "hallucinated_base": ["script"], "truth": [evil]}
    (run.folder / "results.json").write_text(json.dumps({"benchmarks": [], "examples": [example]}))
    page = text_of(run, title=evil)
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_photographs_become_small_jpegs_and_pixel_art_stays_as_it_is(maker):
    stream = io.BytesIO()
    Picture.effect_noise((2000, 1500), 90).convert("RGB").save(stream, "PNG")
    photograph = maker.store.put_picture(stream.getvalue())
    drawn = maker.picture(maker.scenes[0])
    pictures = Pictures(maker.store)
    shown, small = pictures.show(photograph), pictures.show(drawn)
    assert (shown.width, shown.height) == (256, 192)
    assert shown.uri.startswith("data:image/jpeg")
    assert not shown.is_pixel_art
    assert (small.width, small.height, small.is_pixel_art) == (24, 24, True)
    assert pictures.show("0" * 32) is None


def test_many_photographs_get_smaller_rather_than_making_the_page_huge(maker):
    stream = io.BytesIO()
    Picture.effect_noise((600, 600), 90).save(stream, "PNG")
    name = maker.store.put_picture(stream.getvalue())
    pictures = Pictures(maker.store, allowance=100_000)
    sides = [pictures.show(name).width for _ in range(20)]
    assert sides[0] == 256
    assert sides[-1] == 96


def ranked(maker, winners: list[int]) -> list[RankedImage]:
    prompt = maker.prompt(maker.scenes[0])
    row = maker.rank(prompt, maker.images(prompt, maker.scenes[0]))
    scales = [5.0, 7.0, 9.0, 11.0]
    candidates = [
        Candidate(image_id=str(at), picture=row.picture, guidance=scale, score=float(at)) for at, scale in enumerate(scales)
    ]
    return [
        RankedImage(**{**vars(row), "candidates": candidates, "image_id": str(winner), "id": str(at)})
        for at, winner in enumerate(winners)
    ]


def test_wins_by_guidance_are_counted_over_all_prompts_that_had_a_choice(maker):
    wins = wins_by_guidance(ranked(maker, [1, 1, 2, 3]))
    assert [(entry.label, entry.wins, entry.entered, entry.expected) for entry in wins] == [
        ("5", 0, 4, 25.0), ("7", 2, 4, 25.0), ("9", 1, 4, 25.0), ("11", 1, 4, 25.0),
    ]  # fmt: skip


def test_the_grid_marks_the_ranking_s_winner(finished_run):
    shown = gallery(Evidence(finished_run), Pictures(finished_run.store), 24)
    winners = {
        row.id: next(c.guidance for c in row.candidates if c.image_id == row.image_id) for row in finished_run.rows("ranking")
    }
    marked = {row.id: [cell.label for cell in row.cells if cell.is_winner] for row in shown.rows}
    assert marked == {key: [f"guidance {guidance:g}"] for key, guidance in winners.items()}


def test_annotators_are_compared_on_pairs_of_different_answers(maker):
    asked = maker.instruct(ranked(maker, [0])[0])
    texts = {"a": "one", "b": "two", "c": "three", "d": "three"}  # c and d say the same, so one of them counts
    origin = maker.rank(maker.prompt(maker.scenes[0]), maker.images(maker.prompt(maker.scenes[0]), maker.scenes[0])).origin
    maker.note("responses/pool", [
        Response(
            id=name, key=asked.key, instruction_id=asked.id, instruction=asked.text, pictures=asked.pictures, text=text,
            model=name,
            index=0, finish="stop", num_tokens=1, origin=origin,
        )
        for name, text in texts.items()
    ])  # fmt: skip
    for annotator, sees, scores in (("blind", False, (3.0, 2.0, 1.0, 1.0)), ("looks", True, (0.0, 5.0, 0.0, 0.0))):
        maker.note(f"annotations/{annotator}", [
            Annotation(id=annotator + name, key=asked.key, response_id=name, annotator=annotator, score=score, sees_picture=sees)
            for name, score in zip(texts, scores, strict=True)
        ])  # fmt: skip
    found = comparison(Evidence(maker.run), Pictures(maker.store), 4)
    # a-b: blind a, looks b; a-c: blind a, looks tied; b-c: both b
    assert (found.same, found.opposite, found.first_tied, found.second_tied, found.both_tied) == (1, 1, 0, 1, 0)
    assert (found.first.by_model, found.second.by_model) == ({"a": 1}, {"b": 1})
    assert [[side.label.model for side in one.sides] for one in found.disagreements] == [["a", "b"]]


def test_rows_are_spread_over_their_groups():
    assert spread(["a1", "a2", "a3", "b1", "c1", "c2"], 5, by=lambda row: row[0]) == ["a1", "b1", "c1", "a2", "c2"]


def test_objectives_that_look_at_pictures_have_a_curve_of_it(maker):
    folder = maker.run.folder
    log = [{"step": step, "loss": 0.7, "margin/chosen/picture": step / 10} for step in (1, 2, 3)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    maker.run.note(checkpoint={"log": str(folder / "log.jsonl")})
    found = training(Evidence(maker.run))
    assert [panel.title for panel in found.panels] == ["Loss", "Picture margin"]


def test_the_page_needs_no_torch(finished_run):
    code = (
        "import sys; from pathlib import Path; from sightline.store.runs import Run; from sightline.report import build\n"
        f"build(Run.open(Path({str(finished_run.folder)!r})))\n"
        "assert not {'torch', 'transformers', 'diffusers', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def section_of(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}"') :].split("</section>")[0]


def test_rows_of_one_answer_are_shown_without_an_empty_side(maker):
    run = maker.make()
    rows = [replace(row, rejected=None, rejected_id=None, rejected_model=None, rule="best_of_n") for row in run.rows("pairs")]
    maker.note("pairs", rows)
    page = text_of(run)
    shown = section_of(page, "pairs")
    words = sum(len(row.chosen.split()) for row in rows) / len(rows)
    assert (
        "Rows to learn" in shown and f"{len(rows)}\u00a0rows for training" in shown and f"{words:.1f} words on average" in shown
    )
    assert "rejected" not in re.sub(r'class="[^"]*"|<li.*?</li>', "", shown).lower() and "(an empty answer)" not in shown
    assert shown.count('<div class="side') == shown.count("<article") > 0
    assert ">Rows</a>" in page and not Structure(page).open


def test_pairs_and_single_answers_are_counted_apart(maker):
    run = maker.make()
    one, two, *rest = run.rows("pairs")
    rows = [replace(one, rejected=None), replace(two, chosen=None), *rest]
    maker.note("pairs", rows)
    shown = section_of(text_of(run), "pairs")
    longer = sum(len(row.chosen.split()) > len(row.rejected.split()) for row in rest)
    assert "Pairs and single answers" in shown and f"{len(rest)} of them hold two answers" in shown
    assert f"the longer in {100 * longer / len(rest):.0f}\u00a0% of pairs" in shown


def test_a_first_stage_and_what_was_added_to_questions_are_told(maker):
    run = maker.make()
    stage = {"num_steps": 12, "num_pairs": 40, "first_loss": 1.25, "last_loss": 0.5, "seconds": 9.0, "address": "abc"}
    run.note(checkpoint={**run.manifest["checkpoint"], "sft": stage})
    results = json.loads((run.folder / "results.json").read_text())
    results["benchmarks"][0]["suffix"] = "\nFaithfulness:4"
    (run.folder / "results.json").write_text(json.dumps(results))
    page = text_of(run)
    assert "supervised fine-tuning: 12\u00a0steps on 40\u00a0answers, loss 1.25 to 0.50" in section_of(page, "training")
    assert "training/sft" in section_of(page, "timings") and "fine-tuned address" in section_of(page, "provenance")
    assert section_of(page, "results").count("with this behind it: “Faithfulness:4”") == 1
