"""The miniature answer reward: ArmoRM's architecture, small, trained on what the miniature pool really answers (a torch file).

It reads the instruction, which says what the picture was asked to show, and the answer; never the picture. So it can be as
good as the picture is true to its prompt, and no better: the weakness of PDS-DPO's second ranking, on a small scale.
Axes: B conversations, T tokens, J objectives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, mse_loss
from transformers import LlamaConfig, PreTrainedTokenizerFast

from sightline.engines.armorm_model import ArmoRM
from sightline.miniature import captions, tokens, world
from sightline.miniature.captions import Writer
from sightline.miniature.speaker import Speaker
from sightline.miniature.truth import faults, mentions
from sightline.miniature.vlms import POOL, spread
from sightline.miniature.world import Scene

OBJECTIVES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""HelpSteer's, which are ArmoRM's first five."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt else '' }}"
)
SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Case:
    """An answer to an instruction, and the scene that decides."""

    scene: Scene
    instruction: str
    answer: str

    @property
    def labels(self) -> tuple[float, ...]:
        """HelpSteer's attributes, 0 to 4, by the truth."""
        wrong, named = faults(self.answer, self.scene), len(mentions(self.answer))
        untrue = wrong.invented + wrong.miscoloured + wrong.misplaced
        whole = self.answer.startswith("The picture") and self.answer.endswith(".") and named > 0
        return (
            max(0.0, 4.0 - wrong.total),
            max(0.0, 4.0 - 1.5 * untrue),
            (2.0 if whole else 0.0) + (2.0 if wrong.repeated == 0 else 0.0),
            min(4.0, float(named)),
            min(4.0, len(self.answer.split()) / 6),
        )


def build(folder: Path, seed: int, share: float = 1.0, log: Callable[[str], None] = print) -> None:
    """Train the answer reward on answers of the pool beside `folder` (or of the shipped pool) and save it."""
    started = time.process_time()
    torch.manual_seed(seed)
    pool = folder.parent if (folder.parent / POOL[0]).is_dir() else SHIPPED
    cases = gather(pool, max(6, int(2400 * share)), seed)
    log(f"answer-reward: {len(cases)} answers to {len({case.instruction for case in cases})} instructions")
    model = new_model()
    lesson = _Lesson(model, cases)
    lesson.regress(max(2, int(1200 * share)), log)
    lesson.decorrelate()
    lesson.weigh(max(2, int(400 * share)), log)
    model.save_folder(folder)
    log(f"answer-reward: saved in {folder} after {time.process_time() - started:.0f} CPU s")


def gather(pool: Path, num_scenes: int, seed: int, held_out: bool = False, corrupt: bool = True) -> list[Case]:
    """Answers of all pool models (greedy and two samples) about pictures of the world, and some broken ones."""
    rng = np.random.default_rng([seed, num_scenes])
    scenes = [world.sample(rng, held_out=held_out) for _ in range(num_scenes)]
    pictures = [world.draw(scene, rng) for scene in scenes]
    asked = [str(rng.choice(world.ASKED)).format(prompt=world.prompt(scene)) for scene in scenes]
    cases = []
    for name in POOL:
        speaker = Speaker(pool / name)
        for sample, temperature in enumerate((0.0, 1.0, 1.0)):
            answers = speaker.say(pictures, asked, temperature, seed + sample)
            cases += [Case(*case) for case in zip(scenes, asked, answers, strict=True)]
    if corrupt:
        cases += [Case(scene, text, _corrupted(scene, rng)) for scene, text in zip(scenes, asked, strict=True) for _ in range(3)]
    return cases


def _corrupted(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of another scene or a careless one, sometimes cut short or stuttering."""
    other = captions.altered(scene, rng) if rng.random() < 0.7 else scene
    text = captions.caption(other, Writer(careless=0.4, omits=0.3), rng)
    words = text.split()
    case = rng.random()
    if case < 0.1:
        return " ".join(words[: int(rng.integers(len(words)))])
    return f"{text[:-1]} and {words[3]} {words[4]} {words[5].strip(',.')}." if case < 0.2 else text


def new_tokenizer() -> PreTrainedTokenizerFast:
    """The world's words, with Llama 3's turns."""
    special = ("<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
    tokenizer = tokens.tokenizer(special, bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|end_of_text|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model() -> ArmoRM:
    """An untrained answer reward of 0.7 million weights."""
    tokenizer = new_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(OBJECTIVES)),
        num_objectives=len(OBJECTIVES),
        gating_hidden_dim=64,
        gating_n_hidden=2,
        gating_temperature=10,
    )
    model = ArmoRM(config, tokenizer)
    spread(model)
    return model


class _Lesson:
    """ArmoRM's two stages: regress the attributes, then weigh them by pairs with everything else frozen."""

    def __init__(self, model: ArmoRM, cases: Sequence[Case]) -> None:
        self.model, self.cases = model, cases
        self.labels = torch.tensor([case.labels for case in cases])
        self.targets = (self.labels + 0.5) / 5  # ArmoRM's scale: native = reward * 5 - 0.5
        self.rows = model.ids([(case.instruction, case.answer) for case in cases])
        self.words = [model.tokenizer.decode([token]).strip() for token in range(len(model.tokenizer))]
        self.rng = np.random.default_rng(len(cases))

    def regress(self, steps: int, log: Callable[[str], None]) -> None:
        """Stage one. A helper head, thrown away after, says at every word for a thing whether it is there, and whether it was
        named before: hints."""
        hint = nn.Linear(self.model.config.hidden_size, 2)
        weights = [*self.model.model.parameters(), *self.model.regression_layer.parameters(), *hint.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=1.5e-3, weight_decay=0.01, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps + 1, pct_start=0.1)
        for step in range(steps):
            chosen = self.rng.integers(len(self.cases), size=64).tolist()
            loss, error = self._loss(chosen, hint)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            if step % 100 == 0 or step == steps - 1:
                log(f"attributes step {step}: squared error {error:.4f}")

    def _loss(self, chosen: list[int], hint: nn.Linear) -> tuple[Tensor, float]:
        ids, mask = self.model.pad([self.rows[at] for at in chosen])
        states = self.model.model(input_ids=ids, attention_mask=mask).last_hidden_state
        last = states[torch.arange(len(ids)), mask.sum(dim=1) - 1]
        error = mse_loss(self.model.regression_layer(last), self.targets[chosen])
        rows, columns, told = self._hints(chosen)
        if not rows:
            return error, error.item()
        hinted = binary_cross_entropy_with_logits(hint(states[rows, columns]), torch.tensor(told))
        return 25 * error + hinted, error.item()

    def _hints(self, chosen: list[int]) -> tuple[list[int], list[int], list[tuple[float, float]]]:
        """Where in a batch an answer's words name a thing or the place, whether that is true, and whether it was said before."""
        rows, columns, told = [], [], []
        for row, at in enumerate(chosen):
            scene = self.cases[at].scene
            real = {(thing.colour, thing.kind) for thing in scene.things}
            words = [self.words[token] for token in self.rows[at]]
            start = len(words) - words[::-1].index("<|end_header_id|>")
            for column in range(start, len(words)):
                if words[column] in world.KINDS or words[column] in world.PLACES:
                    rows.append(row)
                    columns.append(column)
                    true = (words[column - 1], words[column]) in real or words[column] == scene.place
                    told.append((float(true), float(words[column] in words[start:column])))
        return rows, columns, told

    @torch.no_grad()
    def _read(self) -> tuple[Tensor, Tensor]:
        """Rewards (N, J) of all cases and the states (N, D) that the gate reads, from the frozen model."""
        rewards, states = [], []
        for start in range(0, len(self.cases), 128):
            ids, mask = self.model.pad(self.rows[start : start + 128])
            hidden = self.model.model(input_ids=ids, attention_mask=mask).last_hidden_state
            rows = torch.arange(len(ids))
            rewards.append(self.model.regression_layer(hidden[rows, mask.sum(dim=1) - 1]))
            states.append(hidden[rows, torch.tensor([self.model.gate_position(row) for row in ids.tolist()])])
        return torch.cat(rewards), torch.cat(states)

    def decorrelate(self) -> None:
        """Take so much of verbosity out of each other objective that they no longer go together (ArmoRM's eq. 4)."""
        self.rewards, self.states = self._read()
        centred = self.rewards - self.rewards.mean(dim=0)
        at = OBJECTIVES.index("verbosity")
        slopes = (centred * centred[:, at : at + 1]).mean(dim=0) / centred[:, at].square().mean()
        slopes[at] = 0
        self.model.reward_transform_matrix[at] -= slopes

    def weigh(self, steps: int, log: Callable[[str], None]) -> None:
        """Stage two: Bradley-Terry on pairs of answers to one instruction that differ in helpfulness."""
        groups: dict[str, list[int]] = {}
        for at, case in enumerate(self.cases):
            groups.setdefault(case.instruction, []).append(at)
        pairs = [(a, b) for group in groups.values() for a in group for b in group if self.labels[a, 0] > self.labels[b, 0]]
        adjusted = self.rewards @ self.model.reward_transform_matrix
        optimizer = torch.optim.AdamW(self.model.gating.parameters(), lr=3e-3)
        for step in range(steps):
            chosen = torch.tensor([pairs[at] for at in self.rng.integers(len(pairs), size=256)])
            weights = self.model.gating(self.states[chosen[:, 0]])
            gap = (weights * (adjusted[chosen[:, 0]] - adjusted[chosen[:, 1]])).sum(dim=1)
            loss = -logsigmoid(gap).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 0 or step == steps - 1:
                log(f"gate step {step}: loss {loss.item():.3f}, right {(gap > 0).float().mean().item():.3f}")
