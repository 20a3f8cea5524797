"""What of a pair becomes tokens, and which pairs are refused."""

from dataclasses import replace

import pytest

from sightline.engines import Engines
from sightline.engines.transformers import load_processor
from sightline.errors import TrainingError
from sightline.execute import Use
from sightline.rows import Dropped, Pair
from sightline.train.examples import CACHE_BYTES, Encoder, Pictures
from sightline.train.objectives import CHANGED_TERMS, Term

from .conftest import draw_pairs

TERMS = (Term("chosen"), Term("rejected"))

LLAVA_HUB_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""Writes no end after an answer, as llava-hf/llava-1.5-7b-hf's does."""


@pytest.fixture
def encoder(tiny, store) -> Encoder:
    return Encoder(load_processor(str(tiny)), 256, Use(Engines({}), store, 0).picture)


@pytest.fixture
def pair(store) -> Pair:
    return draw_pairs(store, 1)[0]


def paths(encoder: Encoder, pair: Pair) -> list[list[int]]:
    tree = encoder.tree(pair, TERMS)
    answers = [index for index, segment in enumerate(tree.segments) if segment.term is not None]
    return [[token for at in reversed(tree.path(index)) for token in tree.segments[at].tokens] for index in answers]


def test_prompt_and_answer_are_the_templates_whole_conversation(encoder, pair):
    for path, answer in zip(paths(encoder, pair), (pair.chosen, pair.rejected), strict=True):
        turns = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair.instruction}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        picture = encoder.pictures.open(pair.pictures[0])
        text = encoder.processor.apply_chat_template(turns)
        assert path == encoder.processor(text=[text], images=[picture])["input_ids"][0]
        assert path[-1] == encoder.tokenizer.eos_token_id


def test_the_answer_starts_where_generation_starts(encoder, pair):
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair.instruction}]}]
    text = encoder.processor.apply_chat_template(turns, add_generation_prompt=True)
    prompt = encoder.processor(text=[text], images=[encoder.pictures.open(pair.pictures[0])])["input_ids"][0]
    picture, question, *_ = encoder.tree(pair, TERMS).segments
    assert [*picture.tokens, *question.tokens] == prompt
    assert prompt.count(encoder.tokenizer.convert_tokens_to_ids("<image>")) == 9  # a miniature picture's cells


def test_a_template_without_an_end_gets_one_and_no_space_before_it(encoder, pair):
    encoder.processor.chat_template = LLAVA_HUB_TEMPLATE
    chosen = encoder.tree(pair, TERMS).completion("chosen").tokens
    assert chosen[-1] == encoder.tokenizer.eos_token_id
    assert encoder.tokenizer.decode(chosen[:-1]) == f" {pair.chosen}"


def test_a_template_that_shows_no_picture_is_told(encoder, pair):
    encoder.processor.chat_template = "{% for turn in messages %}{{ turn['content'][-1]['text'] }}{% endfor %}"
    refused = encoder.tree(pair, TERMS)
    assert isinstance(refused, Dropped)
    assert (refused.reason, refused.detail) == ("the chat template shows other pictures", "0 places for 1 pictures")


def test_a_template_that_writes_the_first_token_does_not_write_it_twice(encoder, pair):
    before = paths(encoder, pair)
    encoder.processor.chat_template = "{{ bos_token }}" + encoder.processor.chat_template
    again = Encoder(encoder.processor, 256, encoder.pictures.open)
    assert paths(again, pair) == before


def test_letters_that_join_across_the_border_belong_to_the_branches(encoder, pair):
    """'...ASSISTANT: T' and 'he picture': the tokenizer joins what the template parts."""
    encoder.processor.chat_template = (
        "USER: <image>\n{{ messages[0].content[-1].text }} ASSISTANT: T"
        "{% if messages | length > 1 %}{{ messages[1].content[0].text }}</s>{% endif %}"
    )
    halved = replace(pair, chosen="he cat", rejected="wo cats")
    whole = encoder.tokenizer("USER: <image>\nDescribe the picture. ASSISTANT: The cat</s>")["input_ids"]
    image = encoder.tokenizer.convert_tokens_to_ids("<image>")
    at = whole.index(image)
    assert paths(encoder, halved)[0] == [*whole[:at], *[image] * 9, *whole[at + 1 :]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rejected": ""}, "rejected answer is empty"),
        ({"rejected": None}, "rejected answer is missing"),
        ({"chosen": None, "rejected": None}, "both answers are missing"),
        ({"chosen": " \n"}, "chosen answer is empty"),
        ({"chosen": "A cat.", "rejected": " A cat. "}, "the answers are equal"),
        ({"chosen": "An <image> of a cat."}, "text holds a token that the model reserves"),
        ({"instruction": "Describe </s> it."}, "text holds a token that the model reserves"),
        ({"pictures": ["0" * 32]}, "a picture cannot be read"),
        ({"rejected": "a cat " * 200}, "too long"),
    ],
)
def test_a_pair_that_cannot_be_trained_on_is_dropped_with_its_reason(encoder, pair, changes, reason):
    refused = encoder.tree(replace(pair, **changes), TERMS)
    assert isinstance(refused, Dropped)
    assert (refused.key, refused.row_id, refused.reason) == (pair.key, pair.id, reason)
    assert refused.detail


def test_a_pair_may_lack_an_answer_that_is_optional(encoder, pair):
    terms = tuple(replace(term, optional=True) for term in TERMS)
    tree = encoder.tree(replace(pair, rejected=None), terms)
    assert [segment.term for segment in tree.segments if segment.term] == ["chosen"]
    assert tree.num_scored("chosen") == len(tree.completion("chosen").tokens) and tree.num_scored("rejected") == 0
    assert encoder.tree(replace(pair, id="empty", rejected=" "), terms).reason == "rejected answer is empty"
    assert encoder.tree(replace(pair, id="neither", chosen=None, rejected=None), terms).reason == "both answers are missing"


def test_changed_tokens_are_places_in_the_answers(encoder, pair):
    """The rule by hand is in test_changes.py."""
    pair = replace(pair, chosen="The picture shows a red cup in the park.", rejected="The picture shows a blue cup in the park.")
    tree = encoder.tree(pair, (*TERMS, *CHANGED_TERMS))
    for side, word in (("chosen", "red"), ("rejected", "blue")):
        segment = tree.completion(f"{side}/changed")
        assert encoder.tokenizer.decode([segment.tokens[at] for at in segment.counted]).strip() == word
        assert segment.tokens == tree.completion(side).tokens
        assert tree.num_scored(f"{side}/changed") == len(segment.counted) < tree.num_scored(side)


def test_too_long_says_how_long_and_the_bound_is_exact(encoder, pair):
    longest = max(map(len, paths(encoder, pair)))
    tight = [Encoder(encoder.processor, limit, encoder.pictures.open).tree(pair, TERMS) for limit in (longest, longest - 1)]
    assert not isinstance(tight[0], Dropped)
    assert tight[1].detail == f"{longest} tokens, the limit is {longest - 1}"


def test_a_model_without_a_chat_template_is_refused(encoder):
    encoder.processor.chat_template = None
    with pytest.raises(TrainingError, match="chat template"):
        Encoder(encoder.processor, 256, encoder.pictures.open)


def test_prepared_pictures_stay_within_their_bound():
    import torch

    pictures = Pictures(None, lambda name: None)
    for name in "abc":
        pictures.keep(name, {"input_ids": torch.zeros(1), "pixel_values": torch.empty(CACHE_BYTES // 2, dtype=torch.uint8)})
    assert [name for name in "abc" if name in pictures._held] == ["b", "c"]
