"""Pairs to an adapter or a model that prefers the chosen answers."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sightline import processes
from sightline.engines import Engines
from sightline.engines.weights import fingerprint
from sightline.execute import Execution, Executor, Tally, Task
from sightline.plugin import Section, problems, suggest
from sightline.store.address import digest
from sightline.store.shards import Shard
from sightline.train.base import Dtype
from sightline.train.checkpoint import Checkpoint, Place
from sightline.train.flipping import FlipPairs
from sightline.train.negatives import MakeNegatives, Negatives
from sightline.train.objectives import OBJECTIVES
from sightline.train.quantization import require_gpu
from sightline.train.reference import ReferenceLogprobs
from sightline.train.requirements import check as check_requirements
from sightline.train.requirements import check_share
from sightline.train.stages import PARADIGMS, Mode, Paradigm, Stage, Start, spread

QUIET_ARGS = (
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "project", "report_to", "run_name", "save_total_limit", "torch_empty_cache_steps", "trackio_space_id",
)  # fmt: skip
"""Arguments of Hugging Face's Trainer that may be passed on and change no result."""

DECIDING_ARGS = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "deepspeed", "full_determinism", "fsdp", "fsdp_config",
    "lr_scheduler_kwargs", "optim", "optim_args", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode",
)  # fmt: skip
"""Those that may be passed on and count as part of the result's address."""


class Lora(Section):
    """Low-rank adapters on every linear layer of the parts that say `lora`."""

    rank: int = Field(16, ge=1)
    """Width of an adapter."""
    alpha: int = Field(32, ge=1)
    """An adapter's product is scaled by alpha over rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of inputs that an adapter misses at random while it trains."""


class Train(Section):
    """Align a vision-language model on pairs."""

    model: str
    """Model folder, hub name, or miniature/<name>: what training starts from and is compared with."""
    revision: str | None = None
    """Hub revision; a commit makes the run reproducible."""
    pairs: str | None = None
    """Folder that `sightline import` wrote; absent: the pairs that this recipe makes."""
    num_pairs: int | None = Field(None, ge=1)
    """Train on so many of the pairs only, the first in an order that the seed decides: of one seed, fewer lie within more.
    Negatives may come from the others."""
    flip_share: float = Field(0.0, ge=0, le=1)
    """For experiments only: swap chosen and rejected of about this share of the pairs, drawn by the seed one by one (mllm-dpo's
    noise); a smaller share's lie within a larger one's."""
    objective: OBJECTIVES.section()  # type: ignore[valid-type]
    """What training pushes towards."""
    negatives: Negatives = Negatives()
    """How spoilt pictures are made and other rows' questions and answers drawn, for objectives that ask for them."""
    sft: Stage | None = None
    """Supervised fine-tuning before the alignment, which then starts from what came of it; {} where nothing differs."""
    paradigm: Paradigm | None = None
    """MCM-DPO's four: whether the vision tower trains never, in alignment, in fine-tuning or in both. Sets the modes of both
    stages: the tower's so, and projector and language model full."""
    reference: Literal["stored", "live", "none"] = "stored"
    """stored: the untrained model's log-probabilities are computed once, kept, and used again by every epoch, sweep and resume.
    live: each step computes them with the adapters off, which spares a pass where there is one epoch and one run. none: for an
    objective that reads none, which computes none in any case; others are refused."""
    vision_tower: Mode = "frozen"
    """frozen, lora (adapters on its linear layers) or full."""
    projector: Mode = "frozen"
    """The same, for the layers between the vision tower and the language model."""
    language_model: Mode = "lora"
    """The same, for the language model."""
    lora: Lora = Lora()
    """The adapters."""
    learning_rate: float = Field(2e-4, gt=0)
    """Highest learning rate. Adapters take about 1e-5 to 5e-4, whole models about 5e-7."""
    vision_learning_rate: float | None = Field(None, gt=0)
    """The vision tower's own; absent: learning_rate."""
    projector_learning_rate: float | None = Field(None, gt=0)
    """The projector's own; absent: learning_rate."""
    epochs: float = Field(3.0, gt=0)
    """How often training sees each pair."""
    batch_size: int = Field(16, ge=1)
    """Pairs a step, of all processes together."""
    accumulation: int = Field(1, ge=1)
    """Parts that a step's pairs are split into where they do not fit into memory together."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """Shrinks matrices a little each step."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are cut to this length."""
    max_length: int | None = Field(None, ge=1)
    """Longest prompt with one answer, in tokens, picture included; longer pairs are dropped, never cut. Absent: the context."""
    dtype: Dtype = "auto"
    """Precision of the weights. auto: float32 on a CPU and where a part trains whole, else bfloat16. Adapters are float32."""
    load_in_4bit: bool = False
    """QLoRA: hold the language model in four bits (NormalFloat4, quantised twice) while its adapters train. Needs a GPU."""
    gradient_checkpointing: bool = False
    """Compute layers twice to save memory."""
    feature_cache_gb: float = Field(0.0, ge=0)
    """Gigabytes of disk, in the run's store, for what a frozen vision tower makes of pictures: later runs skip the tower, too.
    0: in memory only. LLaVA-1.5 takes 1.2 MB a picture in bfloat16, LLaVA-NeXT up to 5.9 MB."""
    seed: int | None = Field(None, ge=0)
    """Order of the pairs and start of the adapters; absent: the recipe's seed."""
    threads: int | None = Field(None, ge=1)
    """Threads of the arithmetic; absent: execution.threads. Sums may differ in their last bits between counts."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between states to go on from after an interruption."""
    log_every: int = Field(1, ge=1)
    """Steps between lines of the log."""
    trainer_args: dict[str, Any] = {}
    """Further arguments of Hugging Face's Trainer, such as optim or report_to."""

    @model_validator(mode="before")
    @classmethod
    def _with_paradigm(cls, value: Any) -> Any:
        return spread(value) if isinstance(value, dict) and str(value.get("paradigm")) in PARADIGMS else value

    @field_validator("trainer_args")
    @classmethod
    def _known(cls, args: dict[str, Any]) -> dict[str, Any]:
        for name in args:
            if name not in (*QUIET_ARGS, *DECIDING_ARGS):
                fix = suggest(name, [*QUIET_ARGS, *DECIDING_ARGS])
                raise PydanticCustomError("unknown_arg", "'{name}' is not passed on to the Trainer", {"name": name, "fix": fix})
        return args

    @model_validator(mode="after")
    def _fits_together(self) -> Train:
        if set(self.parts.values()) == {"frozen"}:
            raise _conflict("nothing trains", "set vision_tower, projector or language_model to lora or full")
        if self.language_model == "full" and "lora" in self.parts.values():
            raise _conflict(
                "a whole language model and adapters elsewhere cannot train together", "use full or frozen for the other parts"
            )
        if self.language_model == "full" and self.load_in_4bit:
            raise _conflict("weights of four bits cannot train", "use language_model: lora, or leave out load_in_4bit")
        if "full" in self.parts.values() and self.dtype == "bfloat16":
            raise _conflict("bfloat16 weights lose the small updates of a part that trains whole", "use dtype float32 or auto")
        if self.reference == "live" and "full" in self.parts.values():
            raise _conflict(
                "a part that trains whole leaves no untrained model to ask in each step",
                "use reference: stored, or lora for all parts",
            )
        if self.reference == "none" and self.objective.needs_reference:
            fix = f"use stored or live; of the objectives, {', '.join(_reference_free())} need none"
            raise _conflict(f"the objective {self.objective.kind} compares with a reference", fix)
        if self.negatives != Negatives() and self.negative_step() is None:
            raise _conflict(f"the objective {self.objective.kind} asks for no negatives", "leave out train.negatives")
        if self.batch_size % self.accumulation:
            raise _conflict(
                "batch_size must be a multiple of accumulation", "each part of a step holds batch_size / accumulation pairs"
            )
        return self

    @model_validator(mode="after")
    def _first_stage_fits(self) -> Train:
        try:
            self.first_stage()
        except ValidationError as error:
            where, problem, fix = next(problems(error))
            raise _conflict(f"sft: {where}: {problem}" if where in Stage.model_fields else f"sft: {problem}", fix) from error
        return self

    def first_stage(self) -> Train | None:
        """The fine-tuning before the alignment as a section of its own; None where there is none."""
        if self.sft is None:
            return None
        others = {"num_pairs"} if self.sft.pairs is not None else set()  # rows of its own are all trained on
        shared = self.model_dump(exclude={"sft", "paradigm", "objective", "negatives", "reference", *others})
        return Train.model_validate({**shared, **self.sft.model_dump(exclude_none=True), "objective": {"kind": "sft"}})

    @property
    def parts(self) -> dict[str, str]:
        """How each part of the model trains."""
        return {"vision_tower": self.vision_tower, "projector": self.projector, "language_model": self.language_model}

    @property
    def precision(self) -> Dtype:
        """dtype, which auto leaves to the machine unless a part trains whole."""
        return "float32" if self.dtype == "auto" and "full" in self.parts.values() else self.dtype

    def rate(self, part: str) -> float:
        """A part's highest learning rate."""
        own = {"vision_tower": self.vision_learning_rate, "projector": self.projector_learning_rate}.get(part)
        return self.learning_rate if own is None else own

    def reference_step(self, start: Start | None = None) -> ReferenceLogprobs:
        """The step that stores what training compares against: the recipe's model, or what an earlier stage left."""
        return ReferenceLogprobs(
            model=self.model,
            revision=self.revision,
            folder=str(start.folder) if start else None,
            weights=start.weights if start else fingerprint(self.model, self.revision),
            terms=[term.name for term in self.objective.needed_terms()],
            optional=[term.name for term in self.objective.needed_terms() if term.optional],
            computed=self.objective.needs_reference and self.reference == "stored",
            max_length=self.max_length,
            dtype=self.precision,
            load_in_4bit=self.load_in_4bit,
        )

    def negative_step(self) -> MakeNegatives | None:
        """The step that stores what pairs are held against besides their rejected answers; None where nothing is."""
        parts = sorted({part for term in self.objective.needed_terms() for part in term.negatives})
        return MakeNegatives(parts=parts, settings=self.negatives) if parts else None

    def address(self, weights: str, pairs: Sequence[Shard], reference: Sequence[Shard]) -> str:
        """Stands for everything that decides what training comes to."""
        # negatives are in the reference's address where any are used, flips in the pairs', a first stage is in the weights
        elsewhere = {"pairs", "flip_share", "negatives", "sft", "paradigm"}
        told = self.model_dump(exclude={*elsewhere, "threads", "checkpoint_every", "log_every", "feature_cache_gb"})
        if self.num_pairs is None:
            del told["num_pairs"]  # all: what was trained before there was this field is found again
        told["trainer_args"] = {name: value for name, value in self.trainer_args.items() if name in DECIDING_ARGS}
        shards = [[shard.address for shard in some] for some in (pairs, reference)]
        return digest("train", VERSION, told, weights, shards)


VERSION = 1  # raise it when the same section and pairs would now train to other weights


def _conflict(problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("conflict", problem, {"fix": fix})


def _reference_free() -> list[str]:
    """Names of the objectives that read no reference, as far as their names alone say."""
    kinds = {name: OBJECTIVES.find(name) for name in OBJECTIVES}
    complete = {name: kind for name, kind in kinds.items() if not any(one.is_required() for one in kind.model_fields.values())}
    return [name for name, kind in complete.items() if not kind().needs_reference]


OnStep = Callable[[Tally], None]
Make = Callable[[Task, Sequence[Sequence[Shard]]], list[Shard]]


@dataclass(frozen=True)
class Prepared:
    """What is stored before training: the reference's tally, the negatives' shards, why pairs were left out, and what an earlier
    stage left to start from."""

    reference: Tally
    negatives: list[Shard]
    dropped: dict[str, int]
    start: Start | None = None


def train(
    section: Train,
    pairs: Sequence[Shard],
    executor: Executor,
    on_step: OnStep | None = None,
    sft_pairs: Sequence[Shard] | None = None,
) -> Checkpoint:
    """Every stage of the section in turn; what is stored is returned at once, what was cut short goes on.

    `sft_pairs` are the first stage's rows, where it has some of its own. `on_step` is told of the tallies of the steps before
    training, which count the pairs that cannot be trained on.
    """
    seed = executor.use.seed if section.seed is None else section.seed
    threads = section.threads or executor.execution.threads
    section = section.model_copy(update={"seed": seed, "threads": threads})
    if section.flip_share:
        pairs = _flipped(section, pairs, executor, on_step)
    first = section.first_stage()
    if first is None:
        return _train(_Training("reference", section, pairs), executor, on_step)
    tuned = _train(_Training("reference/sft", first, pairs if sft_pairs is None else sft_pairs), executor, on_step)
    start = Start.after(tuned, executor)
    return replace(_train(_Training("reference", section, pairs, start), executor, on_step), sft=tuned)


def _flipped(section: Train, pairs: Sequence[Shard], executor: Executor, on_step: OnStep | None) -> list[Shard]:
    """The pairs with some of them the wrong way round, stored as a step of their own."""
    assert section.seed is not None
    step = FlipPairs(share=section.flip_share, seed=section.seed)
    here = Executor(executor.store, Engines({}), 0, Execution(workers=1), executor.watch)
    tally = here.run(Task("flipped", step, ("pairs",)), [pairs])
    if on_step is not None:
        on_step(tally)
    return tally.shards


@dataclass(frozen=True)
class _Training:
    """A stage: the name of the step that stores its reference, what it trains on, and what it starts from."""

    reference: str
    section: Train
    pairs: Sequence[Shard]
    start: Start | None = None


def _train(stage: _Training, executor: Executor, on_step: OnStep | None) -> Checkpoint:
    """Negatives and reference log-probabilities, then training."""
    section, pairs = stage.section, stage.pairs
    step = section.reference_step(stage.start)
    if section.feature_cache_gb:
        kept = executor.store.folder("features", step.weights)
        step.base.kept_in = kept, int(section.feature_cache_gb * 1e9)
    # in this process, so that training goes on with the same loaded model; a seed decides nothing here
    here = Executor(executor.store, Engines({}), 0, Execution(workers=1, threads=section.threads), executor.watch)
    _, reference = _steps(stage, step, here.planned)
    place = Place.of(executor.store, section.address(step.weights, pairs, reference))
    if not place.finished:
        check_requirements(section)
    processes.use_own_device()
    prepared = _prepare(stage, step, here, on_step)
    if place.finished:
        place.clear()
        return Checkpoint.read(place.folder)
    executor.rest()
    from sightline.train.trainer import fit

    with place.locked():
        started = section.model_copy(update={"model": step.base.model, "revision": step.base.revision})
        fit(started, step.base, pairs, prepared, executor, place)
    del step
    gc.collect()  # the Trainer and its model hold each other; what comes next wants the memory
    return Checkpoint.read(place.folder)


def follow() -> None:
    """What all processes but the first do under torchrun: take part in each training, until there is none left."""
    from sightline.train import trainer

    trainer.follow()


def _steps(stage: _Training, step: ReferenceLogprobs, make: Make) -> tuple[list[Shard], list[Shard]]:
    """The shards of the steps before training: negatives, where any are asked for, and the reference."""
    asked, pairs = stage.section.negative_step(), stage.pairs
    if asked is None:
        return [], make(Task(stage.reference, step, ("pairs",)), [pairs])
    following = [replace(after, bucket=shard.bucket) for shard, after in zip(pairs, [*pairs[1:], *pairs[:1]], strict=True)]
    negatives = make(Task("negatives", asked, ("pairs", "pairs")), [pairs, following])
    return negatives, make(Task(stage.reference, step, ("pairs", "negatives")), [pairs, negatives])


def _prepare(stage: _Training, step: ReferenceLogprobs, here: Executor, on_step: OnStep | None) -> Prepared:
    """Make what training compares against, or find it stored."""
    tallies: list[Tally] = []

    def run(task: Task, inputs: Sequence[Sequence[Shard]]) -> list[Shard]:
        tallies.append(here.run(task, inputs))
        if on_step is not None:
            on_step(tallies[-1])
        return tallies[-1].shards

    negatives, _ = _steps(stage, step, run)
    dropped = sum((Counter(tally.dropped) for tally in tallies), Counter())
    return Prepared(tallies[-1], negatives, dict(dropped), stage.start)


__all__ = ["Checkpoint", "Prepared", "Train", "check_share", "follow", "require_gpu", "train"]
