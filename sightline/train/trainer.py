"""Training: Hugging Face's Trainer with our examples, our log-probabilities and our refusals (a torch file)."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sightline import processes
from sightline.engines import Engines
from sightline.errors import TrainingError
from sightline.execute import Execution, Executor, Silent, Watch, set_up_process
from sightline.store.shards import Shard, Store
from sightline.train import Prepared, Train, tuning
from sightline.train.base import Base
from sightline.train.checkpoint import ABOUT, LOG, WHOLE, Checkpoint, Place
from sightline.train.dataset import Examples
from sightline.train.log import Log, Means, measured, told_by
from sightline.train.logprobs import TreeScorer, as_logprobs
from sightline.train.order import Order

TRAINED = "trained.safetensors"
OBJECTIVE = "objective.json"
"""What the objective remembers, in a state to go on from."""
TENSORBOARD = "runs"
"""Where the library's TensorBoard callback writes."""

START_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""How far the policy may be from its reference before the first step, relative to 1 + the log-probability: rounding, no more."""


@dataclass(frozen=True)
class Job:
    """A training that is about to begin or to go on, as the first process tells it to the others."""

    section: Train
    pairs: Sequence[Shard]
    prepared: Prepared
    store: Path
    seed: int
    working: Path
    state: Path | None
    kept_in: tuple[Path, int] | None

    @property
    def step(self) -> int:
        """Optimizer steps that are done."""
        return 0 if self.state is None else int(self.state.name.rpartition("-")[2])


def fit(section: Train, base: Base, pairs: Sequence[Shard], prepared: Prepared, executor: Executor, place: Place) -> None:
    """Train (or go on training) and publish the checkpoint. For the first process; the others `follow`."""
    job = Job(section, pairs, prepared, executor.store.root, executor.use.seed, place.working, place.last_state(), base.kept_in)
    processes.tell(job)
    log = Log(place.working / LOG, job.step)
    trainer = _trained(job, base, executor, log)
    checkpoint = _checkpoint(section, trainer.network, trainer.examples, log, prepared, place)
    _publish(checkpoint, section, trainer.network, base, log, place)
    executor.watch.end("train", checkpoint.describe())


def follow() -> None:
    """Take part in each training of the first process, until it has none left."""
    processes.use_own_device()
    while (job := processes.told()) is not None:
        here = Executor(Store(job.store), Engines({}), job.seed, Execution(workers=1, threads=job.section.threads), Silent())
        base = job.section.reference_step(job.prepared.start).base
        base.kept_in = job.kept_in
        _trained(job, base, here, None)
        gc.collect()  # the Trainer and its model hold each other


def _trained(job: Job, base: Base, executor: Executor, log: Log | None) -> TreeTrainer:
    """The trainer after its last step. What only the first process does is left out where there is no log to write."""
    section, watch = job.section, executor.watch
    set_up_process(section.threads)
    examples = Examples(section, base, executor, job.pairs, job.prepared)
    network = tuning.tune(base.network, section)
    scorer = TreeScorer(network, base.features if section.vision_tower == "frozen" else None)
    trainer = TreeTrainer(section, scorer, examples, log, _arguments(section, job.working, examples, network), watch)
    watch.begin("train", examples.num_steps, "steps")
    watch.advance("train", job.step)
    try:
        trainer.train(resume_from_checkpoint=None if job.state is None else str(job.state))
    except torch.OutOfMemoryError as error:
        fix = "raise train.accumulation, lower train.max_length, or set train.gradient_checkpointing: true"
        raise TrainingError("train", "a step does not fit into the GPU's memory", fix) from error
    tuning.check_finite(network)
    tuning.gather(network)
    return trainer


def _checkpoint(section: Train, network: Any, examples: Examples, log: Log, prepared: Prepared, place: Place) -> Checkpoint:
    return Checkpoint(
        address=place.folder.name,
        folder=place.folder,
        model=section.model,
        revision=section.revision,
        is_adapter=tuning.is_adapter(network),
        num_pairs=len(examples),
        num_steps=int(log.lines[-1]["step"]),
        first_loss=log.lines[0]["loss"],
        last_loss=log.lines[-1]["loss"],
        seconds=log.lines[-1]["seconds"],
        num_trained=tuning.count_trained(network),
        dropped=prepared.dropped,
        num_processes=processes.count(),
    )


def _publish(checkpoint: Checkpoint, section: Train, network: Any, base: Base, log: Log, place: Place) -> None:
    """Write everything beside the checkpoint's place, then give it its name."""
    made = place.working / "made"
    made.mkdir(exist_ok=True)
    tuning.save(network, made, section.model, section.revision)
    base.processor.save_pretrained(made)
    (made / LOG).write_text(log.path.read_text())
    if (place.working / TENSORBOARD).exists():
        os.replace(place.working / TENSORBOARD, made / TENSORBOARD)
    (made / ABOUT).write_text(json.dumps({"checkpoint": checkpoint.to_json(), "section": section.model_dump()}, indent=1))
    place.publish(made)


def _arguments(section: Train, working: Path, examples: Examples, network: Any) -> TrainingArguments:
    """The section in the Trainer's words."""
    arguments = TrainingArguments(
        output_dir=str(working),
        use_cpu=network.device.type == "cpu",
        per_device_train_batch_size=section.batch_size // section.accumulation // processes.count(),
        gradient_accumulation_steps=section.accumulation,
        num_train_epochs=section.epochs,
        learning_rate=section.learning_rate,
        lr_scheduler_type="constant_with_warmup" if section.schedule == "constant" else section.schedule,
        warmup_steps=int(section.warmup * examples.num_steps),
        max_grad_norm=section.max_grad_norm,
        # what sees pictures has no gradient in a batch without one
        ddp_find_unused_parameters=section.vision_tower != "frozen" or section.projector != "frozen",
        seed=section.seed or 0,
        logging_steps=section.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=section.checkpoint_every,
        remove_unused_columns=False,
        disable_tqdm=True,
        **{
            "report_to": "none",
            "save_total_limit": 2,
            "dataloader_pin_memory": network.device.type != "cpu",
            **section.trainer_args,
        },
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several devices take several processes; the Trainer would split our batches
    return arguments


class _Progress(TrainerCallback):
    """Tells the watch of each step, and the order of each epoch."""

    def __init__(self, watch: Watch, order: Order) -> None:
        self.watch = watch
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # accelerate passes it on through two wrappers; in a resumed run of several processes there are three
        self.order.set_epoch(int(state.epoch or 0))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.watch.advance("train", 1)


class TreeTrainer(Trainer):
    """Trains on trees: it knows the terms that an objective asks for, and not the objective."""

    optimizer: Any

    def __init__(
        self, section: Train, scorer: TreeScorer, examples: Examples, log: Log | None, arguments: TrainingArguments, watch: Watch
    ) -> None:
        self.order = Order(examples, arguments.seed, section.batch_size // section.accumulation)
        super().__init__(
            model=scorer,
            args=arguments,
            train_dataset=examples,
            data_collator=examples.collate,
            callbacks=[_Progress(watch, self.order)],
        )
        self.remove_callback(PrinterCallback)
        self.section = section
        self.examples = examples
        self.scorer = scorer
        self.network: Any = scorer.network
        self.folder = Path(str(arguments.output_dir))
        self.lines = log
        self._means = Means()
        self._pairs_in_step = 0
        self._tokens_per_pair: list[float] = []
        section.objective.restore({})

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None:
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.network)
            self.optimizer = kind(tuning.parameter_groups(self.network, self.section), **settings)
        return self.optimizer

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return self.order

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """This process's parts of a step; what the step comes to is counted over all processes."""
        self._means.start()
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        if batches:
            own = [sum(column) for column in zip(*(_counted(batch) for batch in batches), strict=True)]
            self._pairs_in_step, num_packed, *tokens_K = (sum(column) for column in zip(*processes.from_all(own), strict=True))
            self._tokens_per_pair = (torch.tensor(tokens_K) / self._pairs_in_step).tolist()
            self._means.count(self._pairs_in_step, num_packed)
        return batches, num_items

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        objective = self.section.objective
        terms, own = objective.needed_terms(), len(inputs["reference"])  # none where this process has no pair left
        policy = model(inputs)[:own]
        reference = self._live_reference(inputs)[:own] if self._is_live else inputs["reference"].to(policy.dtype)
        # each process computes the loss of all pairs, so that an objective need not know of processes
        policy, reference, counts = self._of_all(policy, reference, inputs["num_tokens"])
        if self.state.global_step == 0 and objective.needs_reference:
            self._check_start(inputs, policy.detach(), reference)
        told = as_logprobs(policy, counts, terms, self._tokens_per_pair)
        compared = as_logprobs(reference, counts, terms)
        loss = objective.loss(told, compared)
        if not torch.isfinite(loss.value):
            raise TrainingError(
                "train",
                f"the loss is {loss.value.item()} at step {self.state.global_step + 1}",
                "lower train.learning_rate, or use dtype float32",
            )
        self._means.add(told_by(loss, len(policy)) | measured(told, compared if objective.needs_reference else None))
        # the Trainer divides by the number of parts; a step's last part may hold fewer pairs than the others
        return loss.value * (len(policy) * self.current_gradient_accumulation_steps / self._pairs_in_step)

    def _of_all(self, *own: Tensor) -> Sequence[Tensor]:
        """Each tensor's rows of all processes, in their order. This process's own keep their gradient."""
        if processes.count() == 1:
            return own
        if own[0].requires_grad:
            # gradients are averaged over processes, and each has those of its own pairs only: their sum is wanted
            own[0].register_hook(lambda gradient: gradient * processes.count())
        rows: list[Sequence[Tensor]] = processes.from_all([tensor.detach().cpu() for tensor in own])
        rows[processes.rank()] = own
        return [torch.cat([part.to(own[0].device) for part in parts]) for parts in zip(*rows, strict=True)]

    @property
    def _is_live(self) -> bool:
        return self.section.reference == "live" and self.section.objective.needs_reference

    def _live_reference(self, inputs: dict[str, Any]) -> Tensor:
        """(B, K): what the model says with its adapters off."""
        with torch.no_grad(), self.network.disable_adapter() if tuning.is_adapter(self.network) else nullcontext():
            return self.model(inputs)

    def _check_start(self, inputs: dict[str, Any], policy: Tensor, reference: Tensor) -> None:
        """TrainingError, with the cause, where the untrained policy is not its reference. Tensors are of all processes' pairs."""
        tolerance = START_TOLERANCE[self.scorer.base.dtype]
        # a guess between two tokens that are level may turn on rounding, and then another one is scored
        sure = [at for at, term in enumerate(self.section.objective.needed_terms()) if term.tokens != "guessed"]
        policy, reference = policy[:, sure], reference[:, sure]
        if _near(policy, reference, tolerance):
            return
        far = (policy - reference).abs().max().item()
        what = f"before the first step the policy's log-probabilities differ from the reference's by up to {far:.3g}"
        fix = "report this, with the train section of the recipe"
        if _near(self._untouched(inputs)[:, sure], reference, tolerance):
            raise TrainingError("train", f"{what}: the adapter does not start neutral", fix)
        self.scorer.features = None
        if _near(self._untouched(inputs)[:, sure], reference, tolerance):
            fix = "remove the store's folder features, if there is one, and run again"
            raise TrainingError("train", f"{what}: the kept features of its pictures are not what the vision tower makes", fix)
        raise TrainingError(
            "train",
            f"{what}: the stored reference is not this model's (other weights, prompts, pictures, precision or device)",
            "remove the store's folder rows/reference and run again",
        )

    def _untouched(self, inputs: dict[str, Any]) -> Tensor:
        """(B, K), of all processes: what the model says without what was trained."""
        return self._of_all(self._live_reference(inputs)[: len(inputs["reference"])])[0]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One line of the log a step (the Trainer's own summary at the end is left out)."""
        if "loss" in logs:
            first = {"step": self.state.global_step, "epoch": self.state.epoch, "loss": logs["loss"]}
            last = {"grad_norm": logs.get("grad_norm", 0.0), "learning_rate": logs["learning_rate"]}
            logs = {**first, **self._means.take(), **last}
            if self.lines is not None:
                logs = self.lines.add(logs)
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """What training goes on from, whichever way the model is spread over processes."""
        folder = Path(output_dir or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        tuning.snapshot(self.network, folder / TRAINED)
        if self.lines is not None:
            (folder / OBJECTIVE).write_text(json.dumps(self.section.objective.state()))

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """DeepSpeed rounds what is given to the model to the model's precision: too little for sums of log-probabilities."""
        return {**super()._prepare_inputs(inputs), "reference": inputs["reference"].to(self.args.device)}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        tuning.restore(self.network, Path(resume_from_checkpoint) / TRAINED)
        self.section.objective.restore(json.loads((Path(resume_from_checkpoint) / OBJECTIVE).read_text()))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        processes.wait_for_all()  # each adds its random numbers
        if self.lines is not None:
            (self.folder / f"checkpoint-{self.state.global_step}" / WHOLE).touch()


def _counted(batch: dict[str, Tensor]) -> list[int]:
    """Pairs, packed tokens, and tokens of each term."""
    pairs = len(batch["reference"])
    return [pairs, int((batch["segments"] >= 0).sum()) if pairs else 0, *batch["num_tokens"].sum(0).tolist()]


def _near(left: Tensor, right: Tensor, tolerance: float) -> bool:
    return bool(((left - right).abs() <= tolerance * (1 + right.abs())).all())
