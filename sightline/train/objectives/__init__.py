"""What training pushes towards: objectives, and the log-probabilities that they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sightline.plugin import Plugin, Table

if TYPE_CHECKING:
    from torch import Tensor

OBJECTIVES = Table(
    "objectives",
    {
        "dpo": "sightline.train.objectives.dpo:DPO",
        "robust": "sightline.train.objectives.robust:Robust",
        "ipo": "sightline.train.objectives.ipo:IPO",
        "hinge": "sightline.train.objectives.hinge:Hinge",
        "bco": "sightline.train.objectives.bco:BCO",
        "simpo": "sightline.train.objectives.simpo:SimPO",
        "orpo": "sightline.train.objectives.orpo:ORPO",
        "kto": "sightline.train.objectives.kto:KTO",
        "sft": "sightline.train.objectives.sft:SFT",
        "mix": "sightline.train.objectives.mix:Mix",
        "mpo": "sightline.train.objectives.mix:MPO",
        "ddpo": "sightline.train.objectives.ddpo:DDPO",
        "mdpo": "sightline.train.objectives.mdpo:MDPO",
        "povid": "sightline.train.objectives.povid:POVID",
        "mcm_dpo": "sightline.train.objectives.mcm_dpo:MCMDPO",
    },
)


Part = Literal["picture", "question", "response"]
"""What a stored negative can lend."""


@dataclass(frozen=True)
class Term:
    """A log-probability that an objective needs: of an answer, after pictures and a question.

    `own` ones are the pair's, `negative` ones those of its stored negative (`train/negatives.py`); `unrelated` is the negative's
    answer, which belongs to another row.
    """

    response: Literal["chosen", "rejected", "unrelated"]
    picture: Literal["own", "negative"] = "own"
    question: Literal["own", "negative"] = "own"
    tokens: Literal["all", "changed", "guessed"] = "all"
    """all: the answer's. changed: those of them that stand for others in the other answer (`train/changes.py`). guessed: in the
    place of each, the one that the scoring model itself finds likeliest there after the negative's picture."""
    optional: bool = False
    """A pair that lacks this answer has 0 here, over 0 tokens. Without this, it is dropped."""

    @property
    def name(self) -> str:
        """`chosen`, or with what is not the pair's own, and which tokens count: `rejected/picture/question`, `chosen/changed`."""
        other = [part for part, which in (("picture", self.picture), ("question", self.question)) if which == "negative"]
        return "/".join([self.response, *other, *([] if self.tokens == "all" else [self.tokens])])

    @property
    def negatives(self) -> list[Part]:
        """What of the pair's negative it needs."""
        needed: dict[Part, bool] = {
            "picture": self.picture == "negative" or self.tokens == "guessed",
            "question": self.question == "negative",
            "response": self.response == "unrelated",
        }
        return [part for part, is_needed in needed.items() if is_needed]

    @classmethod
    def read(cls, name: str) -> Term:
        """The term of this name; ValueError where none has it."""
        for term in ALL_TERMS:
            if term.name == name:
                return term
        raise ValueError(f"no term is called '{name}'; there are {', '.join(term.name for term in ALL_TERMS)}")


_WHICH: tuple[Literal["own", "negative"], ...] = ("own", "negative")
_RESPONSES: tuple[Literal["chosen", "rejected"], ...] = ("chosen", "rejected")
CROSSED_TERMS = tuple(Term(*parts) for parts in product(_RESPONSES, _WHICH, _WHICH))
"""Either answer after either picture and either question."""
CHANGED_TERMS = tuple(Term(response, tokens="changed") for response in _RESPONSES)
GUESSED = Term("chosen", tokens="guessed")
UNRELATED = Term("unrelated")
ALL_TERMS = (*CROSSED_TERMS, *CHANGED_TERMS, GUESSED, UNRELATED)


@dataclass(frozen=True)
class Logprobs:
    """Summed log-probabilities by term, and how many tokens each sums. Axis B: pairs.

    `tokens_per_pair` is the mean of `num_tokens` over the whole step, of which these pairs may be a part.
    """

    sums: dict[str, Tensor]
    num_tokens: dict[str, Tensor]
    tokens_per_pair: dict[str, float] | None = None

    def __getitem__(self, term: str) -> Tensor:
        return self.sums[term]

    def per_token(self, term: str) -> Tensor:
        """Mean log-probability of a token, of each answer."""
        return self.sums[term] / self.num_tokens[term]

    def present(self, term: str) -> Tensor:
        """(B,): False for a pair that lacks this answer."""
        return self.num_tokens[term] > 0

    def token_mean(self, term: str) -> Tensor:
        """Mean log-probability of a token over all answers of the step: a long answer counts for more.

        A mean over pairs whose mean over a step's parts is the whole step's token mean, however the step is split.
        """
        whole = self.num_tokens[term].double().mean().item() if self.tokens_per_pair is None else self.tokens_per_pair[term]
        return self.sums[term].mean() / whole


@dataclass(frozen=True)
class Loss:
    """The mean over the pairs, and what the log shall say beside it: means over the pairs, or over so many as `counts` says."""

    value: Tensor
    logs: dict[str, Tensor]
    counts: dict[str, Tensor] = field(default_factory=dict)


def with_nll(preference: Tensor, weight: float, policy: Logprobs, logs: dict[str, Tensor]) -> Loss:
    """The loss with the chosen answers' own added, a mean over each answer's tokens, which keeps them likely."""
    nll = -policy.per_token("chosen").mean()
    told = {name: number.detach() for name, number in {**logs, "nll": nll}.items()}
    return Loss(preference + weight * nll if weight else preference, told)


class Objective(Plugin):
    """An objective's recipe section. Its loss is a mean over pairs, so that it is the same however a step is split."""

    terms: ClassVar[tuple[Term, ...]] = ()

    @property
    def needs_reference(self) -> bool:
        """False where `loss` reads no reference, so that none is computed."""
        return True

    def needed_terms(self) -> tuple[Term, ...]:
        """Log-probabilities that this section asks for."""
        return self.terms

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What the objective has to remember over an interruption; most remember nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`; {} starts anew."""
