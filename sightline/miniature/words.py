"""The word-level tokenizers of the painter and the image reward: every word of a prompt is one token, other words are unknown.

The vocabulary is in tokenizer.json, so that an engine can tell a person which words of a prompt the model does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.miniature import world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROMPT_WORDS = ("a", ",", "and", "in", "the", *world.COLOURS, *world.KINDS, *world.PLACES)
PROMPT_TOKENS = 16
"""The longest prompt: a, colour and kind three times, a comma, 'and', 'in the', a place, and a token at both ends."""


def word_tokenizer(start: str, end: str, pad: str, unknown: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the world's prompts, with these special tokens (pad is 0), lower-casing, padding on the right."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate((pad, start, unknown, *PROMPT_WORDS, end))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(start, vocabulary[start]), (end, vocabulary[end])]
    inner.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        unk_token=unknown,
        cls_token=start,
        sep_token=end,
        model_max_length=PROMPT_TOKENS,
        padding_side="right",
    )
