import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.engines.roles import ChatRequest, Decoding
from sightline.engines.transformers import Chat, Transformers, _Sampler, turn
from sightline.errors import RecipeError
from sightline.miniature import world
from tests import standins

GREEDY = Decoding(max_tokens=24)
SAMPLED = Decoding(max_tokens=24, temperature=1.0, top_p=0.95)


def section(**settings: object) -> Transformers:
    return Transformers(kind="transformers", model="miniature/policy", **settings)


@pytest.fixture(scope="module")
def policy() -> Chat:
    return section().load()


@pytest.fixture(scope="module")
def requests(pictures) -> list[ChatRequest]:
    """Of unlike lengths, so that a batch pads and is sorted."""
    texts = [
        "Describe the picture.",
        "What does the picture show?",
        "Is there a cup in the picture?",
        "What colour is the red cup?",
    ]
    return [ChatRequest(text, (picture,), seed) for seed, (text, picture) in enumerate(zip(texts, pictures[:4], strict=True))]


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_batch_answers_as_single_requests_do_and_keeps_their_order(policy, requests, decoding):
    assert policy.chat(requests, decoding) == [policy.chat([request], decoding)[0] for request in requests]


def test_a_request_without_pictures_is_answered(policy):
    assert policy.chat([ChatRequest("Describe the picture.")], GREEDY)[0].num_tokens > 0


@pytest.mark.parametrize("family", sorted(standins.BUILDERS))
def test_every_family_answers_in_batches_as_alone(family, tmp_path):
    """Pictures of other shapes, two of them, and none, on random models of the real architectures."""
    chat = Transformers(kind="transformers", model=str(standins.build(family, tmp_path))).load()
    rng = np.random.default_rng(0)
    sizes = ((30, 40), (32, 64), (56, 30))
    first, second, third = (Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes)
    shown = [("Describe it.", (first,)), ("What is it?", (second,)), ("Say what.", (third, first)), ("Say something.", ())]
    asked = [ChatRequest(text, pictures) for text, pictures in shown]
    replies = chat.chat(asked, Decoding(max_tokens=6))
    assert replies == [chat.chat([request], Decoding(max_tokens=6))[0] for request in asked]
    assert all(reply.num_tokens > 0 for reply in replies)


@pytest.mark.parametrize("family", sorted(standins.BUILDERS))
def test_samples_of_one_prompt_share_its_reading_and_are_what_each_is_alone(family, tmp_path):
    """Unlike numbers of samples, two pictures and none, out of order, in every family."""
    chat = Transformers(kind="transformers", model=str(standins.build(family, tmp_path))).load()
    rng = np.random.default_rng(0)
    first, second = (Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((30, 40), (56, 30)))
    shown = [("Describe it.", (first,)), ("Say.", (second, first)), ("Say something.", ())]
    asked = [ChatRequest(*shown[at], seed=seed) for seed, at in enumerate([0, 1, 0, 2, 0, 2])]
    decoding = Decoding(max_tokens=8, temperature=1.0)
    alone = [chat.chat([request], decoding)[0] for request in asked]
    read = _prompts_read(chat)
    assert chat.chat(asked, decoding) == alone
    assert read == [3]
    assert chat.chat(asked[::2], decoding) == alone[::2]  # nothing is padded
    assert len({alone[at].text for at in (0, 2, 4)}) == 3


def _prompts_read(chat: Chat) -> list[int]:
    """How many prompts each forward pass reads that makes a cache, from now on."""
    read: list[int] = []

    def note(model, arguments, named):
        if named["input_ids"].shape[1] > 1:
            read.append(len(named["input_ids"]))

    chat.model.register_forward_pre_hook(note, with_kwargs=True)
    return read


def test_the_same_question_after_other_turns_is_another_prompt(pictures):
    chat = section().load()
    talks = ((), (("Is there a cat?", "Yes."),), (("Is there a cat?", "No."),))
    asked = [ChatRequest("Describe the picture.", (pictures[0],), earlier=talk) for talk in (*talks, *talks)]
    read = _prompts_read(chat)
    replies = chat.chat(asked, GREEDY)
    assert read == [3]
    assert replies == [chat.chat([request], GREEDY)[0] for request in asked]


def test_a_picture_that_many_samples_are_asked_about_is_encoded_once(pictures):
    chat, encoded = section(batch_size=8).load(), []
    chat.model.model.vision_tower.register_forward_hook(lambda tower, given, found: encoded.append(len(found[0])))
    chat.chat([ChatRequest("Describe the picture.", (pictures[seed % 2],), seed) for seed in range(8)], SAMPLED)
    assert encoded == [2]


def test_a_model_with_inputs_of_another_kind_reads_a_prompt_for_each_sample(pictures):
    chat = section().load()
    asked = [ChatRequest("Describe the picture.", (pictures[0],), seed) for seed in range(3)]
    shared = chat.chat(asked, SAMPLED)
    chat.processor.image_processor.model_input_names = []  # so that nobody says what pixel_values belong to
    read = _prompts_read(chat)
    assert chat.chat(asked, SAMPLED) == shared
    assert read == [3]


def test_earlier_turns_stand_before_the_question_and_the_picture_before_the_first(policy, pictures):
    asked = ChatRequest("And a cup?", (pictures[0],), earlier=(("Is there a cat?", "Yes."), ("A dog?", "No.")))
    read = policy.processor.apply_chat_template(turn(asked), tokenize=False, add_generation_prompt=True)
    words = read.replace("</s>", " ").split()
    assert (
        words == "USER: <image> Is there a cat? ASSISTANT: Yes. USER: A dog? ASSISTANT: No. USER: And a cup? ASSISTANT:".split()
    )
    (reply,) = policy.chat([asked], Decoding(max_tokens=4))
    assert reply.num_tokens


def test_a_seed_decides_what_is_sampled(policy, pictures):
    asked = [ChatRequest("Describe the picture.", (pictures[0],), seed) for seed in range(8)]
    texts = [reply.text for reply in policy.chat(asked, SAMPLED)]
    assert [reply.text for reply in policy.chat(asked[::-1], SAMPLED)] == texts[::-1]
    assert len(set(texts)) > 1


def test_sampling_follows_the_softmax_at_the_temperature():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    drawn = _draws(probabilities.log() * 2, Decoding(temperature=2.0), 4000)  # the temperature undoes the factor
    assert torch.allclose(drawn, probabilities, atol=0.03)


def test_top_p_leaves_the_smallest_set_that_holds_the_share():
    drawn = _draws(torch.tensor([0.5, 0.3, 0.15, 0.05]).log(), Decoding(temperature=1.0, top_p=0.6), 4000)
    assert torch.allclose(drawn, torch.tensor([5 / 8, 3 / 8, 0.0, 0.0]), atol=0.03)  # 0.5 is short of 0.6; 0.8 is not


def _draws(scores: torch.Tensor, decoding: Decoding, number: int) -> torch.Tensor:
    picked = _Sampler(decoding, list(range(number)))(torch.zeros(number, 1), scores.expand(number, -1)).argmax(-1)
    counts = Counter(picked.tolist())
    return torch.tensor([counts[token] / number for token in range(len(scores))])


def test_a_reply_says_whether_it_was_cut(policy):
    rng = np.random.default_rng(0)
    seen = ChatRequest("Describe the picture.", (world.draw(world.sample(rng), rng),))  # before noise it may go on for long
    whole = policy.chat([seen], Decoding(max_tokens=40))[0]
    cut = policy.chat([seen], Decoding(max_tokens=5))[0]
    assert (whole.finish, cut.finish, cut.num_tokens) == ("stop", "length", 5)
    assert whole.text.startswith(cut.text)
    assert whole.num_tokens == len(policy.processor.tokenizer(whole.text, add_special_tokens=False).input_ids)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, policy):
    """A LoRA adapter that moves the model."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    settings = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    get_peft_model(section().load().model, settings).save_pretrained(folder)
    return folder


def test_an_adapter_changes_the_answers(policy, requests, adapter):
    adapted = section(adapter=str(adapter)).load()
    assert adapted.chat(requests, GREEDY) != policy.chat(requests, GREEDY)


def test_an_adapters_weights_and_not_its_place_are_part_of_the_address(adapter, tmp_path):
    moved = shutil.copytree(adapter, tmp_path / "moved")
    (moved / "README.md").write_text("notes")
    assert section(adapter=str(moved)).identity() == section(adapter=str(adapter)).identity() != section().identity()
    settings = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 99}))
    assert section(adapter=str(moved)).identity() != section(adapter=str(adapter)).identity()


def test_batch_size_and_device_are_no_part_of_the_address():
    assert section(batch_size=2, device="cpu").identity() == section().identity() != section(dtype="bfloat16").identity()


def test_a_folder_without_a_model_is_the_users_mistake(tmp_path):
    with pytest.raises(RecipeError, match="cannot be loaded"):
        Transformers(kind="transformers", model=str(tmp_path)).load()


def test_a_folder_without_an_adapter_is_the_users_mistake(tmp_path):
    with pytest.raises(RecipeError, match="no PEFT adapter"):
        section(adapter=str(tmp_path)).fingerprint()


def test_a_model_without_a_chat_template_is_the_users_mistake(tmp_path):
    from sightline.engines.weights import locate

    bare = shutil.copytree(locate("miniature/policy"), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(RecipeError, match="no chat template"):
        Transformers(kind="transformers", model=str(bare)).load()


def test_half_precision_weights_compute_in_float32_on_a_cpu():
    assert section(device="cpu").load().model.dtype == torch.float32
    assert section(device="cpu", dtype="bfloat16").load().model.dtype == torch.bfloat16


def test_a_loaded_model_answers_without_a_word_on_the_terminal(policy, requests, capfd):
    section().load().chat(requests, SAMPLED)
    assert capfd.readouterr() == ("", "")
