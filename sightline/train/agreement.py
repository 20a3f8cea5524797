"""Whether a model's processor fits the model: the same words, the same picture token, as many places as features."""

from __future__ import annotations

import inspect
from typing import Any

from sightline.errors import TrainingError

SIDE = 224
"""Pixels a side of the picture that is tried."""


def check_processor(model: str, network: Any, processor: Any) -> None:
    """TrainingError, naming both sides, where the processor was made for another model.

    The network may be on torch's meta device; features that it cannot count there (Qwen's windows, Idefics3's empty tiles) are
    left to the loaded one.
    """
    words, last = network.get_input_embeddings().weight.shape[0], max(processor.tokenizer.get_vocab().values())
    if last >= words:
        raise _misfit(model, f"its tokenizer writes tokens up to {last}, and the model's embedding has {words} rows")
    written, expected = picture_token(processor), _expected_token(network.config)
    if written != expected:
        named = f"'{processor.image_token}' (token {written})"
        raise _misfit(model, f"its processor writes {named} where a picture stands, and the model's config.json says {expected}")
    places, made = _tried(processor, expected)
    what = f"its processor writes {places} picture tokens for a picture of {SIDE} x {SIDE} pixels"
    try:
        features = _num_features(network, made)
    except (ValueError, RuntimeError) as error:
        raise _misfit(model, f"{what}, and the model cannot take it ({error})") from error
    if features not in (None, places):
        raise _misfit(model, f"{what}, and the model makes {features} features of it")


def picture_token(processor: Any) -> int:
    """The token that stands for a picture's features."""
    # Gemma 3's processor calls the token before a picture its image token
    named = getattr(processor.tokenizer, "image_token", None) or processor.image_token
    return int(processor.tokenizer.convert_tokens_to_ids(str(named)))


def _expected_token(config: Any) -> int:
    return int(getattr(config, "image_token_id", None) or config.image_token_index)


def _misfit(model: str, problem: str) -> TrainingError:
    fix = "take processor and tokenizer files from the same place as the weights"
    return TrainingError("train.model", f"the processor of {model} does not fit the model: {problem}", fix)


def _tried(processor: Any, token: int) -> tuple[int, Any]:
    """How many picture tokens the processor writes for a grey picture, and all that it makes of it."""
    from PIL import Image

    from sightline.engines.local import quiet

    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    grey = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    with quiet():
        made = processor(images=[grey], text=[text], return_tensors="pt")
    return int((made["input_ids"] == token).sum()), made


def _num_features(network: Any, made: Any) -> int | None:
    """None where the meta device cannot say."""
    import torch

    known = inspect.signature(network.get_image_features).parameters
    # sizes and grids are read as numbers: on the meta device they stay real
    given = {name: _placed(value, network) for name, value in made.items() if name in known}
    try:
        with torch.no_grad():
            found = network.get_image_features(**given, return_dict=True).pooler_output
    except NotImplementedError:
        return None
    pieces = found if isinstance(found, list | tuple) else [found]
    return sum(piece.numel() // piece.shape[-1] for piece in pieces)


def _placed(value: Any, network: Any) -> Any:
    if value.is_floating_point():
        return value.to(network.device, network.dtype)
    return value if network.device.type == "meta" else value.to(network.device)
