"""Every recipe of a published system, and the laptop's, from end to end on stand-ins of its models."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import sightline
from sightline.recipe import read
from sightline.show import show
from sightline.store.runs import Run
from tests.make.own import png
from tests.recipes import bench
from tests.recipes.cast import STAND_INS, Cast, answer, quick
from tests.servers import Server

PAPERS = ("pds-dpo", "silkie", "mllm-dpo", "mcm-dpo", "rlaif-v")


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    return Cast(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with benchmarks and data where the recipes say that the user's are."""
    root = tmp_path_factory.mktemp("home")
    bench.lay_out(root)
    for folder, table, rows in (
        ("silkie/pictures", "silkie/instructions.jsonl", {"img_path": "{n}.png", "prompt": "What is in picture {n}?"}),
        ("mllm-dpo/pictures", "mllm-dpo/questions.jsonl", {"image": "{n}.png", "instruction": "What is in picture {n}?"}),
        ("rlaif-v/pictures", "rlaif-v/instructions.jsonl", {"image": "{n}.png", "instruction": "What is in picture {n}?"}),
        ("posts/pictures", "posts/posts.jsonl", {"image": "{n}.png", "instruction": "Post {n}?", "alt_text": "a red cup, {n}"}),
    ):
        (root / "data" / folder).mkdir(parents=True)
        for number in range(4):
            (root / "data" / folder / f"{number}.png").write_bytes(png(number))
        filled = [{key: text.format(n=number) for key, text in rows.items()} for number in range(4)]
        (root / "data" / table).write_text("\n".join(map(json.dumps, filled)))
    own = [{"idx": n, "image": f"{n}.png", "question": "Post?", "chosen": f"cup {n}", "rejected": "a picture"} for n in range(4)]
    (root / "captions.json").write_text(json.dumps(own))
    sightline.import_rows(root / "captions.json", "rlaif_v", root / "data/posts/pictures", root / "data/alt-text-sft")
    return root


def carried_out(name: str, cast: Cast, home: Path, tmp_path: Path, monkeypatch: Any, *settings: str) -> tuple[Run, Server]:
    """The recipe's run, and the server that it asked; nothing is missing by a check before, either."""
    monkeypatch.chdir(home)
    with Server(answer) as server:
        overrides = [*cast.overrides(name, server), *quick(name), *settings]
        assert [str(error) for error in sightline.check(name, overrides).missing] == []
        return sightline.run(name, tmp_path / "runs" / name, overrides), server


def is_whole(run: Run, *benchmarks: str) -> None:
    """Pairs were made, training learned from them, and every benchmark has a number for both models."""
    assert run.rows("pairs") and run.manifest["checkpoint"]["steps"] >= 1
    results = json.loads((run.folder / "results.json").read_text())["benchmarks"]
    assert tuple(result["kind"] for result in results) == benchmarks
    for result in results:
        first = result["metrics"][0]
        assert first["base"]["n" if "n" in first["base"] else "value"] is not None and "aligned" in first


def test_pds_dpo(cast, home, tmp_path, monkeypatch):
    settings = ("make.prompts.count=4", "make.prompts.topics=[art, nature]")
    run, server = carried_out("pds-dpo", cast, home, tmp_path, monkeypatch, *settings)
    is_whole(run, "pope", "amber", "mme", "mmbench", "scienceqa", "textvqa", "vqav2", "mmhal", "mm_vet")
    assert {row.guidance for row in run.rows("images")} == {5, 7, 9, 11}
    assert {row.model for row in run.rows("pairs")} if hasattr(run.rows("pairs")[0], "model") else True


def test_laptop(cast, home, tmp_path, monkeypatch):
    run, _ = carried_out("laptop", cast, home, tmp_path, monkeypatch, "make.prompts.count=4", "make.prompts.topics=[art, nature]")
    is_whole(run, "pope")


def test_silkie(cast, home, tmp_path, monkeypatch):
    run, _ = carried_out("silkie", cast, home, tmp_path, monkeypatch)
    is_whole(run, "mme", "mmhal", "mm_vet")


def test_mllm_dpo(cast, home, tmp_path, monkeypatch):
    run, _ = carried_out("mllm-dpo", cast, home, tmp_path, monkeypatch)
    is_whole(run, "mm_vet", "llava_bench", "mt_bench", "pope", "mmbench")


def test_mcm_dpo(cast, home, tmp_path, monkeypatch):
    # its published rule for descriptions takes packages that are not installed here
    run, _ = carried_out("mcm-dpo", cast, home, tmp_path, monkeypatch, "eval.benchmarks.1.rule=clean")
    is_whole(run, "pope", "amber", "hallusionbench", "mmhal")


def test_rlaif_v(cast, home, tmp_path, monkeypatch):
    run, _ = carried_out("rlaif-v", cast, home, tmp_path, monkeypatch)
    is_whole(run, "amber")
