"""ArmoRM (Wang et al., 2024) on transformers' Llama: many objectives, weighed by a gate that reads the prompt (a torch file).

Reads the published checkpoint's names and layout without its remote code, which no longer imports. It never sees a picture.
Axes: B conversations, T tokens, J objectives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaModel, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

GATE_MARK = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
"""Where the prompt ends. The gate reads the state at its first token."""

PUBLISHED_OBJECTIVES = (
    *(f"helpsteer-{name}" for name in ("helpfulness", "correctness", "coherence", "complexity", "verbosity")),
    *(f"ultrafeedback-{name}" for name in ("overall_score", "instruction_following", "truthfulness", "honesty", "helpfulness")),
    *("beavertails-is_safe", "prometheus-score", "argilla-overall_quality", "argilla-judge_lm"),
    *(f"code-{name}" for name in ("complexity", "style", "explanation", "instruction-following", "readability")),
)
"""The 19 objectives of ArmoRM-Llama3-8B-v0.1, in its order; its configuration does not name them."""


@dataclass(frozen=True)
class Scores:
    """The scalar, each objective's reward, and the gate's weight of each."""

    score: float
    rewards: tuple[float, ...]
    gates: tuple[float, ...]


class Gating(nn.Module):
    """Weights of the objectives from the prompt's state: hidden ReLU layers, a tempered softmax, one scale."""

    def __init__(self, width: int, hidden: int, num_hidden: int, num_objectives: int, temperature: float) -> None:
        super().__init__()
        sizes = [width, *[hidden] * num_hidden, num_objectives]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.temperature = temperature

    def forward(self, state: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            state = torch.relu(layer(state))
        return torch.softmax(self.layers[-1](state) / self.temperature, dim=-1) * self.logit_scale


class ArmoRM(nn.Module):
    """A reward model of several objectives. `tokenizer` brings Llama 3's chat template."""

    reward_transform_matrix: Tensor

    def __init__(self, config: LlamaConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.objectives = _objectives(config)
        num = len(self.objectives)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, num, bias=False)
        self.gating = Gating(
            config.hidden_size,
            getattr(config, "gating_hidden_dim", 1024),
            getattr(config, "gating_n_hidden", 3),
            num,
            getattr(config, "gating_temperature", 10),
        )
        self.register_buffer("reward_transform_matrix", torch.eye(num))
        self._mark = tokenizer(GATE_MARK, add_special_tokens=False).input_ids

    @classmethod
    def from_folder(cls, path: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> ArmoRM:
        """Load a folder of the published layout: config.json, model*.safetensors, tokenizer."""
        config = LlamaConfig.from_pretrained(path)
        with torch.device("meta"):  # 8 billion random numbers would be drawn only to be overwritten
            model = cls(config, AutoTokenizer.from_pretrained(path))
        weights: dict[str, Tensor] = {}
        for part in sorted(Path(path).glob("model*.safetensors")):
            weights |= load_file(part)
        model.load_state_dict({name: value.to(dtype) for name, value in weights.items()}, assign=True)
        model.model.rotary_emb = LlamaRotaryEmbedding(config)  # its frequencies are computed, not stored
        return model.to(device).eval()

    def save_folder(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the layout that `from_folder` reads."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.config.to_dict() | {"architectures": ["LlamaForRewardModelWithGating"]}
        (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file({name: value.to(dtype).contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")
        self.tokenizer.save_pretrained(folder)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B,), rewards and gates (B, J) of right-padded conversations."""
        states_BT = self.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        rewards_BJ = self.regression_layer(states_BT[rows, mask.sum(dim=1) - 1])
        marks = torch.tensor([self.gate_position(row) for row in ids.tolist()], device=ids.device)
        gates_BJ = self.gating(states_BT[rows, marks])
        return (gates_BJ * (rewards_BJ @ self.reward_transform_matrix)).sum(dim=1), rewards_BJ, gates_BJ

    def gate_position(self, ids: list[int]) -> int:
        """Where the last mark begins."""
        for start in range(len(ids) - len(self._mark), -1, -1):
            if ids[start : start + len(self._mark)] == self._mark:
                return start
        raise ValueError("the conversation has no assistant turn: the tokenizer's chat template is not Llama 3's")

    def encode(self, conversations: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
        """Token ids and mask of (prompt, answer) pairs, right-padded."""
        return self.pad([self.ids(prompt, answer) for prompt, answer in conversations])

    def pad(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids as one batch and its mask."""
        longest = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])

    def ids(self, prompt: str, answer: str) -> list[int]:
        """The conversation in the words of the chat template."""
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return list(self.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"])

    @torch.no_grad()
    def score(self, conversations: Sequence[tuple[str, str]], batch_size: int = 32) -> list[Scores]:
        """Scores of (prompt, answer) pairs, in their order."""
        device = self.regression_layer.weight.device
        found: list[Scores] = []
        for start in range(0, len(conversations), batch_size):
            ids, mask = self.encode(conversations[start : start + batch_size])
            columns = (value.float().tolist() for value in self(ids.to(device), mask.to(device)))
            found += [Scores(score, tuple(rewards), tuple(gates)) for score, rewards, gates in zip(*columns, strict=True)]
        return found


def _objectives(config: LlamaConfig) -> tuple[str, ...]:
    """Names from the configuration's labels; the published 19 where it has none."""
    count = getattr(config, "num_objectives", len(PUBLISHED_OBJECTIVES))
    names = tuple(config.id2label[at] for at in sorted(config.id2label)) if config.id2label else ()
    if len(names) == count and not names[0].startswith("LABEL_"):
        return names
    return PUBLISHED_OBJECTIVES if count == len(PUBLISHED_OBJECTIVES) else tuple(f"objective-{number}" for number in range(count))
