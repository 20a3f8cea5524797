"""Stand-ins for hub models: the real architecture, processor and folder layout of each family, small, with random weights.

The chat models' tokenizers are byte-level BPE trained on a few sentences, with each family's own special tokens; the chat
templates put the same tokens in the same places as the published ones. The scorers' tokenizers are of the published kinds, so
that the original implementations read the same token ids. Each builder returns the model's folder.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from sightline.engines.processors import without_video

CORPUS = [
    "The picture shows a red cup and a green tree in the park.",
    "Describe what it shows. What colour is the cat? Say something. USER: ASSISTANT: user assistant system model",
    "No, nothing at all; a long story about a pink cat, a blue bird and the yellow sun.\n\nHere is it.",
]
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
CLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def build(name: str, folder: Path) -> Path:
    """Save the stand-in of this name into the folder."""
    return (BUILDERS | SCORERS)[name](folder)


def tokenizer(
    specials: list[str], bos: str | None, eos: str, pad: str, adds_bos: bool = False, **named: str
) -> PreTrainedTokenizerFast:
    """A trained byte-level tokenizer; `named` are special tokens that the family's processor asks for by attribute."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(dict.fromkeys([*specials, *([bos] if bos else []), eos, pad, *named.values()])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    if adds_bos:  # as Llama's and Gemma's do
        inner.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token=eos, pad_token=pad, padding_side="left", extra_special_tokens=named
    )


def save(folder: Path, config: Any, processor: Any) -> Path:
    """Weights are wide, so that one token's change moves every log-probability that may see it."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _text(words: PreTrainedTokenizerFast, kind: str, **changes: Any) -> dict[str, Any]:
    ids = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id, "bos_token_id": words.bos_token_id}
    return {**TEXT, "model_type": kind, "vocab_size": len(words) + 3, "max_position_embeddings": 1024, **ids, **changes}


VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }} {% endif %}{% endfor %}"
    "{% else %}ASSISTANT: {% for part in message['content'] %}{{ part['text'] }} {% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PICTURE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}"
    "{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
UTTERANCE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def llava(folder: Path) -> Path:
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaProcessor

    words = tokenizer(["<unk>", "<image>"], "<s>", "</s>", "<pad>", True, image_token="<image>")
    size = {"height": 12, "width": 12}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size=size),
        words,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    vision = {"model_type": "clip_vision_model", "image_size": 12, "patch_size": 4, **CLIP}
    text = _text(words, "llama")
    return save(
        folder,
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>")),
        processor,
    )


def llava_next(folder: Path, kind: str = "llama", **changes: Any) -> Path:
    """As v1.6; with Mistral as its language model it has that one's sliding window."""
    from transformers import LlavaNextConfig, LlavaNextImageProcessorPil, LlavaNextProcessor

    words = tokenizer(["<unk>", "<image>"], "<s>", "</s>", "<pad>", True, image_token="<image>")
    pinpoints = [[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]]
    size = {"height": 12, "width": 12}
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(size={"shortest_edge": 12}, crop_size=size, image_grid_pinpoints=pinpoints),
        words,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    vision = {"model_type": "clip_vision_model", "image_size": 12, "patch_size": 4, **CLIP}
    text = _text(words, kind, **changes)
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaNextConfig(vision_config=vision, text_config=text, image_token_index=image, image_grid_pinpoints=pinpoints)
    return save(folder, config, processor)


def llava_next_mistral(folder: Path) -> Path:
    return llava_next(folder, "mistral", sliding_window=24)


def _qwen_words() -> PreTrainedTokenizerFast:
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    return tokenizer(marks, None, "<|im_end|>", "<|endoftext|>")


def _qwen_ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    named = ("vision_start", "vision_end", "image_pad", "video_pad")
    found = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in named}
    return {
        "vision_start_token_id": found["vision_start"],
        "vision_end_token_id": found["vision_end"],
        "image_token_id": found["image_pad"],
        "video_token_id": found["video_pad"],
    }


QWEN_TEMPLATE = CHATML.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>")


def qwen2_5_vl(folder: Path) -> Path:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil

    words = _qwen_words()
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28 * 2, max_pixels=28 * 28 * 12, patch_size=14, merge_size=2)
    processor = without_video(Qwen2_5_VLProcessor)(images, words, None, chat_template=QWEN_TEMPLATE)
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14}
    vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
    text = _text(words, "qwen2_5_vl_text", rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2]})
    return save(folder, Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(words)), processor)


def qwen3_vl(folder: Path) -> Path:
    from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLProcessor

    words = _qwen_words()
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 32 * 32 * 2, "longest_edge": 32 * 32 * 12}, patch_size=16, merge_size=2
    )
    processor = without_video(Qwen3VLProcessor)(images, words, None, chat_template=QWEN_TEMPLATE)
    vision = {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32, "patch_size": 16}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    text = _text(words, "qwen3_vl_text", head_dim=8, num_hidden_layers=3, rope_parameters=rope)
    return save(folder, Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_ids(words)), processor)


def _utterance_words() -> PreTrainedTokenizerFast:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = ["<fake_token_around_image>", "<image>", "<global-img>", *places]
    return tokenizer(marks, "<|im_start|>", "<end_of_utterance>", "<|endoftext|>")


def _tiled(folder: Path, config: Any, processor: Any, images: Any) -> Path:
    """Pictures in tiles, as Idefics3 and SmolVLM take them."""
    words = _utterance_words()
    made = processor(images(size={"longest_edge": 48}, max_image_size={"longest_edge": 24}), words)
    sizes = {"vision_config": {"image_size": 24, "patch_size": 6, **CLIP}, "text_config": _text(words, "llama")}
    image = words.convert_tokens_to_ids("<image>")
    return save(folder, config(**sizes, image_token_id=image, scale_factor=2, tie_word_embeddings=False), made)


def idefics3(folder: Path) -> Path:
    from transformers import Idefics3Config, Idefics3ImageProcessorPil, Idefics3Processor

    processor = partial(Idefics3Processor, image_seq_len=4, chat_template=UTTERANCE)
    return _tiled(folder, Idefics3Config, processor, Idefics3ImageProcessorPil)


def smolvlm(folder: Path) -> Path:
    from transformers import SmolVLMConfig, SmolVLMImageProcessorPil, SmolVLMProcessor

    processor = partial(without_video(SmolVLMProcessor), video_processor=None, image_seq_len=4, chat_template=UTTERANCE)
    return _tiled(folder, SmolVLMConfig, processor, SmolVLMImageProcessorPil)


def gemma3(folder: Path) -> Path:
    """One sliding layer, whose window is shorter than a picture, and one full layer."""
    from transformers import Gemma3Config, Gemma3ImageProcessorPil, Gemma3Processor

    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words = tokenizer(["<unk>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>", "<pad>", True, **named)
    images = Gemma3ImageProcessorPil(size={"height": 24, "width": 24})
    processor = Gemma3Processor(images, words, image_seq_length=16, chat_template=GEMMA)
    vision = {"model_type": "siglip_vision_model", "image_size": 24, "patch_size": 3, "vision_use_head": False, **CLIP}
    layers = ["sliding_attention", "full_attention"]
    text = _text(words, "gemma3_text", head_dim=8, sliding_window=12, layer_types=layers, query_pre_attn_scalar=8)
    ids = {f"{name}_token_index": words.convert_tokens_to_ids(named[f"{name}_token"]) for name in ("boi", "eoi", "image")}
    return save(folder, Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=16, **ids), processor)


def internvl(folder: Path) -> Path:
    from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLProcessor

    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    words = tokenizer(["<|im_start|>"], None, "<|im_end|>", "<|endoftext|>", **named, video_token="<video>")
    images = GotOcr2ImageProcessorPil(size={"height": 24, "width": 24}, min_patches=1, max_patches=4)
    template = CHATML.replace("PICTURE", "<IMG_CONTEXT>\n")
    processor = without_video(InternVLProcessor)(images, words, None, image_seq_length=4, chat_template=template)
    vision = {"image_size": [24, 24], "patch_size": [6, 6], **CLIP}
    text = _text(words, "qwen2")
    image = words.convert_tokens_to_ids("<IMG_CONTEXT>")
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=image, image_seq_length=4)
    return save(folder, config, processor)


def _draw(weights: Mapping[str, torch.Tensor]) -> None:
    """Each weight by its name alone, so that numbers recorded with the originals hold whatever the order of weights."""
    for name, weight in weights.items():
        seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        wide = 1.0 if name.startswith(("itm_head.", "mlp.")) else 2.5  # the scores of narrow heads are not all alike
        spread = wide / weight[0].numel() ** 0.5 if weight.dim() > 1 else 0.2
        around = float("norm" in name.lower() and name.endswith("weight"))
        weight.copy_(torch.randn(weight.shape, generator=seed) * spread + around)


def _save_scorer(folder: Path, model: Any, processor: Any) -> Path:
    _draw({name: weight.data for name, weight in model.named_parameters()})
    if hasattr(model, "logit_scale"):
        model.logit_scale.data.fill_(math.log(1 / 0.07))  # where CLIP's training starts
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """As openai/clip-vit-base-patch32: its picture size, its tokenizer's rules and its order of words."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    tokens = clip_words()
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    text = {"vocab_size": len(tokens), "max_position_embeddings": 77, **ends, **sizes}
    config = CLIPConfig(text_config=text, vision_config={"image_size": 224, "patch_size": 32, **sizes}, projection_dim=64)
    return _save_scorer(folder, CLIPModel(config), CLIPProcessor(CLIPImageProcessorPil(), tokens))


def clip_words() -> PreTrainedTokenizerBase:
    """A tokenizer of CLIP's rules, which can spell any word."""
    from transformers import CLIPTokenizer

    merges = _clip_merges()
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: at for at, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocabulary, merges, model_max_length=77)


def _clip_merges() -> list[tuple[str, str]]:
    inner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=200, end_of_word_suffix="</w>", show_progress=False)
    inner.train_from_iterator([text.lower() for text in CORPUS], trainer)
    return [(first, second) for first, second in json.loads(inner.to_str())["model"]["merges"]]


def _bert_words() -> PreTrainedTokenizerBase:
    from transformers import BertTokenizer

    letters = sorted({letter for text in CORPUS for letter in text.lower() if letter.isascii() and letter.isalnum()})
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for text in CORPUS for word in re.findall(r"\w+", text.lower())} - set(letters))
    listed = [*marks, *".,:;?'", *letters, *(f"##{letter}" for letter in letters), *words]
    return BertTokenizer({word: at for at, word in enumerate(listed)}, model_max_length=512)


def blip_itm(folder: Path) -> Path:
    """As Salesforce/blip-itm-base-coco, with smaller pictures; the vision tower's epsilon is the original implementation's."""
    from transformers import BlipConfig, BlipForImageTextRetrieval, BlipImageProcessorPil, BlipProcessor

    words = _bert_words()
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"image_size": 48, "patch_size": 16, "layer_norm_eps": 1e-6, **sizes}
    ids = {"pad_token_id": 0, "sep_token_id": 3, "bos_token_id": len(words)}
    text = {"vocab_size": len(words) + 2, "encoder_hidden_size": 32, "max_position_embeddings": 64, **ids, **sizes}
    model = BlipForImageTextRetrieval(BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16))
    return _save_scorer(folder, model, BlipProcessor(BlipImageProcessorPil(size={"height": 48, "width": 48}), words))


def image_reward(folder: Path) -> Path:
    """As THUDM/ImageReward: the published head and constants, smaller towers and pictures."""
    from sightline.engines.image_reward_model import ImageRewardConfig, ImageRewardModel

    words = _bert_words()
    vision = {"image_size": 48, "vision_width": 32, "vision_layers": 2, "vision_heads": 2}
    text = {"vocab_size": len(words) + 2, "text_width": 32, "text_layers": 2, "text_heads": 2, "max_positions": 64}
    model = ImageRewardModel(ImageRewardConfig(**vision, **text), words)
    _draw(model.published())
    model.save_folder(folder, torch.float32)
    return folder


def armorm(folder: Path) -> Path:
    """As RLHFlow/ArmoRM-Llama3-8B-v0.1: its 19 objectives, three hidden gate layers and Llama 3's marks, small."""
    from transformers import LlamaConfig

    from sightline.engines.armorm_model import ArmoRM
    from sightline.miniature.answer_reward import new_tokenizer

    words = new_tokenizer()
    ids = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "bos_token_id": words.bos_token_id}
    model = ArmoRM(LlamaConfig(**TEXT, **ids, num_objectives=19, gating_hidden_dim=16), words)
    _draw(model.state_dict())
    model.save_folder(folder, torch.float32)
    return folder


SCORERS: dict[str, Callable[[Path], Path]] = {"clip": clip, "blip_itm": blip_itm, "image_reward": image_reward, "armorm": armorm}
"""Models that score pictures or answers; the others chat."""

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "llava": llava,
    "llava_next": llava_next,
    "llava_next_mistral": llava_next_mistral,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "gemma3": gemma3,
    "internvl": internvl,
}
