"""Equal to the original implementations, which ran on the stand-ins' weights and these rows; their numbers stand here.

clipscore: jmhessel/clipscore 1036465 with openai/CLIP d05afc4. pickscore: the snippet in yuvalkirstain/PickScore f79607f's
README, on transformers 4.25.1. blip_*: models/blip_itm.py of salesforce/BLIP 056a169, on transformers 4.25.1. All on a CPU in
float32, their own tokenizers reading the stand-ins' words; torchvision's transforms were written out with Pillow.
"""

import shutil
from pathlib import Path

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.engines import ENGINES, Engines
from sightline.engines.clip_scores import ClipScores
from sightline.errors import RecipeError
from sightline.execute import Execution, Executor
from sightline.make import Make, make
from sightline.store.shards import Store
from tests import standins
from tests.engines.rows import PROMPTS, rectangles

ORIGINALS = {
    "clipscore": [0.0, 0.11252983659505844, 0.11606861650943756, 0.20982626080513, 0.0],
    "pickscore": [-1.950980544090271, 1.102507472038269, 0.5437101721763611, 0.7141218185424805, 1.0578280687332153],
    "blip_itm": [0.6383326053619385, 0.9181760549545288, 0.9646643400192261, 0.9143309593200684, 0.9667649865150452],
    "blip_itc": [0.2745940685272217, 0.1902606189250946, 0.14945591986179352, 0.09587834775447845, -0.26817429065704346],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The stand-in that each rule reads."""
    clip, blip = (standins.build(name, tmp_path_factory.mktemp(name)) for name in ("clip", "blip_itm"))
    return {"clipscore": clip, "pickscore": clip, "blip_itm": blip, "blip_itc": blip}


@pytest.fixture(scope="module")
def pictures() -> list[PIL.Image.Image]:
    return rectangles()


def engine(folder: Path, rule: str, **fields: int) -> ClipScores:
    return ClipScores(kind="clip_scores", model=str(folder), rule=rule, device="cpu", **fields)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("rule", ORIGINALS)
def test_scores_are_the_original_implementations_whatever_the_batches(folders, pictures, rule, batch_size):
    found = engine(folders[rule], rule, batch_size=batch_size).load().score(PROMPTS, pictures)
    assert found == pytest.approx(ORIGINALS[rule], abs=1e-5)


@pytest.mark.parametrize("rule", ["pickscore", "blip_itm"])
def test_scores_stand_in_the_order_of_the_rows(folders, pictures, rule):
    found = engine(folders[rule], rule, batch_size=2).load().score(PROMPTS[::-1], pictures[::-1])
    assert found == pytest.approx(ORIGINALS[rule][::-1], abs=1e-5)


@pytest.mark.parametrize(("rule", "room"), [("clipscore", 77), ("pickscore", 77), ("blip_itm", 35), ("blip_itc", 35)])
def test_what_the_model_has_no_room_for_does_not_count(folders, pictures, rule, room):
    scorer = engine(folders[rule], rule).load()

    def num_tokens(text: str) -> int:
        return len(scorer.processor.tokenizer(text).input_ids)  # its two marks among them

    full = ["tree"] * (room - num_tokens("A photo depicts cat" if rule == "clipscore" else "cat")) + ["cat"]
    prompts = [" ".join(words) for words in (full, [*full, "park"], [*full[:-1], "park"])]
    assert num_tokens("tree cat park") == 5
    whole, cut, other = scorer.score(prompts, pictures[1:2] * 3)
    assert cut == pytest.approx(whole, abs=1e-5)
    assert abs(other - whole) > 1e-4


def test_a_probability_near_one_is_told_from_a_greater_one(folders, pictures, tmp_path):
    shutil.copytree(folders["blip_itm"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["itm_head.bias"] = torch.tensor([0.0, 20.0])
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = engine(tmp_path, "blip_itm").load().score(["a red cup"] * 5, pictures)
    assert min(found) > 1 - 1e-6 and len(set(found)) == 5


def test_ranking_keeps_the_picture_that_scores_highest(folders, tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    sections = {
        "painter": {"kind": "diffusers", "model": "miniature/painter", "steps": 2, "max_sequence_length": 1},
        "eyes": {"kind": "clip_scores", "model": str(folders["pickscore"]), "rule": "pickscore"},
    }
    prompts = ["a red cup in the kitchen", "a yellow cat in the room"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    recipe = Make.model_validate(
        {
            "prompts": {"kind": "file", "path": "prompts.txt"},
            "images": {"engine": "painter", "guidance": [1, 3, 5]},
            "ranking": {"scorer": "eyes"},
        }
    )
    store = Store(tmp_path / "store")
    hands = Executor(store, Engines({name: ENGINES.read(each) for name, each in sections.items()}), 0, Execution(threads=1))
    with hands.working():
        tallies = make(recipe, hands, tmp_path, lambda tally: None)
    ranked = [row for shard in tallies["ranking"].shards for row in store.read(shard)]
    model = CLIPModel.from_pretrained(folders["pickscore"]).eval()
    processor = CLIPProcessor.from_pretrained(folders["pickscore"], backend="pil")
    assert [row.prompt for row in ranked] == prompts
    for row in ranked:
        shown = [PIL.Image.open(store.picture(candidate.picture)) for candidate in row.candidates]
        with torch.no_grad():
            logits = model(**processor(text=[row.prompt], images=shown, return_tensors="pt")).logits_per_text[0]
        assert [candidate.score for candidate in row.candidates] == pytest.approx(logits.tolist(), abs=1e-4)
        assert row.picture == row.candidates[int(logits.argmax())].picture and row.score == max(c.score for c in row.candidates)


@pytest.mark.parametrize(("rule", "of"), [("pickscore", "blip_itm"), ("blip_itm", "pickscore")])
def test_a_model_of_the_other_family_is_refused(folders, rule, of):
    with pytest.raises(RecipeError, match=r"reads a (clip|blip) model, and this is a (blip|clip)"):
        engine(folders[of], rule).load()


def test_a_model_without_matching_head_is_refused(folders, tmp_path):
    shutil.copytree(folders["blip_itm"], tmp_path, dirs_exist_ok=True)
    kept = {name: value for name, value in load_file(tmp_path / "model.safetensors").items() if "itm_head" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RecipeError, match=r"no weights for itm_head\.bias, itm_head\.weight"):
        engine(tmp_path, "blip_itm").load()


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("processor_config.json", "image processor"), ("tokenizer.json", "no tokenizer"), ("config.json", "Unrecognized model")],
)
def test_a_folder_that_lacks_a_part_is_refused(folders, tmp_path, lacking, said):
    shutil.copytree(folders["clipscore"], tmp_path, dirs_exist_ok=True)
    (tmp_path / lacking).unlink()
    with pytest.raises(RecipeError, match=said):
        engine(tmp_path, "clipscore").load()
