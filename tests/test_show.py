"""A row leads back to all that it came from."""

from rich.console import Console

from sightline.rows import Pair
from sightline.show import show
from sightline.store.runs import Run
from tests.make.rows import annotation, instruction, judgement, response


def noted(run: Run, step: str, rows: list) -> None:
    shards = run.store.source(step, "test", rows, [], 4)
    run.note_step(step, {"shards": [[shard.bucket, shard.address] for shard in shards], "rows": len(rows)})


def test_a_pair_leads_back_to_answers_scores_and_replies_each_once(tmp_path):
    run = Run.create(tmp_path / "run", "name: test", tmp_path / "store")
    noted(run, "instructions", [instruction()])
    noted(run, "responses/pool", [response("good", "a red cup"), response("poor", "a tree")])
    noted(run, "judgements/claims", [judgement("good", "a cup", "Yes."), judgement("poor", "a tree", "No.")])
    noted(run, "annotations/claims", [annotation("good", "claims", 0.0), annotation("poor", "claims", -1.0)])
    pair = Pair(
        id="pair-1", key="key", instruction="?", pictures=[], chosen="a red cup", rejected="a tree", rule="all_pairs",
        chosen_id="good", rejected_id="poor", instruction_id="ask",
    )  # fmt: skip
    for step in ("unbalanced", "pairs"):
        noted(run, step, [pair])
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    for part in show(run.folder, "pair-1", 10):
        console.print(part)
    text = console.export_text()
    assert text.startswith("pairs pair-1") and "unbalanced" not in text
    heads = [line.strip(" \u2502\u251c\u2514\u2500") for line in text.splitlines()]
    for head in ("responses/pool good", "responses/pool poor", "judgements/claims good-a cup", "annotations/claims claims-poor"):
        assert heads.count(head) == 1
    assert "reply Yes." in heads and "score -1.0" in heads and "rule all_pairs" in heads
