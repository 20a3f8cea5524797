"""ArmoRM (Wang et al., 2024) on transformers' Llama: many objectives, weighed by a gate that reads the prompt (a torch file).

Reads the published checkpoint's names and layout without its remote code, which no longer imports. It never sees a picture.
Axes: B conversations, P prompts, T tokens, J objectives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os.path import commonprefix
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
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


LONGEST_TREE = 4096
"""Tokens; in longer trees a mask of tokens by tokens costs more than reading the prompt once more."""


@dataclass(frozen=True)
class Scores:
    """The scalar, each objective's reward, and the gate's weight of each."""

    score: float
    rewards: tuple[float, ...]
    gates: tuple[float, ...]


@dataclass
class _Trees:
    """Conversations of one prompt behind each other, after what they begin with alike.

    By tree and token: its id, its place in its conversation, and its part: 0 for what is shared, then one for each conversation.
    """

    ids: list[list[int]] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)
    parts: list[list[int]] = field(default_factory=list)
    columns: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Of each conversation: its tree, and where its last token and its mark stand in it."""

    def begin(self, shared: Sequence[int]) -> None:
        """A new tree."""
        self.ids.append(list(shared))
        self.positions.append(list(range(len(shared))))
        self.parts.append([0] * len(shared))

    def add(self, at: int, row: Sequence[int], num_shared: int, mark: int) -> None:
        """A conversation to the newest tree."""
        ids, positions, parts = self.ids[-1], self.positions[-1], self.parts[-1]
        mark += 0 if mark < num_shared else len(ids) - num_shared
        ids += row[num_shared:]
        positions += range(num_shared, len(row))
        parts += [parts[-1] + 1] * (len(row) - num_shared)
        self.columns[at] = len(self.ids) - 1, len(ids) - 1, mark


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

    def forward(self, conversations: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B,), rewards and gates (B, J) of (prompt, answer) pairs. A prompt of several answers is read once."""
        trees = self._trees(conversations)
        device = self.regression_layer.weight.device
        ids_PT, positions_PT, parts_PT = (
            pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
            for rows in (trees.ids, trees.positions, trees.parts)
        )
        seen_PTT = ((parts_PT[:, None] == 0) | (parts_PT[:, None] == parts_PT[:, :, None])).tril()
        states_PT = self.model(
            input_ids=ids_PT, position_ids=positions_PT, attention_mask=seen_PTT[:, None], use_cache=False
        ).last_hidden_state
        tree_B, last_B, mark_B = torch.tensor([trees.columns[at] for at in range(len(conversations))], device=device).T
        rewards_BJ = self.regression_layer(states_PT[tree_B, last_B])
        gates_BJ = self.gating(states_PT[tree_B, mark_B])
        return (gates_BJ * (rewards_BJ @ self.reward_transform_matrix)).sum(dim=1), rewards_BJ, gates_BJ

    def _trees(self, conversations: Sequence[tuple[str, str]]) -> _Trees:
        rows = self.ids(conversations)
        alike: dict[str, list[int]] = {}
        for at, (prompt, _) in enumerate(conversations):
            alike.setdefault(prompt, []).append(at)
        trees = _Trees()
        for places in alike.values():
            # a row keeps a token of its own, whose state is its score's
            shared = commonprefix([rows[at][:-1] for at in places])  # noqa: RUF071 (of lists, not of paths)
            trees.begin(shared)
            for at in places:
                if len(trees.ids[-1]) > len(shared) and len(trees.ids[-1]) + len(rows[at]) - len(shared) > LONGEST_TREE:
                    trees.begin(shared)
                trees.add(at, rows[at], len(shared), self.gate_position(rows[at]))
        return trees

    def gate_position(self, ids: list[int]) -> int:
        """Where the last mark begins."""
        for start in range(len(ids) - len(self._mark), -1, -1):
            if ids[start : start + len(self._mark)] == self._mark:
                return start
        raise ValueError("the conversation has no assistant turn: the tokenizer's chat template is not Llama 3's")

    def pad(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids as one batch and its mask."""
        longest = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])

    def ids(self, conversations: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Each conversation in the words of the chat template."""
        turns = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in conversations
        ]
        rows: list[list[int]] = self.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
        return rows

    @torch.no_grad()
    def score(self, conversations: Sequence[tuple[str, str]], batch_size: int = 32) -> list[Scores]:
        """Scores of (prompt, answer) pairs, in their order. Answers of a batch to one prompt share its reading."""
        found: list[Scores] = []
        for start in range(0, len(conversations), batch_size):
            columns = (value.float().tolist() for value in self(conversations[start : start + batch_size]))
            found += [Scores(score, tuple(rewards), tuple(gates)) for score, rewards, gates in zip(*columns, strict=True)]
        return found


def _objectives(config: LlamaConfig) -> tuple[str, ...]:
    """Names from the configuration's labels; the published 19 where it has none."""
    count = getattr(config, "num_objectives", len(PUBLISHED_OBJECTIVES))
    names = tuple(config.id2label[at] for at in sorted(config.id2label)) if config.id2label else ()
    if len(names) == count and not names[0].startswith("LABEL_"):
        return names
    return PUBLISHED_OBJECTIVES if count == len(PUBLISHED_OBJECTIVES) else tuple(f"objective-{number}" for number in range(count))
