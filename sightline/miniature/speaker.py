"""A miniature VLM that answers questions about pictures, for training and measuring the others (a torch file)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


class Speaker:
    """A model folder, loaded."""

    def __init__(self, folder: str | Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder, backend="pil")
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def say(
        self, pictures: Sequence[Image], questions: Sequence[str], temperature: float = 0.0, seed: int = 0, max_tokens: int = 64
    ) -> list[str]:
        """An answer to each question about its picture; greedy at temperature 0."""
        torch.manual_seed(seed)
        answers = [""] * len(questions)
        order = sorted(range(len(questions)), key=lambda at: len(questions[at]))
        for start in range(0, len(order), 128):
            chosen = order[start : start + 128]
            texts = self._say([pictures[at] for at in chosen], [questions[at] for at in chosen], temperature, max_tokens)
            for at, text in zip(chosen, texts, strict=True):
                answers[at] = text
        return answers

    @torch.inference_mode()
    def _say(self, pictures: Sequence[Image], questions: Sequence[str], temperature: float, max_tokens: int) -> list[str]:
        turns = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}] for question in questions]
        prompts = self.processor.apply_chat_template(turns, add_generation_prompt=True)
        batch = self.processor(images=list(pictures), text=prompts, padding=True, return_tensors="pt")
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        tokens = self.model.generate(**batch, **sampling, max_new_tokens=max_tokens)
        said = tokens[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(said, skip_special_tokens=True)]

    def affirms(self, pictures: Sequence[Image], questions: Sequence[str]) -> list[bool]:
        """Whether the greedy answer starts with yes."""
        return [answer.lower().startswith("yes") for answer in self.say(pictures, questions, max_tokens=2)]
