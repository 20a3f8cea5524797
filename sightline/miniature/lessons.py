"""Teaching a miniature LLaVA to talk about pictures: several questions share one picture in one packed pass (a torch file).

Axes: B pictures, P cells, T tokens, D the language model's width, A answer tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sightline.miniature import captions
from sightline.miniature.captions import Turn
from sightline.miniature.tower import CELLS, COLOURS
from sightline.miniature.world import GRID, KINDS, Scene


@dataclass(frozen=True)
class Page:
    """What one pass reads: the pictures' features, and the turns about each picture as branches of one sequence, (B, T)."""

    features: Tensor
    ids: Tensor
    positions: Tensor
    branches: Tensor
    weights: Tensor
    """How much a token of an answer counts; 0 where it is none."""
    hints: Tensor
    """At the kind that a question asks about: 0 where it is not there, else 1 + its colour's number; elsewhere -1."""
    gazes: Tensor
    """At every word of a description the cell of the thing to name next, or CELLS after the last; elsewhere -1."""


class Binder:
    """Packs turns into pages, in the words of the chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        head, tail = tokenizer(["<s>USER: ", "\n"], add_special_tokens=False).input_ids
        self.picture_start = len(head)
        self.prefix = [*head, *[tokenizer.convert_tokens_to_ids("<image>")] * CELLS, *tail]
        self.kinds = {tokenizer(f" {kind}", add_special_tokens=False).input_ids[0] for kind in KINDS}

    def page(self, features: Tensor, turns: Sequence[Sequence[Turn]]) -> Page:
        """All turns of a picture in one row. Padding belongs to branch -1, which nobody attends to."""
        texts = [text for row in turns for turn in row for text in (f"{turn.question} ASSISTANT:", f" {turn.answer}</s>")]
        tokens = iter(self.tokenizer(texts, add_special_tokens=False).input_ids)
        rows = [self._row([(turn, next(tokens), next(tokens)) for turn in row]) for row in turns]
        longest = max(len(row[0]) for row in rows)
        fills = (self.tokenizer.pad_token_id, 0, -1, 0.0, -1, -1)
        columns = (
            torch.tensor([column + [fill] * (longest - len(column)) for column in lists])
            for lists, fill in zip(zip(*rows, strict=True), fills, strict=True)
        )
        return Page(features, *columns)

    def _row(self, turns: list[tuple[Turn, list[int], list[int]]]) -> tuple[list[int] | list[float], ...]:
        start = len(self.prefix)
        ids, positions, branches = list(self.prefix), list(range(start)), [0] * start
        weights, hints, gazes = [0.0] * start, [-1] * start, [-1] * start
        for number, (turn, question, answer) in enumerate(turns, start=1):
            length = len(question) + len(answer)
            ids += question + answer
            positions += range(start, start + length)
            branches += [number] * length
            # the root lies between a yes drowning in descriptions, and a description's words hardly counting
            weights += [0.0] * len(question) + [len(answer) ** -0.5] * len(answer)
            seen = -1 if turn.seen is None else 1 + COLOURS.index(turn.seen) if turn.seen else 0
            hints += [seen if token in self.kinds else -1 for token in question] + [-1] * len(answer)
            gazes += [-1] * len(question) + self._gazes(turn, answer)
        return ids, positions, branches, weights, hints, gazes

    def _gazes(self, turn: Turn, answer: list[int]) -> list[int]:
        if not turn.gaze:
            return [-1] * len(answer)
        named = list(accumulate(int(token in self.kinds) for token in answer))
        return [turn.gaze[count] for count in named]


def attention_mask(branches: Tensor) -> Tensor:
    """Additive (B, 1, T, T): a token sees what came before in its own branch and in the shared prefix (branch 0)."""
    rows, columns = branches[:, :, None], branches[:, None, :]
    length = branches.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril()
    seen = before & ((rows == columns) | (columns == 0))
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]


def states(model: LlavaForConditionalGeneration, page: Page, binder: Binder) -> Tensor:
    """The language model's last states (B, T, D) on a page."""
    inner = model.model
    words = inner.get_input_embeddings()(page.ids)
    seen = inner.multi_modal_projector(page.features)
    start = binder.picture_start
    embeds = torch.cat([words[:, :start], seen, words[:, start + CELLS :]], dim=1)
    mask = attention_mask(page.branches)
    read = inner.language_model(inputs_embeds=embeds, position_ids=page.positions, attention_mask=mask, use_cache=False)
    return read.last_hidden_state


def answer_loss(model: LlavaForConditionalGeneration, page: Page, states_BTD: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the answers' tokens, end of sequence included."""
    weights = page.weights[:, 1:]  # the state before a token predicts it; before an answer that is its question's last
    counts = weights > 0
    loss = cross_entropy(model.lm_head(states_BTD[:, :-1][counts]), page.ids[:, 1:][counts], reduction="none")
    return (loss * weights[counts]).sum() / weights.sum()


class Hints(nn.Module):
    """Helper heads, thrown away after the lesson: small models need to be told where to look.

    One asks the state at "cup" in "Is there a cup in the picture?" which cup it sees; without it, yes and no stay a coin toss
    for hundreds of steps. The other asks every state of a description where the thing is that is to be named; without it, the
    second of two red things stays a copy of the first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seen = nn.Linear(width, 1 + len(COLOURS))
        self.gaze = nn.Linear(width, CELLS + 1)

    def loss(self, page: Page, states_BTD: Tensor) -> Tensor:
        hinted, gazing = page.hints >= 0, page.gazes >= 0
        seen = cross_entropy(self.seen(states_BTD[hinted]), page.hints[hinted])
        return seen + cross_entropy(self.gaze(states_BTD[gazing]), page.gazes[gazing])


class WordSums:
    """What a cell should sound like to the language model: the sum of the embeddings of what could be said of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    def _word(self, word: str) -> int:
        (token,) = self.tokenizer(f" {word}", add_special_tokens=False).input_ids
        return token

    def tokens(self, scene: Scene) -> list[list[int]]:
        """Five words for each cell: its row, its column, the place, and kind and colour (or twice 'Nothing')."""
        nothing = self._word("Nothing")
        things = {thing.cell: [self._word(thing.kind), self._word(thing.colour)] for thing in scene.things}
        place = self._word(scene.place)
        rows, columns = ([self._word(word) for word in words] for words in (captions.ROWS, captions.COLUMNS))
        return [[rows[cell // GRID], columns[cell % GRID], place, *things.get(cell, [nothing, nothing])] for cell in range(CELLS)]


@torch.no_grad()
def align_projector(
    model: LlavaForConditionalGeneration, features: Tensor, scenes: Sequence[Scene], tokenizer: PreTrainedTokenizerFast
) -> float:
    """Let the projector translate each cell into the words for it before the language model learns; the share it cannot.

    The first layer stays random and the second is solved for (ridge regression): exact, and a minute faster than descending.
    """
    words = WordSums(tokenizer)
    tokens = torch.tensor([words.tokens(scene) for scene in scenes])
    wanted = model.get_input_embeddings()(tokens).sum(dim=2).flatten(0, 1)
    projector = model.model.multi_modal_projector
    hidden = projector.act(projector.linear_1(features.flatten(0, 1)))
    inputs = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
    gram = inputs.T @ inputs + 1e-5 * len(inputs) * torch.eye(inputs.shape[1])
    solution = torch.linalg.solve(gram, inputs.T @ wanted)
    projector.linear_2.weight.copy_(solution[:-1].T)
    projector.linear_2.bias.copy_(solution[-1])
    return ((inputs @ solution - wanted).square().mean() / wanted.var()).item()


def train(
    model: LlavaForConditionalGeneration,
    pages: Callable[[], Page],
    binder: Binder,
    steps: int,
    lr: float,
    log: Callable[[str], None],
) -> None:
    """Train projector and language model on freshly written pages."""
    for weights in model.model.vision_tower.parameters():
        weights.requires_grad_(False)
    hints = Hints(model.config.text_config.hidden_size)
    trained = [*(weights for weights in model.parameters() if weights.requires_grad), *hints.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    for step in range(steps):
        page = pages()
        read = states(model, page, binder)
        said, looked = answer_loss(model, page, read), hints.loss(page, read)
        optimizer.zero_grad()
        (said + 0.3 * looked).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            log(f"language step {step}: answers {said.item():.3f}, hints {looked.item():.3f}")
