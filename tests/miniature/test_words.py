"""The miniature world's texts, tokenizers, language models and their measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.engines.armorm_model import ArmoRM
from sightline.miniature import answer_reward, captions, lessons, measure_words, tower, vlms, world
from sightline.miniature.captions import Turn, Writer
from sightline.miniature.speaker import Speaker
from sightline.miniature.truth import Faults, faults, mentions
from sightline.miniature.world import Scene, Thing

torch.set_num_threads(1)  # two threads on models this small only wait for each other

APPLE_BY_HOUSE = Scene((Thing("apple", "pink", 0), Thing("house", "red", 5)), "nature")
"""Its absent companions: a cup for the apple, a tree for the house."""


def test_a_careless_writer_names_absent_companions_in_their_usual_colour_as_often_as_told():
    rng = np.random.default_rng(0)
    texts = [captions.caption(APPLE_BY_HOUSE, Writer(careless=0.75), rng) for _ in range(2000)]
    assert np.mean(["blue cup" in text for text in texts]) == pytest.approx(0.75, abs=0.03)
    assert np.mean(["green tree" in text for text in texts]) == pytest.approx(0.75, abs=0.03)
    assert "The picture shows a pink apple, a blue cup, a red house and a green tree in the park." in texts


def test_a_careful_writer_says_exactly_what_is_there():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = world.sample(rng)
        assert captions.caption(scene, Writer(), rng) == world.describe(scene)


def test_a_careless_writer_names_what_a_place_is_known_for():
    scene = Scene((Thing("boat", "pink", 0), Thing("cat", "red", 1)), "holidays")
    text = captions.caption(scene, Writer(careless=1.0), np.random.default_rng(0))
    assert text == "The picture shows a pink boat, a red cat and a pink gift in the party."


def test_a_companion_that_is_there_or_expected_twice_is_missing_at_most_once():
    cup_there = Scene((Thing("apple", "red", 0), Thing("cup", "red", 1)), "culinary")
    two_expect_it = Scene((Thing("apple", "red", 0), Thing("book", "red", 1)), "school")
    assert captions.absent_companions(cup_there) == {}
    assert captions.absent_companions(two_expect_it) == {"apple": "cup"}


def test_careful_answers_to_existence_questions_are_true_and_half_of_them_are_yes():
    rng = np.random.default_rng(0)
    answers = []
    for _ in range(2000):
        scene = world.sample(rng)
        question, answer, seen, _ = captions.existence(scene, Writer(), rng)
        ((colour, kind),) = mentions(question)
        there = any(thing.kind == kind and colour in (None, thing.colour) for thing in scene.things)
        assert bool(seen) == there
        assert answer == ("Yes." if there else "No.")
        answers.append(there)
    assert np.mean(answers) == pytest.approx(0.5, abs=0.03)


def test_three_in_five_instructions_ask_for_what_is_there():
    rng = np.random.default_rng(0)
    right = [captions.asked_prompt(APPLE_BY_HOUSE, rng) == world.prompt(APPLE_BY_HOUSE) for _ in range(2000)]
    assert np.mean(right) == pytest.approx(0.6, abs=0.03)


def test_faults_count_each_kind_of_lie_once():
    text = "The picture shows a red apple, a blue cup, a blue cup and a green boat in the kitchen."
    scene = Scene((Thing("apple", "pink", 0), Thing("cup", "blue", 1), Thing("house", "red", 2)), "nature")
    assert faults(text, scene) == Faults(invented=1, left_out=1, miscoloured=1, misplaced=1, repeated=1)
    assert faults(world.describe(scene), scene).total == 0


def test_chair_and_coverage_of_two_answers_by_hand():
    scenes = [APPLE_BY_HOUSE, APPLE_BY_HOUSE]
    first = "The picture shows a pink apple and a blue cup in the park."
    second = "The picture shows a red apple and a red house in the park."
    found = measure_words.summary(scenes, [world.DESCRIBE] * 2, [first, second])
    assert found.chair_i == pytest.approx(100 / 4)  # the cup, of apple, cup, apple, house
    assert found.chair_s == pytest.approx(50)
    assert found.coverage == pytest.approx(75)  # apple, apple, house, of four
    assert found.colours == pytest.approx(100 * 2 / 3)  # the second apple is pink


@pytest.mark.parametrize("make", [lambda: vlms.new_processor().tokenizer, answer_reward.new_tokenizer])
def test_every_word_of_the_world_is_one_token_and_other_text_survives(make):
    tokenizer = make()
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = world.sample(rng)
        text = f" {world.describe(scene)}"
        words = text.replace(",", " ,").replace(".", " .").split()
        assert len(tokenizer(text, add_special_tokens=False).input_ids) == len(words)
    strange = "Zwölf Boxkämpfer — 猫\t#42\r\n\n  fin"
    assert tokenizer.decode(tokenizer(strange, add_special_tokens=False).input_ids) == strange


def test_the_vlm_template_is_llavas_and_a_prompt_is_a_prefix_of_the_whole():
    processor = vlms.new_processor()
    ask = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is there a cup?"}]}]
    answer = [{"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}]
    prompt = processor.apply_chat_template(ask, add_generation_prompt=True)
    assert prompt == "USER: <image>\nIs there a cup? ASSISTANT:"
    assert processor.apply_chat_template(ask + answer) == prompt + " Yes.</s>"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "policy"
    vlms.build("policy", folder, seed=3, share=0.001, log=lambda line: None)
    return folder


def test_a_shortened_build_loads_by_the_ordinary_classes_and_answers(built: Path):
    processor = AutoProcessor.from_pretrained(built, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(built)
    assert model.dtype == torch.float32
    assert processor.tokenizer.padding_side == "left"
    picture = world.draw(APPLE_BY_HOUSE, np.random.default_rng(0))
    questions = [world.DESCRIBE, "Is there a cup in the picture?"]
    assert len(Speaker(built).say([picture, picture.resize((640, 400))], questions, max_tokens=3)) == 2


def test_packed_turns_cost_what_each_turn_costs_alone(built: Path):
    speaker = Speaker(built)
    picture = world.draw(APPLE_BY_HOUSE, np.random.default_rng(0))
    turns = [Turn("Is there a cup in the picture?", "No.", ""), Turn(world.DESCRIBE, world.describe(APPLE_BY_HOUSE))]
    binder = lessons.Binder(speaker.processor.tokenizer)
    settings = speaker.processor.image_processor
    pixels = tower.pixel_values([picture], settings.image_mean, settings.image_std)
    with torch.no_grad():
        page = binder.page(tower.cells(speaker.model.model.vision_tower, pixels), [turns])
        packed = lessons.answer_loss(speaker.model, page, lessons.states(speaker.model, page, binder)).item()
        total, count = 0.0, 0.0
        for question, answer, *_ in turns:
            text = f"USER: <image>\n{question} ASSISTANT: {answer}</s>"
            batch = speaker.processor(images=[picture], text=[text], return_tensors="pt")
            length = len(speaker.processor.tokenizer(f" {answer}</s>", add_special_tokens=False).input_ids)
            logits = speaker.model(**batch).logits[0, -length - 1 : -1]
            # a turn counts by the root of its length
            total += length**0.5 * cross_entropy(logits, batch["input_ids"][0, -length:]).item()
            count += length**0.5
    assert packed == pytest.approx(total / count, abs=1e-5)


def test_a_build_with_the_same_seed_gives_the_same_weights(built: Path, tmp_path: Path):
    vlms.build("policy", tmp_path / "policy", seed=3, share=0.001, log=lambda line: None)
    assert (tmp_path / "policy" / "model.safetensors").read_bytes() == (built / "model.safetensors").read_bytes()


def test_a_shortened_answer_reward_loads_and_scores(tmp_path: Path):
    answer_reward.build(tmp_path / "answer-reward", seed=0, share=0.001, log=lambda line: None)
    model = ArmoRM.from_folder(tmp_path / "answer-reward")
    (found,) = model.score([(world.ASKED[0].format(prompt="a red cup in the park"), "The picture shows a red cup in the park.")])
    assert model.objectives == answer_reward.OBJECTIVES
    assert len(found.rewards) == len(found.gates) == 5


def test_the_shipped_models_are_small():
    sizes = {path.parent.name: path.stat().st_size / 1e6 for path in answer_reward.SHIPPED.glob("*/model.safetensors")}
    assert all(sizes[name] <= 2.5 for name in (*vlms.POOL, "answer-reward"))
    assert sizes["judge"] <= 4
