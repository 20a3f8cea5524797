"""Pairs as prefix trees of tokens: what both answers share stands once (a torch file)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightline.errors import TrainingError
from sightline.rows import Dropped, Negative, Pair
from sightline.store.address import digest
from sightline.store.spill import Spill
from sightline.train import spoiling
from sightline.train.features import Inputs
from sightline.train.objectives import Term
from sightline.train.positions import Grid
from sightline.train.recent import Recent

if TYPE_CHECKING:
    import PIL.Image

    OpenPicture = Callable[[str], PIL.Image.Image]

OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor makes of the text."""
CACHE_BYTES = 256 << 20
"""Prepared pictures kept in memory: 190 of LLaVA-1.5's size, all of a miniature run's."""


@dataclass(frozen=True)
class Segment:
    """Tokens that follow the parent segment's. `term` names the log-probability that these tokens make up, if one does."""

    tokens: tuple[int, ...]
    parent: int | None = None
    term: str | None = None
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    """A pair's terms as one prefix tree: a parent stands before its children, and a token sees its own path only.

    Terms of other pictures share nothing: each such picture has a root of its own.
    """

    pair_id: str
    segments: tuple[Segment, ...]

    def start(self, index: int) -> int:
        """Position of a segment's first token: where its parent ends."""
        parent = self.segments[index].parent
        return 0 if parent is None else self.start(parent) + len(self.segments[parent].tokens)

    def path(self, index: int) -> list[int]:
        """The segment and all before it, nearest first."""
        parent = self.segments[index].parent
        return [index] if parent is None else [index, *self.path(parent)]

    @property
    def columns(self) -> list[int]:
        """Where each segment starts in the row that holds all of them behind each other; and last, where the row ends."""
        return [0, *accumulate(len(segment.tokens) for segment in self.segments)]

    @property
    def num_tokens(self) -> int:
        return self.columns[-1]

    def completion(self, term: str) -> Segment:
        return next(segment for segment in self.segments if segment.term == term)


@dataclass(frozen=True)
class _Prompt:
    """Tokens of a question with its pictures, and of the answers after it."""

    prefix: tuple[int, ...]
    answers: dict[str, tuple[int, ...]]


class _Refused(Exception):
    """A pair cannot be an example; carries reason and detail."""


class Pictures:
    """What the model's processor makes of stored pictures, each by itself; the latest used stay in memory."""

    def __init__(self, processor: Any, open_picture: OpenPicture) -> None:
        self.processor = processor
        self._open = open_picture
        self._held: Recent[Inputs] = Recent(CACHE_BYTES)

    @property
    def token(self) -> int:
        """The token that stands, often many times over, for a picture's features."""
        # Gemma 3's processor calls a picture's first token its image token
        words = self.processor.tokenizer
        named = getattr(words, "image_token", None) or self.processor.image_token
        return int(words.convert_tokens_to_ids(str(named)))

    def open(self, name: str) -> PIL.Image.Image:
        """The picture of this name, spoilt where the name says so."""
        stored, how, seed = spoiling.parts(name)
        return spoiling.spoil_picture(self._open(stored), how, seed)

    def __getitem__(self, name: str) -> Inputs:
        if name not in self._held:
            self.keep(name, self.processor(images=[self.open(name)], text=[self.processor.image_token], return_tensors="pt"))
        return self._held.use(name)

    def keep(self, name: str, made: Mapping[str, torch.Tensor]) -> None:
        """Hold what the processor made of this picture alone (noise comes now); the longest unused go past the bound."""
        if name in self._held:
            return
        _, how, seed = spoiling.parts(name)
        inputs = {key: tensor for key, tensor in made.items() if key not in OF_TEXT}
        inputs["pixel_values"] = spoiling.spoil_pixels(inputs["pixel_values"], how, seed)
        self._held.hold(name, inputs, sum(tensor.nbytes for tensor in inputs.values()))

    def grid(self, name: str) -> Grid | None:
        """Frames, rows and columns of the picture's tokens, where its family counts them (Qwen-VL)."""
        found = self[name].get("image_grid_thw")
        if found is None:
            return None
        frames, rows, columns = found[0].tolist()
        side = self.processor.image_processor.merge_size
        return frames, rows // side, columns // side


class Encoder:
    """Turns pairs into trees by a model's processor and chat template; each pair once, which then waits on the disk."""

    def __init__(self, processor: Any, limit: int, open_picture: OpenPicture, folder: Path | None = None) -> None:
        if getattr(processor, "chat_template", None) is None:
            raise TrainingError(
                "train.model", "its processor has no chat template", "add chat_template.jinja to the model's folder"
            )
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.limit = limit
        self.pictures = Pictures(processor, open_picture)
        # more than all_special_tokens, which leaves out what has no name, as the ends of turns of Gemma
        special = {at: token.content for at, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self.reserved = {str(processor.image_token), *special.values()}
        self.picture_token = self.pictures.token
        self._ends = {self.tokenizer.eos_token_id, *special}
        self._trees = Spill(folder)
        self._places: dict[int, int] = {}

    @property
    def pad(self) -> int:
        """A token for the places after a row's end, which nothing reads."""
        return int(self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id)

    def tree(self, pair: Pair, terms: tuple[Term, ...], negative: Negative | None = None) -> Tree | Dropped:
        """The pair's tree, or why it cannot be one. Nothing is ever cut."""
        known = int(digest(pair.id, [term.name for term in terms], negative.id if negative else ""), 16)
        if known in self._places:
            return self._trees[self._places[known]]
        made = self._tree_or_dropped(pair, terms, negative)
        if self._trees.is_ours:
            self._places[known] = self._trees.add(made)
        return made

    def _tree_or_dropped(self, pair: Pair, terms: tuple[Term, ...], negative: Negative | None) -> Tree | Dropped:
        try:
            return self._tree(pair, terms, negative)
        except _Refused as refusal:
            reason, detail = refusal.args
            return Dropped(key=pair.key, reason=reason, row_id=pair.id, detail=detail)

    def _tree(self, pair: Pair, terms: tuple[Term, ...], negative: Negative | None) -> Tree:
        asked: set[str] = {term.response for term in terms}
        answers = {side: text.strip() for side, text in pair.answers.items() if side in asked}
        self._check_texts(pair, negative, terms, answers)
        segments: list[Segment] = []
        for which in dict.fromkeys(term.picture for term in terms):
            pictures = tuple(_of(pair, negative, which).pictures)
            prompts: dict[str, _Prompt] = {
                question: self._prompt(str(_of(pair, negative, question).instruction), pictures, answers)
                for question in dict.fromkeys(term.question for term in terms if term.picture == which)
            }
            wanted: dict[str, list[Term]] = {
                question: [term for term in terms if (term.picture, term.question) == (which, question)] for question in prompts
            }
            self._grow(segments, pictures, prompts, wanted)
        tree = Tree(pair.id, tuple(segments))
        longest = max(tree.start(at) + len(segment.tokens) for at, segment in enumerate(segments))
        if longest > self.limit:
            raise _Refused("too long", f"{longest} tokens, the limit is {self.limit}")
        return tree

    def _grow(
        self, segments: list[Segment], pictures: tuple[str, ...], prompts: dict[str, _Prompt], wanted: dict[str, list[Term]]
    ) -> None:
        """Add a root for these pictures, what each question adds to it, and the answers."""
        root, top = self._root([prompt.prefix for prompt in prompts.values()]), None
        if root:
            top = len(segments)
            segments.append(Segment(root, pictures=pictures))
        for question, prompt in prompts.items():
            parent = len(segments)
            segments.append(Segment(prompt.prefix[len(root) :], top, pictures=() if root else pictures))
            segments += [Segment(prompt.answers[term.response], parent, term.name) for term in wanted[question]]

    def _root(self, prefixes: list[tuple[int, ...]]) -> tuple[int, ...]:
        """What all prompts share: up to the last picture, so that other questions about it find it, too; or nothing."""
        first = prefixes[0]
        end = max((at + 1 for at, token in enumerate(first) if token == self.picture_token), default=0)
        shared = all(prefix[:end] == first[:end] and len(prefix) > end for prefix in prefixes)
        return first[:end] if shared else ()

    def _prompt(self, instruction: str, pictures: tuple[str, ...], answers: dict[str, str]) -> _Prompt:
        """A question's tokens up to its answers, and each answer's."""
        prompt = self._rendered(instruction, len(pictures))
        plain = self._tokens(prompt)
        full = {name: self._conversation(instruction, len(pictures), answer, len(plain)) for name, answer in answers.items()}
        shared = _common_prefix([plain, *full.values()])
        prefix = self._expanded(pictures, prompt, plain, shared)
        return _Prompt(prefix, {name: tuple(tokens[shared:]) for name, tokens in full.items()})

    def _check_texts(self, pair: Pair, negative: Negative | None, terms: tuple[Term, ...], answers: dict[str, str]) -> None:
        missing = sorted({term.response for term in terms} - answers.keys())
        if missing:
            raise _Refused(f"{missing[0]} answer is missing", "the objective asks for it")
        for name, answer in answers.items():
            if not answer:
                raise _Refused(f"{name} answer is empty", repr(getattr(pair, name)))
        if len(set(answers.values())) < len(answers):
            raise _Refused("the answers are equal", next(iter(answers.values()))[:80])
        other = negative.instruction if negative and negative.instruction else ""
        for text in (pair.instruction, other, *answers.values()):
            found = sorted(token for token in self.reserved if token in text)
            if found:
                raise _Refused("text holds a token that the model reserves", found[0])

    def _rendered(self, instruction: str, num_pictures: int, answer: str | None = None) -> str:
        """The chat template's text: up to the answer's first word, or with the answer."""
        parts = [*({"type": "image"} for _ in range(num_pictures)), {"type": "text", "text": instruction}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None)

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=self._adds_bos(text), verbose=False)["input_ids"]

    def _adds_bos(self, text: str) -> bool:
        """False where the template wrote the first token itself, so that it does not stand twice."""
        return self.tokenizer.bos_token is None or not text.startswith(self.tokenizer.bos_token)

    def _conversation(self, instruction: str, num_pictures: int, answer: str, num_prompt: int) -> list[int]:
        """Tokens of the whole conversation up to the one that ends the answer: the first special one that the template writes."""
        text = self._rendered(instruction, num_pictures, answer)
        tokens = self._tokens(text)
        for at in range(num_prompt, len(tokens)):
            if tokens[at] in self._ends:
                return tokens[: at + 1]
        # LLaVA-1.5's template writes a space after an answer, and no end
        return [*self._tokens(text.rstrip()), self.tokenizer.eos_token_id]

    def _expanded(self, pictures: tuple[str, ...], prompt: str, plain: list[int], shared: int) -> tuple[int, ...]:
        """The prompt's first `shared` tokens with each picture's placeholder as many times as the processor says."""
        if not pictures:
            return tuple(plain[:shared])
        if (found := prompt.count(str(self.processor.image_token))) != len(pictures):
            raise _Refused("the chat template shows other pictures", f"{found} places for {len(pictures)} pictures")
        try:
            opened = [self.pictures.open(name) for name in pictures]
        except OSError as error:
            raise _Refused("a picture cannot be read", str(error)) from error
        made = self.processor(images=opened, text=[prompt], add_special_tokens=self._adds_bos(prompt), return_tensors="pt")
        if len(pictures) == 1:
            self.pictures.keep(pictures[0], made)
        expanded, tail = made["input_ids"][0].tolist(), plain[shared:]
        kept = len(expanded) - len(tail)
        # a tokenizer may join the prompt's last letters with the answer's first; a picture it never touches
        assert expanded[kept:] == tail, "the shared tokens end inside a picture"
        return tuple(expanded[:kept])


def _of(pair: Pair, negative: Negative | None, which: str) -> Pair | Negative:
    if which == "own":
        return pair
    assert negative is not None, "an objective with negative terms is given negatives"
    return negative


def _common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many first tokens all sequences share."""
    shortest = min(map(len, sequences))
    first = sequences[0]
    return next((at for at in range(shortest) if any(tokens[at] != first[at] for tokens in sequences)), shortest)
