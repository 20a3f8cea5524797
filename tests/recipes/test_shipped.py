"""Every recipe of a published system, and the laptop's, from end to end on stand-ins of its models."""

import gc
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import sightline as product
from sightline.engines import ENGINES
from sightline.engines.roles import ChatRequest, Decoding
from sightline.errors import DataError
from sightline.recipe import read
from sightline.show import show
from sightline.store.runs import Run
from tests.conftest import REPOSITORY, Sightline
from tests.make.own import png
from tests.recipes import bench
from tests.recipes.cast import STAND_INS, Cast, answer, quick
from tests.servers import Server

PAPERS = ("pds-dpo", "silkie", "mllm-dpo", "mcm-dpo", "rlaif-v")


@pytest.fixture(autouse=True)
def little_to_collect() -> Iterator[None]:
    """Engines are freed by collecting garbage; what is imported by now need not be looked through each time."""
    import diffusers  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401

    gc.freeze()
    yield
    gc.unfreeze()


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
    product.import_rows(root / "captions.json", "rlaif_v", root / "data/posts/pictures", root / "data/alt-text-sft")
    return root


def carried_out(name: str, cast: Cast, home: Path, tmp_path: Path, monkeypatch: Any, *settings: str) -> tuple[Run, Server]:
    """The recipe's run, and the server that it asked; nothing is missing by a check before, either."""
    monkeypatch.chdir(home)
    with Server(answer) as server:
        overrides = [*cast.overrides(name, server), *quick(name), *settings]
        assert [str(error) for error in product.check(name, overrides).missing] == []
        return product.run(name, tmp_path / "runs" / name, overrides), server


def is_whole(run: Run, *benchmarks: str) -> None:
    """Pairs were made, training learned from them, and every benchmark has a number for both models."""
    assert run.rows("pairs") and run.manifest["checkpoint"]["num_steps"] >= 1
    results = json.loads((run.folder / "results.json").read_text())["benchmarks"]
    assert tuple(result["kind"] for result in results) == benchmarks
    for result in results:
        assert any(metric[who]["value"] is not None for metric in result["metrics"] for who in ("base", "aligned"))


def test_pds_dpo(cast, home, tmp_path, monkeypatch):
    settings = ("make.prompts.count=4", "make.prompts.topics=[art, nature]", "eval.benchmarks.8.repeats=1")
    run, server = carried_out("pds-dpo", cast, home, tmp_path, monkeypatch, *settings)
    is_whole(run, "pope", "amber", "mme", "mmbench", "scienceqa", "textvqa", "vqav2", "mmhal", "mm_vet")
    assert [len(run.rows(step)) for step in ("prompts", "images", "ranking", "instructions")] == [4, 16, 4, 4]
    leads_back(run)
    counts_everything(run, sum(server.paid.values()))


def leads_back(run: Run) -> None:
    """A pair shows its picture, seed, guidance, models with revisions, raw replies, scores and the rule that chose it."""
    pair = run.rows("pairs")[0]
    (asked,) = [row for row in run.rows("instructions") if row.id == pair.instruction_id]
    (painted,) = [row for row in run.rows("images") if row.id == asked.image_id]
    rivals = [row for row in run.rows("images") if row.key == pair.key]
    console = Console(width=1000, record=True, file=io.StringIO())
    for part in show(run.folder, pair.id, 10):
        console.print(part)
    lines = [line.strip(" \u2502\u251c\u2514\u2500") for line in console.export_text().splitlines()]
    told = "\n".join(lines)
    assert f"pictures {run.store.picture(painted.picture)}" in lines and f"guidance {painted.guidance}" in lines
    for step in ("images", "ranking", f"responses/{pair.chosen_model}", "judgements/taste", "replies/instructions"):
        origin = run.rows(step)[0].origin
        assert f"origin engine {origin.engine}, model {origin.model}, revision {origin.revision}" in told
    assert f"seed {painted.origin.seed}" in told and 'text {"instruction": "Describe what is to be seen."}' in lines
    assert all(
        f"{name}_score {round(score, 4)}" in lines
        for name, score in (("chosen", pair.chosen_score), ("rejected", pair.rejected_score))
    )
    assert sum(f"image_id {rival.id}" in line and "score" in line for rival in rivals for line in lines) == 4
    assert any(line.startswith("chosen by kind best_worst") and "{'taste': 1.0}" in line for line in lines)
    assert sum(line.startswith(f"instructions {asked.id[:12]}") and "as above" not in line for line in lines) == 1


def counts_everything(run: Run, num_paid: int) -> None:
    """The manifest has each step's rows, drops by reason and seconds; of served models calls, tokens and cost, here unknown."""
    steps = run.manifest["steps"]
    for name, entry in steps.items():
        assert entry["rows"] == len(run.rows(name)) and entry["wall_seconds"] >= 0
        assert sum(entry["dropped"].values()) == len(run.dropped(name))
    used = [entry["usage"] for entry in steps.values() if entry.get("usage")]
    assert sum(usage["calls"] for usage in used) == num_paid > 0
    assert sum(usage["output_tokens"] for usage in used) == 7 * num_paid and {usage["cost"] for usage in used} == {None}


def test_laptop(cast, home, tmp_path, monkeypatch):
    run, _ = carried_out("laptop", cast, home, tmp_path, monkeypatch, "make.prompts.count=4", "make.prompts.topics=[art, nature]")
    is_whole(run, "pope")
    assert max(Counter(row.instruction_id for row in run.rows("pairs")).values()) <= 2


def test_silkie(cast, home, tmp_path, monkeypatch):
    """Four of twelve answer each instruction; all pairs of different means."""
    run, _ = carried_out("silkie", cast, home, tmp_path, monkeypatch)
    is_whole(run, "mme", "mmhal", "mm_vet")
    pool = [name for name in run.manifest["steps"] if name.startswith("responses/")]
    answered = Counter(row.instruction_id for name in pool for row in run.rows(name))
    assert len(pool) == 12 and set(answered.values()) == {4} and len(answered) == 4
    assert sum(len(run.dropped(name)) for name in pool) == 4 * 8
    assert all(row.chosen_score > row.rejected_score for row in run.rows("pairs"))


def test_mllm_dpo(cast, home, tmp_path, monkeypatch):
    """Of four samples the best against one that is lower by two."""
    run, _ = carried_out("mllm-dpo", cast, home, tmp_path, monkeypatch)
    is_whole(run, "mm_vet", "llava_bench", "mt_bench", "pope", "mmbench")
    assert len(run.rows("responses/policy")) == 4 * len(run.rows("instructions"))
    assert all(row.chosen_score - row.rejected_score >= 2 for row in run.rows("pairs"))


def test_mcm_dpo(cast, home, tmp_path, monkeypatch):
    """People's descriptions stand beside the model's; two stages, the second on all eight of question, picture and answer."""
    # published rules that take packages or data which are not everywhere
    clean = ("eval.benchmarks.0.rule=clean", "eval.benchmarks.2.rule=clean")
    run, _ = carried_out("mcm-dpo", cast, home, tmp_path, monkeypatch, *clean)
    is_whole(run, "alt_text", "pope", "amber", "hallusionbench", "mmhal")
    assert all({row.chosen_model, row.rejected_model} == {"people", "model"} for row in run.rows("pairs"))
    trained = run.manifest["checkpoint"]
    assert min(trained["num_trained"].values()) > 0 and trained["sft"]["num_pairs"] == 4
    assert len({row.term for row in run.rows("reference")}) == 8


def test_rlaif_v(cast, home, tmp_path, monkeypatch):
    """Of ten samples at most two pairs, by the number of claims that the labeller rejects."""
    run, _ = carried_out("rlaif-v", cast, home, tmp_path, monkeypatch)
    is_whole(run, "amber")
    assert len(run.rows("responses/policy")) == 10 * len(run.rows("instructions"))
    pairs = run.rows("pairs")
    assert max(Counter(row.instruction_id for row in pairs).values()) <= 2
    rejected = {row.response_id: sum(claim.holds is False for claim in row.claims) for row in run.rows("annotations/claims")}
    assert all(rejected[row.chosen_id] < rejected[row.rejected_id] for row in pairs)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-VL-2B-Instruct", "llava-hf/llava-v1.6-34b-hf"])
def test_a_model_that_the_server_played_chats_with_pictures_and_without(cast, model):
    chat = ENGINES.read({"kind": "transformers", "model": cast.model(model)}).load()
    pictures = (Image.open(io.BytesIO(png(0))).convert("RGB"),)
    replies = chat.chat([ChatRequest("What is it?", pictures), ChatRequest("Write a line.")], Decoding(max_tokens=4))
    assert [reply.num_tokens for reply in replies] == [4, 4]


@pytest.mark.parametrize("name", [*PAPERS, "laptop"])
def test_a_check_names_all_that_a_new_user_lacks_at_once(name, tmp_path, monkeypatch):
    """In an empty folder: each key, each benchmark with where to get it, the pictures and rows that are the user's own."""
    monkeypatch.chdir(tmp_path)
    recipe, _ = read(name)
    keys = {engine.api_key_env for engine in recipe.engines.values() if engine.served} - {None}
    for key in keys:
        monkeypatch.delenv(key, raising=False)
    findings = product.check(name)
    told = [str(error) for error in findings.missing]
    for key in keys:
        assert any(f"export {key}=" in error for error in told)
    for benchmark in recipe.eval.benchmarks:
        (error,) = [
            error
            for error in told
            if error.startswith(f"benchmark {benchmark.title}, data {benchmark.data}: there is no such file or folder")
        ]
        assert benchmark.origin.split()[0] in error
    if recipe.make.pictures:
        assert any("make.pictures.folder" in error for error in told)
    assert "nothing wrong found" not in list(findings.lines())
    local = {engine.model for engine in recipe.engines.values() if not engine.served}
    assert all(any(model in fact for fact in findings.facts) for model in local) and local <= STAND_INS.keys()


def test_the_command_line_tells_what_is_missing_and_fails(sightline: Sightline):
    done = sightline("check", str(REPOSITORY / "recipes" / "pds-dpo.yaml"), OPENAI_API_KEY="")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "export OPENAI_API_KEY=<your key>" in done.stderr and done.stderr.count("there is no such file or folder") == 9
    assert "prompts: 9000 over 10 topics" in done.stdout


def test_a_run_stops_before_anything_is_made_where_a_benchmark_is_not_here(cast, home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    with Server(answer) as server:
        overrides = [*cast.overrides("laptop", server), *quick("laptop"), "eval.benchmarks.0.data=elsewhere"]
        with pytest.raises(DataError, match="benchmark pope, data elsewhere: there is no such file or folder\n.*AoiDragon/POPE"):
            product.run("laptop", tmp_path / "runs" / "laptop", overrides)
        assert server.bodies == []
    pictures = home / "benchmarks" / "none"
    lacking = product.check("laptop", [f"eval.benchmarks.0.pictures={pictures}"]).missing
    assert [str(error).split("\n")[0] for error in lacking] == [
        f"benchmark pope, pictures: {pictures / 'COCO_val2014_000000000001.jpg'} is not here, nor 1 more of 2"
    ]
