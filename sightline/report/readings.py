"""Sentences beside the training curves, where people misread them. Each is there only when the numbers say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sightline.report.wording import number, share

Log = Sequence[dict[str, float]]

ENOUGH_LINES = 10
"""A shorter log says nothing about how a curve went."""

STILL = 0.005
"""A loss that stays this near to log 2 has not moved."""


def readings(log: Log) -> list[str]:
    """What to know about this log, one sentence each."""
    told: list[Callable[[Log], str]] = [unmoved, rewards, settled_early, one_term_only, uneven_lengths]
    return [sentence for tell in told if (sentence := tell(log))]


def rewards(log: Log) -> str:
    """What the last rewards mean: a falling chosen reward alarms people who have not met it before."""
    chosen, rejected = _at_the_end(log, "chosen_reward"), _at_the_end(log, "rejected_reward")
    if chosen is None or rejected is None:
        return ""
    ended = f"Over the last steps the chosen reward was {number(chosen)} and the rejected one {number(rejected)}"
    if rejected >= chosen:
        return f"{ended}: the rejected answers did not fall behind, so this training has not learned the preference."
    if chosen >= 0:
        return f"{ended}: chosen answers became likelier than at the start, and rejected ones fell behind."
    return (
        f"{ended}. A falling chosen reward is usual with DPO, which only widens the gap between the two; worry when coverage or "
        "length fall with it, and then train less or raise the NLL weight."
    )


def unmoved(log: Log) -> str:
    """A preference loss that starts at log 2 and stays there."""
    losses = _values(log, "preference_loss") or _values(log, "loss")
    if len(losses) < ENOUGH_LINES or any(abs(loss - math.log(2)) > STILL for loss in losses):
        return ""
    return (
        f"The loss never left log 2 = 0.69: after {len(losses)} lines of the log the model prefers nothing that it did not "
        "prefer before. Raise the learning rate, or look at which parts of the model train."
    )


def settled_early(log: Log) -> str:
    """All pairs in order from early on, while the model goes on moving away."""
    told = [line for line in log if {"accuracy", "step"} <= line.keys()]
    since = next((at for at in range(len(told)) if all(line["accuracy"] >= 0.99 for line in told[at:])), len(told))
    rest = told[since:]
    if len(told) < ENOUGH_LINES or since > len(told) / 3:
        return ""
    for field, name, little in (("kl", "KL estimate", 0.05), ("grad_norm", "gradient norm", 0.0)):
        before, after = _mean(_values(rest[: len(rest) // 3], field)), _at_the_end(rest, field)
        if before and after and after > max(1.5 * before, little):
            return (
                f"From step {rest[0]['step']:g} on nearly all pairs were in the right order, and the {name} grew from "
                f"{number(before)} to {number(after)} all the same. What that did only the benchmarks can say: these pairs were "
                "learned by then, and fewer epochs or a lower learning rate may do as well."
            )
    return ""


def one_term_only(log: Log) -> str:
    """Of several things to tell apart the model learned one."""
    fields = {name for line in log for name in line if name.startswith("margin/")}
    named = {name.removeprefix("margin/"): name for name in sorted(fields)}
    if not named and any("picture_margin" in line for line in log):
        named = {"rejected": "margin", "chosen/picture": "picture_margin"}
    margins = {name: end for name, field in named.items() if (end := _at_the_end(log, field)) is not None}
    grown = {name: margin for name, margin in margins.items() if margin > 0}
    best = max(grown, key=lambda name: grown[name], default="")
    if len(margins) < 2 or not best or grown[best] < 0.9 * sum(grown.values()):
        return ""
    others = ", ".join(f"{name} {number(margin)}" for name, margin in margins.items() if name != best)
    return (
        f"Of the margins only that over {best} grew ({number(grown[best])}; {others}): what the other terms stand for was not "
        "learned."
    )


def uneven_lengths(log: Log) -> str:
    """Chosen and rejected answers of unlike length, where rewards are sums over their tokens."""
    chosen, rejected = (_mean(_values(log, f"{answer}_tokens")) for answer in ("chosen", "rejected"))
    if not chosen or not rejected or 0.75 < chosen / rejected < 4 / 3 or not _sums_tokens(log):
        return ""
    more, word = (chosen - rejected, "longer") if chosen > rejected else (rejected - chosen, "shorter")
    return (
        f"Chosen answers are {share(more, rejected)} {word} than rejected ones ({number(chosen, 0)} tokens against "
        f"{number(rejected, 0)}). Rewards are sums over tokens here, so length alone can earn them: look at the length of "
        "answers before and after, or use length: average."
    )


def _sums_tokens(log: Log) -> bool:
    """Whether rewards are the same multiple of both answers' log-ratios: of means over tokens they are not."""
    fields = ("chosen_reward", "log_ratio/rejected", "rejected_reward", "log_ratio/chosen")
    told = [tuple(line[field] for field in fields) for line in log if set(fields) <= line.keys() and line["chosen_reward"]]
    return bool(told) and all(math.isclose(one * other, two * another, rel_tol=1e-3) for one, other, two, another in told)


def _values(log: Log, field: str) -> list[float]:
    return [line[field] for line in log if field in line]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _at_the_end(log: Log, field: str) -> float | None:
    """Mean over the last tenth of the lines that have the field."""
    values = _values(log, field)
    return _mean(values[-max(1, len(values) // 10) :])
