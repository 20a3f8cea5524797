"""Find what is wrong before anything is computed. Needs torch only where there are pairs to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml

from sightline import eval as evaluation
from sightline import make as making
from sightline.engines.weights import is_cached, locate, seen_from
from sightline.errors import DataError, MissingPackage, RecipeError, UserError
from sightline.execute import Silent, Watch
from sightline.formats.validate import Fault, Repeats, faults
from sightline.recipe import Recipe, read
from sightline.run import RUNS
from sightline.store.folders import RowFolder
from sightline.store.runs import Run
from sightline.store.shards import Store
from sightline.train import Train
from sightline.train.preflight import TOO_LONG, Sample, Seen, Source, look

SHOWN = 20
WIDTH = 100
SHOWN_LETTERS = 240
"""Of a sample's text; more is left out of its middle."""

NUMBERS = {
    "picture": "pictures",
    "prompt": "text before the answers",
    "chosen": "chosen answer",
    "rejected": "rejected answer",
    "path": "prompt with the longest answer",
    "packed": "all of a pair, what it shares once",
}
TOLD_BY_TRAINING = ("empty answer", "equal answers", "missing picture", "image token in text")
"""Faults that training has a reason of its own for, which is told instead."""


@dataclass
class Findings:
    """What a check came to: facts in order, what is missing, what training would see, and the faults of single rows."""

    facts: list[str] = field(default_factory=list)
    missing: list[UserError] = field(default_factory=list)
    """What a run would stop at: files, keys, packages."""
    faults: list[Fault] = field(default_factory=list)
    looks: list[tuple[Train, Seen]] = field(default_factory=list)
    """Stages of training, and what each would see."""

    @property
    def seen(self) -> Seen | None:
        """By the last stage."""
        return self.looks[-1][1] if self.looks else None

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield from self.facts
        for number, (section, seen) in enumerate(self.looks):
            yield from ["", f"stage {number + 1}, {section.objective.kind}:"] if len(self.looks) > 1 else []
            yield from _seen_lines(section, seen)
        if self.faults:
            yield "rows with a fault:"
        for fault in self.faults[:SHOWN]:
            yield f"  {fault.row}: {fault.kind}{f' ({fault.detail})' if fault.detail else ''}"
        if len(self.faults) > SHOWN:
            yield f"  and {len(self.faults) - SHOWN:,} more"
        kinds = Counter(fault.kind for fault in self.faults)
        if kinds:
            yield "faults: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        elif not self.missing:
            yield "nothing wrong found"

    @contextmanager
    def noting(self) -> Iterator[None]:
        """What the block finds missing is listed, so that a user can mend it all at once; what training refuses is raised."""
        try:
            yield
        except (DataError, RecipeError, MissingPackage) as error:
            self.missing.append(error)


def check(target: Recipe | str | Path, overrides: Sequence[str] = (), watch: Watch | None = None) -> Findings:
    """Check a recipe (keys, bounds, engines and roles, models' folders, prompts, benchmarks, pairs) or a folder of imported rows.

    Where the recipe trains and its pairs are stored, they are looked at as training would see them. A wrong recipe is raised as a
    UserError; what a run would stop at besides is listed as missing, and so are faults of single rows, which it would drop.
    """
    watch = watch or Silent()
    if not isinstance(target, Recipe) and (Path(target) / "about.json").is_file():
        return _check_rows(Path(target), Findings(), watch)
    recipe, folder = (target, Path()) if isinstance(target, Recipe) else read(target, overrides)
    findings = Findings([f"recipe {recipe.name}: every key is known, every engine has its role"])
    _check_models(recipe, findings)
    if recipe.make is not None and not (recipe.train and recipe.train.pairs):
        with findings.noting():
            fact, refused = making.check(recipe.make, recipe.engines, folder, watch)
            findings.facts.append(fact)
            findings.faults += [Fault(row=row.key, kind=row.reason, detail=row.detail) for row in refused]
    if recipe.eval:
        for benchmark in recipe.eval.benchmarks:
            with findings.noting():
                findings.facts.append(evaluation.look(recipe.eval, benchmark, folder))
    if recipe.train:
        with findings.noting():
            _check_first_stage(recipe, folder, findings, watch)
        with findings.noting():
            pairs = recipe.train.pairs
            source = _imported(pairs, recipe, folder, findings, watch) if pairs else _made(recipe, findings)
            if source is not None:
                _look(recipe.train, source, findings, watch)
    return findings


def _check_first_stage(recipe: Recipe, folder: Path, findings: Findings, watch: Watch) -> None:
    """Rows of the first stage's own, where it has some."""
    assert recipe.train is not None
    stage, sft = recipe.train.first_stage(), recipe.train.sft
    if stage is None or sft is None or sft.pairs is None:
        return
    found = Findings()
    _look(stage, _imported(sft.pairs, recipe, folder, found, watch), found, watch)
    findings.facts += found.facts
    findings.looks += found.looks
    findings.faults += [replace(fault, row=f"train.sft.pairs, {fault.row}") for fault in found.faults]


def _check_models(recipe: Recipe, findings: Findings) -> None:
    for engine in recipe.engines.values():
        with findings.noting():
            findings.facts += [said] if (said := engine.look()) else []
    models = {engine.model for engine in recipe.engines.values() if not engine.served} | (
        {recipe.train.model} if recipe.train else set()
    )
    absent = sorted(model for model in models if not _is_here(model) and not is_cached(model))
    if absent:
        told = "looked up on the hub, where some ask for a login (hf auth login)"
        findings.facts.append(f"not on this disk, and {told}: {', '.join(absent)}")


def _is_here(model: str) -> bool:
    return Path(locate(model)).is_dir()


def _check_rows(root: Path, findings: Findings, watch: Watch) -> Findings:
    folder = RowFolder.open(root, "pairs")
    store = Store(root)
    num_pairs = sum(int(store.counts(shard)["rows"]) for shard in folder.shards)
    watch.begin("read pairs", num_pairs, "pairs")
    repeats = Repeats()
    for shard in folder.shards:
        pairs = store.read(shard)
        findings.faults += [fault for pair in pairs for fault in (*faults(pair, store), *repeats.faults(pair))]
        watch.advance("read pairs", len(pairs))
    watch.end("read pairs", f"{num_pairs:,} pairs")
    refused = [row for shard in folder.shards for row in store.read_dropped(shard)]
    findings.facts.append(f"{root}: {num_pairs:,} pairs, {len(refused):,} rows refused at import")
    findings.faults = [Fault(row=row.key, kind=row.reason, detail=row.detail) for row in refused] + findings.faults
    return findings


def _imported(pairs: str, recipe: Recipe, folder: Path, findings: Findings, watch: Watch) -> Source:
    """The pairs of a folder that the recipe names."""
    root = seen_from(pairs, folder)
    _check_rows(root, findings, watch)
    return Source(Store(root), RowFolder.open(root, "pairs").shards, recipe.execution.shard_size)


def _made(recipe: Recipe, findings: Findings) -> Source | None:
    """The pairs that a run here made by the same steps and engines; None where none did."""
    wanted = _what_makes(yaml.safe_load(recipe.resolved()))
    for file in sorted(RUNS.glob("*/recipe.yaml")):
        run = Run(file.parent)
        if not run.manifest_path.exists() or _what_makes(yaml.safe_load(file.read_text())) != wanted:
            continue
        if "pairs" in run.manifest["steps"]:
            shards = run.shards("pairs")
            findings.facts.append(f"pairs made by {run.folder}")
            return Source(run.store, shards)
    findings.facts.append("pairs are not made yet: run `sightline make` first, then check again to see what training would see")
    return None


def _what_makes(tree: dict[str, Any]) -> list[Any]:
    """What of a resolved recipe decides its pairs."""
    return [tree.get(name) for name in ("make", "engines", "seed")]


def _look(section: Train, source: Source, findings: Findings, watch: Watch) -> None:
    try:
        seen = look(section, source, watch)
    except RecipeError as error:
        if _is_here(section.model):
            raise
        findings.facts.append(f"what training would see was not looked at: {error.where} {error.problem}")
        return
    findings.looks.append((section, seen))
    left_out = {row.key for row in seen.dropped}
    findings.faults = [
        *(Fault(row=row.key, kind=f"left out: {row.reason}", detail=row.detail) for row in seen.dropped),
        *(fault for fault in findings.faults if fault.row not in left_out or fault.kind not in TOLD_BY_TRAINING),
    ]


def _seen_lines(section: Train, seen: Seen) -> Iterator[str]:
    yield ""
    yield from _looked(seen)
    if seen.largest:
        yield f"  {'tokens of a pair':<36}{'min':>9}{'median':>9}{'95 %':>9}{'max':>9}"
        for name, what in NUMBERS.items():
            if getattr(seen.largest, name) or name == "picture":
                yield f"  {what:<36}" + "".join(f"{number:>9,}" for number in seen.spread(name))
    yield from _limit(section, seen)
    yield from _sample_lines(seen.samples)
    yield from _part_lines(seen)
    yield from _memory_lines(section, seen)
    yield ""


def _looked(seen: Seen) -> Iterator[str]:
    left = len(seen.dropped)
    told = f"training takes {seen.num_looked - left:,} of them and leaves {left:,} out" if left else "training takes all of them"
    if seen.num_looked == seen.num_pairs:
        yield f"all {seen.num_pairs:,} pairs were encoded as training does it: {told}"
        return
    yield f"{seen.num_looked:,} of {seen.num_pairs:,} pairs were encoded as training does it: {told}"
    longest = seen.num_looked - seen.num_drawn
    yield f"  {seen.num_drawn:,} drawn by their ids (min, median and 95 % are theirs), and {longest:,} with the longest texts;"
    yield "  rows that are left out are named of these, other faults of all"


def _limit(section: Train, seen: Seen) -> Iterator[str]:
    own = seen.limit < seen.context
    what = f"train.max_length; the model's context is {seen.context:,}" if own else "the model's context"
    yield f"  limit of the prompt with an answer: {seen.limit:,} tokens ({what})"
    too_long = sum(row.reason == TOO_LONG for row in seen.dropped)
    if too_long:
        mend = "a higher train.max_length" if own else "a model of longer context"
        yield f"  too long: {too_long:,}. Nothing is cut, picture tokens least of all: such pairs are left out whole."
        yield f"  They would fit with {mend}, with shorter texts or with fewer pixels"


def _sample_lines(samples: Sequence[Sample]) -> Iterator[str]:
    if samples:
        yield ""
        yield "samples; the tokens between « and » count in the loss, the others do not"
    for sample in samples:
        yield f"  {sample.which}: {sample.key}, {sample.length:,} tokens"
        wide = max(len(term) for _, answers in sample.prompts for term, _, _ in answers)
        for prompt, answers in sample.prompts:
            yield _wrapped("prompt", wide, _shortened(prompt))
            for term, text, num_tokens in answers:
                yield _wrapped(term, wide, f"«{_shortened(text)}» {num_tokens:,} tokens")


def _wrapped(label: str, wide: int, text: str) -> str:
    """The text in a column beside its label, line breaks in it as \\n."""
    first = f"    {label:<{wide}}  "
    text = text.replace("\n", "\\n")
    return fill(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def _shortened(text: str) -> str:
    """With the middle of a long text left out: faults of a template stand at its ends."""
    if len(text) <= SHOWN_LETTERS:
        return text
    head, tail = text[: SHOWN_LETTERS * 2 // 3], text[-SHOWN_LETTERS // 3 :]
    return f"{head} [... {len(text) - len(head) - len(tail):,} letters ...] {tail}"


def _part_lines(seen: Seen) -> Iterator[str]:
    yield ""
    yield f"  {'what trains':<18}{'how':<8}{'numbers that train':>20}{'numbers in all':>18}"
    for name, part in seen.parts.items():
        yield f"  {name:<18}{part.mode:<8}{part.trained:>20,}{part.total:>18,}"


def _memory_lines(section: Train, seen: Seen) -> Iterator[str]:
    if seen.memory is None or seen.step is None:
        return
    memory, optimizer = seen.memory, str(section.trainer_args.get("optim", "adamw"))
    other = "" if optimizer.startswith("adamw_torch") or optimizer == "adamw" else f", which {optimizer} need not keep"
    yield ""
    layers = "with" if section.gradient_checkpointing else "without"
    yield f"memory of the largest step, estimated: {_size(memory.total)} (this machine has {_size(seen.room)})"
    exact = f"weights {_size(memory.weights)}, gradients {_size(memory.gradients)}, AdamW's means {_size(memory.optimizer)}"
    yield f"  exact: {exact}{other}"
    yield f"  a rule of thumb: activations {_size(memory.activations)}, logits {_size(memory.logits)}"
    yield f"  {seen.step.pairs} pairs at once (batch_size / accumulation), each of {seen.step.packed:,} packed tokens,"
    yield f"  in {seen.precision}, {layers} gradient checkpointing"
    if memory.total > seen.room:
        yield "  too much: raise train.accumulation, lower train.max_length, or set train.gradient_checkpointing: true"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
