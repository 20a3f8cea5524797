"""Local vision-language models, by their Hugging Face processor and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sightline.engines.local import Dtype, LocalEngine, in_batches, loading, quiet, sorted_by, torch_dtype
from sightline.engines.processors import read_processor
from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.engines.weights import fingerprint, locate
from sightline.errors import RecipeError
from sightline.plugin import need
from sightline.store.address import digest, digest_file

if TYPE_CHECKING:
    import torch

PER_TOKEN = frozenset({"input_ids", "attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids"})
"""Inputs as long as the text. They go on with each of a prompt's samples; pictures have been read by then."""


class Transformers(LocalEngine):
    """Ask any image-text-to-text model of the transformers library.

    Several samples of one prompt share a reading of its pictures and its text. A model with inputs that are neither pictures nor
    as long as the text (Llama 3.2's mask between the two, say) reads them once for each sample.
    """

    roles: ClassVar[frozenset[str]] = frozenset({"vision_chat", "text_chat"})
    incidental: ClassVar[frozenset[str]] = frozenset({"device", "batch_size", "adapter"})  # the adapter counts by its files

    adapter: str | None = None
    """Folder of a PEFT adapter to put on the model."""

    def load(self) -> Chat:
        need("torch")
        model = load_model(self.model, self.revision, self.dtype, self.torch_device())
        if self.adapter is not None:
            model = with_adapter(model, self.adapter)
        return Chat(self.model, model.eval(), load_processor(self.model, self.revision), self.batch_size)

    def fingerprint(self) -> str:
        base = fingerprint(self.model, self.revision)
        return base if self.adapter is None else digest(base, adapter_digest(self.adapter))


def adapter_digest(folder: str) -> str:
    """Stands for an adapter's settings and weights; the training's logs beside them do not count."""
    files = sorted(path for path in Path(folder).glob("adapter_*") if path.suffix in (".json", ".safetensors", ".bin"))
    if not files:
        raise RecipeError(f"adapter {folder}", "no PEFT adapter is here", "give the folder that holds adapter_config.json")
    return digest([[path.name, digest_file(path)] for path in files])


def load_model(model: str, revision: str | None, dtype: Dtype, device: torch.device, quantization: Any = None) -> Any:
    """The model on the device, its weights in fewer bits where a `quantization` says how."""
    from transformers import AutoModelForImageTextToText

    how = {"dtype": torch_dtype(dtype, device), "quantization_config": quantization}
    with loading(model):
        loaded = AutoModelForImageTextToText.from_pretrained(locate(model), revision=revision, **how)
    return loaded.to(device)


def with_adapter(model: Any, folder: str) -> Any:
    """The model with a PEFT adapter on it; RecipeError where the adapter's layers are not this model's."""
    peft = need("peft")
    wrong = RecipeError(
        f"adapter {folder}",
        "its layers are not this model's: it was trained on another one",
        "give the model that it was trained on",
    )
    try:
        with loading(folder):
            adapted = peft.PeftModel.from_pretrained(model, folder)
            found = adapted.load_adapter(folder, "default")  # once more: only this call tells what found no place
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise wrong from error
    if found.missing_keys or found.unexpected_keys:
        raise wrong
    return adapted


def load_processor(model: str, revision: str | None = None) -> Any:
    """The model's processor, padding on the left as generation needs."""
    with loading(model):
        processor = read_processor(model, revision)
    if getattr(processor, "chat_template", None) is None:
        raise RecipeError(
            f"model {model}",
            "it has no chat template",
            "use a model that was tuned to chat, or add chat_template.jinja to its folder",
        )
    processor.tokenizer.padding_side = "left"
    return processor


def turn(request: ChatRequest) -> list[dict[str, Any]]:
    """The request as a conversation for a chat template: the pictures, then the text, or the turns."""
    turns = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in request.turns]
    pictures = [{"type": "image", "image": picture} for picture in request.pictures]
    return [{**turns[0], "content": [*pictures, *turns[0]["content"]]}, *turns[1:]]


def _length(request: ChatRequest) -> int:
    return sum(len(text) for _, text in request.turns)


class Chat:
    """A loaded model that answers."""

    def __init__(self, name: str, model: Any, processor: Any, batch_size: int) -> None:
        self.name = name
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        ends = model.generation_config.eos_token_id
        self.ends = {ends} if isinstance(ends, int) else set(ends or ()) or {processor.tokenizer.eos_token_id}

    def chat(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]:
        """One reply a request, in order. Like lengths share a batch; what is sampled follows from a request's own seed alone."""
        keys = [(len(r.pictures), _length(r), first) for r, first in zip(requests, _same_prompt(requests), strict=True)]

        def answer(ordered: list[ChatRequest]) -> list[ChatReply]:
            return in_batches(ordered, self.batch_size, lambda batch: self._answer(batch, decoding), f"model {self.name}")

        with quiet():
            return sorted_by(keys, requests, answer)

    def _answer(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]:
        import torch
        from transformers import LogitsProcessorList

        inputs, prompt_of = self._shared_inputs(requests)
        picker = [] if decoding.temperature == 0 else [_Sampler(decoding, [request.seed for request in requests])]
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=decoding.max_tokens,
                do_sample=False,  # the sampler adds the chance; the arg max does the rest
                num_beams=1,
                use_cache=True,  # whatever the model says of itself: samples share it
                pad_token_id=self._pad,
                logits_processor=LogitsProcessorList(picker),
                custom_generate=partial(_decode, torch.tensor(prompt_of, device=self.model.device)),
            )
        new = tokens[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._reply(row) for row in new]

    def _shared_inputs(self, requests: Sequence[ChatRequest]) -> tuple[Any, list[int]]:
        """The model's inputs for the requests' different prompts, and the place of each request's prompt among these."""
        alike = _same_prompt(requests)
        different = sorted(set(alike))
        inputs = self._inputs([requests[at] for at in different])
        of_pictures = self.processor.image_processor.model_input_names
        if len(different) < len(requests) and not PER_TOKEN.issuperset(inputs.keys() - of_pictures):
            return self._inputs(requests), list(range(len(requests)))
        return inputs, [different.index(at) for at in alike]

    def _inputs(self, requests: Sequence[ChatRequest]) -> Any:
        inputs = self.processor.apply_chat_template(
            [turn(request) for request in requests],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        return inputs.to(self.model.device, dtype=self.model.dtype)

    @property
    def _pad(self) -> int:
        pad = self.processor.tokenizer.pad_token_id
        return min(self.ends) if pad is None else pad

    def _reply(self, tokens: list[int]) -> ChatReply:
        end = next((at for at, token in enumerate(tokens) if token in self.ends), None)
        answer = tokens if end is None else tokens[:end]
        text = self.processor.tokenizer.decode(answer, skip_special_tokens=True).strip()
        return ChatReply(text, "length" if end is None else "stop", len(answer))


def _same_prompt(requests: Sequence[ChatRequest]) -> list[int]:
    """For each request, the place of the first one with the same turns and the very same pictures."""
    first: dict[Any, int] = {}
    asked = [(*request.turns, *map(id, request.pictures)) for request in requests]
    return [first.setdefault(prompt, at) for at, prompt in enumerate(asked)]


def _decode(
    prompt_of: torch.Tensor,
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **inputs: Any,
) -> torch.Tensor:
    """The loop of `generate`, but that each prompt, once read, goes on as often as `prompt_of` (axis: samples) names it."""
    import torch

    found = model(**model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **inputs), return_dict=True)
    inputs = model._update_model_kwargs_for_generation(found, inputs)
    logits_BV = found.logits[:, -1]
    if prompt_of.tolist() != list(range(len(input_ids))):
        input_ids, logits_BV, inputs = input_ids[prompt_of], logits_BV[prompt_of], _spread(inputs, prompt_of)
    ended = torch.zeros_like(prompt_of, dtype=torch.bool)
    while True:
        # float32 and copied, as generate does: penalties of a model's generation_config write into them
        words = logits_processor(input_ids, logits_BV.to(torch.float32, copy=True)).argmax(-1)
        input_ids = torch.cat([input_ids, words.masked_fill(ended, generation_config.pad_token_id)[:, None]], dim=-1)
        ended |= stopping_criteria(input_ids, ())
        if ended.all():
            return input_ids
        found = model(**model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **inputs), return_dict=True)
        inputs = model._update_model_kwargs_for_generation(found, inputs)
        logits_BV = found.logits[:, -1]


def _spread(inputs: dict[str, Any], prompt_of: torch.Tensor) -> dict[str, Any]:
    """What a prompt left behind, once for each of its samples. The axis before the tokens' is the prompts'."""
    import torch

    inputs["past_key_values"].reorder_cache(prompt_of)  # as a beam search does, though each prompt may have its own number
    tensors = {name for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in inputs.items() if name not in tensors}
    return {**others, **{name: inputs[name][..., prompt_of, :] for name in tensors & PER_TOKEN}}


class _Sampler:
    """Sampling as an arg max (Gumbel's trick): every row has its own generator, so that its batch does not touch its chances."""

    def __init__(self, decoding: Decoding, seeds: list[int]) -> None:
        self.decoding = decoding
        self.seeds = seeds
        self.generators: list[torch.Generator] = []

    def __call__(self, input_ids: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
        """Axes: B requests, V vocabulary."""
        import torch

        if not self.generators:
            self.generators = [torch.Generator(scores_BV.device).manual_seed(seed) for seed in self.seeds]
        scores_BV = scores_BV.float() / self.decoding.temperature
        if self.decoding.top_p < 1:
            scores_BV = _nucleus(scores_BV, self.decoding.top_p)
        noise = [torch.empty_like(scores_BV[0]).exponential_(generator=generator) for generator in self.generators]
        # arg max of p / e with e from Exp(1) is a draw from p
        return scores_BV.log_softmax(-1) - torch.stack(noise).log()


def _nucleus(scores_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Only the most probable words that together hold top_p; the word that crosses the line stays."""
    import torch

    ordered, where = scores_BV.sort(-1, descending=True)
    probability = ordered.softmax(-1)
    before = probability.cumsum(-1) - probability
    outside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, where, before >= top_p)
    return scores_BV.masked_fill(outside, float("-inf"))
