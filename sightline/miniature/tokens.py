"""The tokenizers of the miniature language models: every word of the world is one token, and any other text is still readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.miniature import captions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# A newline run stands alone, so that a template's "\n\n" is the same tokens whatever follows it
_WORDS = r"\n+| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|[^\S\n]+"


def tokenizer(special: tuple[str, ...], bos: str, eos: str, pad: str, padding_side: str = "right") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with these special tokens (in this order, from 0), which starts every text with `bos`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=2,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(captions.corpus(), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, inner.token_to_id(bos))]
    )
    extra = [token for token in special if token not in (bos, eos, pad)]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=extra,
        padding_side=padding_side,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
