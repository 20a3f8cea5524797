"""What a check tells before training: lengths, rows left out, the loss mask, what trains, memory, processors of other models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.check import Findings, check
from sightline.errors import DataError, RecipeError, TrainingError
from sightline.execute import Silent
from sightline.recipe import parse
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.shards import Store
from sightline.train import Train, preflight, tuning
from sightline.train.preflight import Seen, Source, look

from .conftest import draw_pairs


def section(model: Path, **changes) -> Train:
    return Train.model_validate({"model": str(model), "objective": {"kind": "dpo"}, "batch_size": 4, **changes})


def seen(store: Store, model: Path, pairs: list[Pair], **changes) -> Seen:
    return look(section(model, **changes), Source(store, store.source("pairs", "test", pairs, [], 4)), Silent())


def findings(root: Path, model: Path, pairs: list[Pair], **changes) -> Findings:
    """Of a recipe whose pairs are a folder of imported rows."""
    RowFolder.write(root, "pairs", pairs, {})
    return check(
        parse({"name": "r", "train": {"model": str(model), "pairs": str(root), "objective": {"kind": "dpo"}, **changes}})
    )


@pytest.fixture
def counted(tiny, store):
    """Tokens of a pair's prompt, and of it with each answer, by the processor on whole conversations."""
    from sightline.engines.transformers import load_processor
    from sightline.execute import Engines, Use

    processor, use = load_processor(str(tiny)), Use(Engines({}), store, 0)

    def count(pair: Pair) -> tuple[list[int], list[int], list[int]]:
        asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair.instruction}]}
        said = [{"role": "assistant", "content": [{"type": "text", "text": text}]} for text in (pair.chosen, pair.rejected)]
        texts = [
            processor.apply_chat_template([asked], add_generation_prompt=True),
            *(processor.apply_chat_template([asked, answer]) for answer in said),
        ]
        return tuple(processor(text=[text], images=[use.picture(pair.pictures[0])])["input_ids"][0] for text in texts)

    return count


def test_lengths_are_the_processors_own_counts(tiny, store, counted):
    pairs = draw_pairs(store, 5)
    looked = seen(store, tiny, pairs)
    prompts, chosen, rejected = (sorted(map(len, some)) for some in zip(*map(counted, pairs), strict=True))
    assert looked.spread("picture") == (9, 9, 9, 9)
    assert looked.spread("prompt") == (prompts[0] - 9,) * 4  # all ask the same
    # five pairs: the third is the median, the fifth has 95 % below or at it
    assert looked.spread("chosen") == tuple(chosen[at] - prompts[0] for at in (0, 2, 4, 4))
    assert looked.spread("path") == tuple(rejected[at] for at in (0, 2, 4, 4))
    packed = sorted(len(c) + len(r) - len(p) for p, c, r in map(counted, pairs))
    assert looked.spread("packed") == tuple(packed[at] for at in (0, 2, 4, 4))


def test_a_pair_one_token_too_long_is_named_with_its_length_and_the_limit(tiny, tmp_path, counted, store):
    pairs = draw_pairs(store, 3)
    longest = sorted(max(len(chosen), len(rejected)) for _, chosen, rejected in map(counted, pairs))
    assert longest[-2] < longest[-1]
    found = findings(store.root, tiny, pairs, max_length=longest[-1] - 1)
    (fault,) = found.faults
    assert (fault.kind, fault.detail) == ("left out: too long", f"{longest[-1]} tokens, the limit is {longest[-1] - 1}")
    told = "\n".join(found.lines())
    assert (
        f"limit of the prompt with an answer: {longest[-1] - 1} tokens (train.max_length; the model's context is 2,048)" in told
    )
    assert "picture tokens least of all" in told and "a higher train.max_length" in told
    assert not findings(store.root, tiny, pairs, max_length=longest[-1]).faults


def test_rows_that_training_leaves_out_are_told_once_by_trainings_reason(tiny, store):
    good, empty, same, reserved, gone, two = draw_pairs(store, 6)
    store.picture(gone.pictures[0]).unlink()
    pairs = [
        good,
        replace(empty, rejected=" "),
        replace(same, rejected=same.chosen),
        replace(reserved, chosen="an <image>"),
        gone,
    ]
    told = findings(store.root, tiny, [*pairs, replace(two, chosen="cat")])
    assert {(fault.row, fault.kind) for fault in told.faults} == {
        ("pair-1", "left out: rejected answer is empty"),
        ("pair-2", "left out: the answers are equal"),
        ("pair-3", "left out: text holds a token that the model reserves"),
        ("pair-4", "left out: a picture cannot be read"),
        ("pair-5", "short answer"),
    }
    assert "training takes 2 of them and leaves 4 out" in "\n".join(told.lines())


def test_rows_of_the_first_stages_own_are_looked_at_as_it_would_see_them(tiny, store, tmp_path):
    """To be learned alone, a row needs no rejected answer; to align on, it does."""
    pairs = draw_pairs(store, 6)
    RowFolder.write(store.root, "pairs", pairs[:2], {})
    tuned = tmp_path / "tuned"
    for pair in pairs[2:]:
        Store(tuned).put_picture(store.picture(pair.pictures[0]).read_bytes())
    alone = [replace(pair, rejected=None) for pair in pairs[2:5]]
    RowFolder.write(tuned, "pairs", [*alone, replace(pairs[5], chosen=None, rejected="A cup in the room.")], {})
    train = {"model": str(tiny), "pairs": str(store.root), "objective": {"kind": "dpo"}, "sft": {"pairs": str(tuned)}}
    found = check(parse({"name": "r", "train": train}))
    assert [seen.num_pairs for _, seen in found.looks] == [4, 2]
    assert [(fault.row, fault.kind) for fault in found.faults] == [
        ("train.sft.pairs, pair-5", "left out: chosen answer is missing"),
    ]
    told = "\n".join(found.lines())
    assert (
        told.index("stage 1, sft") < told.index("takes 3 of them") < told.index("stage 2, dpo") < told.index("takes all of them")
    )
    (missing,) = check(parse({"name": "r", "train": {**train, "sft": {"pairs": str(tmp_path / "nowhere")}}})).missing
    assert isinstance(missing, DataError) and "no imported rows are here" in str(missing)


@pytest.mark.parametrize(("num_pictures", "said"), [(2, "1 places for 2 pictures"), (0, "the pair has no picture")])
def test_pictures_that_the_template_has_no_place_for_are_a_reason(tiny, store, tmp_path, num_pictures, said):
    model = tmp_path / "one"
    shutil.copytree(tiny, model)
    answer = "{% if messages | length > 1 %} {{ messages[1].content[0].text }}</s>{% endif %}"
    (model / "chat_template.jinja").write_text("USER: <image>\n{{ messages[0].content[-1].text }} ASSISTANT:" + answer)
    one, other = draw_pairs(store, 2)
    looked = seen(store, model, [replace(one, pictures=[*one.pictures, *other.pictures][:num_pictures])])
    assert [row.reason for row in looked.dropped] == ["the pictures do not fit the chat template's placeholders"]
    assert said in looked.dropped[0].detail and looked.memory is None


def test_samples_show_the_prompt_with_its_pictures_folded_and_what_counts(tiny, store):
    pairs = draw_pairs(store, 7)
    samples = seen(store, tiny, pairs).samples
    assert [sample.which for sample in samples] == ["shortest", "median", "longest"]
    assert sorted(sample.length for sample in samples) == [sample.length for sample in samples]
    for sample in samples:
        pair = next(pair for pair in pairs if pair.key == sample.key)
        ((prompt, answers),) = sample.prompts
        assert prompt == f"<s>USER: [<image> x 9]\n{pair.instruction} ASSISTANT:"
        assert [(term, text) for term, text, _ in answers] == [
            ("chosen", f" {pair.chosen}</s>"),
            ("rejected", f" {pair.rejected}</s>"),
        ]


def test_a_template_that_starts_twice_is_seen(tiny, store, tmp_path):
    model = tmp_path / "twice"
    shutil.copytree(tiny, model)
    template = model / "chat_template.jinja"
    template.write_text("{{ bos_token }}{{ bos_token }}" + template.read_text())
    found = findings(store.root, model, draw_pairs(store, 1))
    prompt = next(line for line in found.lines() if line.startswith("    prompt"))
    assert prompt.startswith("    prompt    <s><s>USER: [<image> x 9]\\n")
    assert any(line.startswith("    rejected  «") and "</s>»" in line for line in found.lines())


def test_objectives_with_negatives_show_every_prompt_that_they_ask_for(tiny, store):
    pairs = [replace(pair, instruction=f"{pair.instruction} {at}?") for at, pair in enumerate(draw_pairs(store, 3))]
    looked = seen(store, tiny, pairs, objective={"kind": "mcm_dpo"})
    assert looked.step.picture == 18  # the pair's own picture, and its spoilt one
    prompts = looked.samples[0].prompts
    assert len(prompts) == 4 and sum(len(answers) for _, answers in prompts) == 8
    assert (
        seen(store, tiny, draw_pairs(store, 3), objective={"kind": "mcm_dpo"}).dropped[0].reason.startswith("no other question")
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": {"rank": 4}},
        {"vision_tower": "lora", "projector": "full"},
        {"language_model": "full", "projector": "full", "vision_tower": "full"},
        {"language_model": "frozen", "projector": "full", "gradient_checkpointing": True},
    ],
)
def test_numbers_that_train_and_exact_bytes_are_those_of_the_real_network(tiny, store, changes):
    from transformers import AutoModelForImageTextToText

    looked = seen(store, tiny, draw_pairs(store, 1), **changes)
    network = AutoModelForImageTextToText.from_pretrained(tiny)
    whole = sum(value.numel() for value in network.parameters())
    tuned = tuning.tune(network, section(tiny, **changes))
    assert {name: part.trained for name, part in looked.parts.items()} == tuning.count_trained(tuned)
    assert sum(part.total for part in looked.parts.values()) == whole
    assert looked.memory.weights == 4 * sum(value.numel() for value in tuned.parameters())
    trained = 4 * sum(tuning.count_trained(tuned).values())
    assert (looked.memory.gradients, looked.memory.optimizer) == (trained, 2 * trained)


def test_activations_follow_the_rule_of_thumb(tiny, store):
    """Width 32, inner 48, two layers: linear inputs and outputs 2 (8 x 32 + 3 x 32 + 3 x 48), keys and values again 2 x 2 x 32,
    three gradients of 48."""
    pair = draw_pairs(store, 1)[0]
    looked = seen(store, tiny, [pair], accumulation=2)
    assert (looked.step.pairs, looked.step.packed) == (2, looked.lengths[0].packed)
    tokens = 2 * looked.step.packed
    assert looked.memory.activations == 4 * tokens * (2 * (11 * 32 + 3 * 48) + 2 * 2 * 32 + 3 * 48)
    assert looked.memory.logits == 4 * 4 * 2 * (looked.lengths[0].chosen + looked.lengths[0].rejected) * 481
    recomputed = seen(store, tiny, [pair], accumulation=2, gradient_checkpointing=True).memory.activations
    assert recomputed == 4 * tokens * ((11 * 32 + 3 * 48) + 2 * 32 + 2 * 32 + 3 * 48)


def test_a_seven_billion_model_is_looked_at_without_weights(tiny, store, tmp_path):
    """LLaVA-1.5-7B's sizes; adapters of rank 16 on 32 layers: 4 of 4096 to 4096, 3 between 4096 and 11008."""
    model = tmp_path / "seven"
    shutil.copytree(tiny, model, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((model / "config.json").read_text())
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32, "head_dim": 128}
    config["text_config"].update({**sizes, "num_key_value_heads": 32, "vocab_size": 32064})
    (model / "config.json").write_text(json.dumps(config))
    part = seen(store, model, draw_pairs(store, 1)).parts["language_model"]
    assert part.trained == 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008)) == 39_976_960
    assert part.total == 6_738_939_904  # Vicuna's 6,738,415,616 and 64 more words, in and out


def test_many_pairs_are_sampled_and_it_says_so(tiny, store, monkeypatch):
    monkeypatch.setattr(preflight, "DRAWN", 5)
    monkeypatch.setattr(preflight, "LONGEST", 2)
    rows = draw_pairs(store, 40)
    rows[7] = replace(rows[7], chosen=f"{rows[7].chosen} {'and a cat ' * 60}.")
    found = findings(store.root, tiny, rows)
    assert (found.seen.num_pairs, found.seen.num_drawn) == (40, 5) and 5 < found.seen.num_looked <= 7
    alone = seen(store, tiny, [rows[7]])
    assert found.seen.spread("path")[3] == alone.largest.path
    assert f"{found.seen.num_looked} of 40 pairs were encoded as training does it" in "\n".join(found.lines())
    assert found.seen.samples == findings(store.root, tiny, rows).seen.samples


def misfit(tiny: Path, folder: Path, file: str, **changes) -> Path:
    shutil.copytree(tiny, folder)
    settings = json.loads((folder / file).read_text())
    settings.update(changes)
    (folder / file).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("config.json", {"image_token_index": 7}, r"'<image>' \(token 3\).*config.json says 7"),
        ("processor_config.json", {"patch_size": 4}, "36 picture tokens .* the model makes 9 features"),
        ("processor_config.json", {"num_additional_image_tokens": 0}, "8 picture tokens .* the model makes 9 features"),
    ],
)
def test_a_processor_of_another_model_is_refused_by_the_check_and_by_training(tiny, store, tmp_path, file, changes, said):
    from sightline.train.base import Base

    model = misfit(tiny, tmp_path / "misfit", file, **changes)
    with pytest.raises(TrainingError, match=said):
        seen(store, model, draw_pairs(store, 1))
    with pytest.raises(TrainingError, match=said):
        _ = Base(str(model), None, "float32").network


def test_a_tokenizer_of_more_words_than_the_embedding_is_refused(tiny, store, tmp_path):
    config = json.loads((tiny / "config.json").read_text())
    text = {**config["text_config"], "vocab_size": 400}
    model = misfit(tiny, tmp_path / "misfit", "config.json", text_config=text)
    with pytest.raises(TrainingError, match="tokens up to 480, and the model's embedding has 400 rows"):
        seen(store, model, draw_pairs(store, 1))


def test_an_adapter_of_another_model_is_refused(tiny, tmp_path):
    import torch
    from transformers import AutoModelForImageTextToText

    from sightline.engines.transformers import load_model, with_adapter

    tuned = tuning.tune(AutoModelForImageTextToText.from_pretrained(tiny), section(tiny))
    tuning.save(tuned, tmp_path, str(tiny), None)
    cpu = torch.device("cpu")
    assert with_adapter(load_model(str(tiny), None, "float32", cpu), str(tmp_path))
    text = json.loads((tiny / "config.json").read_text())["text_config"]
    for name, change in (
        ("wider", {"intermediate_size": 64}),
        ("deeper", {"num_hidden_layers": 3}),
        ("flatter", {"num_hidden_layers": 1}),
    ):
        other = misfit(tiny, tmp_path / name, "config.json", text_config={**text, **change})
        (other / "model.safetensors").unlink()
        from transformers import AutoConfig

        network = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(other))
        with pytest.raises(RecipeError, match="trained on another"):
            with_adapter(network, str(tmp_path))


def test_pairs_that_a_run_has_made_are_looked_at_and_others_asked_for(tmp_path, monkeypatch):
    """A run of the same steps stands for them; its train section may be another."""
    import yaml

    from sightline.check import _made
    from sightline.recipe import read
    from sightline.store.runs import Run
    from tests.conftest import QUICKSTART

    monkeypatch.chdir(tmp_path)
    recipe, _ = read(QUICKSTART, ["train.epochs=1"])
    found = Findings()
    assert _made(recipe, found) is None and "sightline make" in found.facts[0]
    store = Store(tmp_path / "runs" / "store")
    shards = store.source("pairs", "test", draw_pairs(store, 3), [], 4)
    (tmp_path / "runs" / "x").mkdir()
    run = Run.create(tmp_path / "runs" / "x", read(QUICKSTART)[0].resolved(), store.root)
    run.note_step("pairs", {"shards": [[shard.bucket, shard.address] for shard in shards]})
    source = _made(recipe, found)
    assert source is not None and [pair.id for pair in source] == [pair.id for shard in shards for pair in store.read(shard)]
    assert _made(read(QUICKSTART, ["seed=1"])[0], Findings()) is None
    assert yaml.safe_load(recipe.resolved())["train"]["epochs"] == 1


def test_real_pairs_are_told_as_training_would_drop_them(tiny, shared, tmp_path):
    """PDS-DPO's published sample: two empty rejected answers, one answer past the context."""
    from collections import Counter

    from sightline.formats import import_rows

    import_rows(shared / "data" / "pds_dpo" / "preferences.json", "llava", shared / "data" / "pds_dpo", tmp_path / "pds")
    recipe = {"name": "r", "train": {"model": str(tiny), "pairs": str(tmp_path / "pds"), "objective": {"kind": "dpo"}}}
    found = check(parse(recipe))
    assert Counter(row.reason for row in found.seen.dropped) == {"rejected answer is empty": 2, "too long": 1}
    assert len(found.seen.lengths) == 7
    told = "\n".join(found.lines()).partition("all 10 pairs")[2].partition("rows with a fault")[0]
    assert all(len(line) <= 100 for line in told.splitlines())
