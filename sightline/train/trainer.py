"""Training: Hugging Face's Trainer with our examples, our log-probabilities and our refusals (a torch file)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sightline.errors import TrainingError
from sightline.execute import Executor, Watch
from sightline.store.shards import Shard
from sightline.train import Prepared, Train, tuning
from sightline.train.base import Base
from sightline.train.checkpoint import ABOUT, LOG, WHOLE, Checkpoint, Place
from sightline.train.dataset import Examples
from sightline.train.log import Log, Means
from sightline.train.logprobs import TreeScorer, as_logprobs

TRAINED = "trained.safetensors"
OBJECTIVE = "objective.json"
"""What the objective remembers, in a state to go on from."""

START_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""How far the policy may be from its reference before the first step, relative to 1 + the log-probability: rounding, no more."""


def fit(section: Train, base: Base, pairs: Sequence[Shard], prepared: Prepared, executor: Executor, place: Place) -> None:
    """Train (or go on training) and publish the checkpoint."""
    if section.threads is not None:
        torch.set_num_threads(section.threads)
    examples = Examples(section, base, executor, pairs, prepared)
    network = tuning.tune(base.network, section)
    state = place.last_state()
    log = Log(place.working / LOG, 0 if state is None else int(state.name.rpartition("-")[2]))
    scorer = TreeScorer(network, base.features if section.vision_tower == "frozen" else None)
    trainer = TreeTrainer(section, scorer, examples, log, _arguments(section, place.working, examples, network), executor.watch)
    executor.watch.begin("train", examples.num_steps, "steps")
    executor.watch.advance("train", log.step)
    try:
        trainer.train(resume_from_checkpoint=None if state is None else str(state))
    except torch.OutOfMemoryError as error:
        fix = "raise train.accumulation, lower train.max_length, or set train.gradient_checkpointing: true"
        raise TrainingError("train", "a step does not fit into the GPU's memory", fix) from error
    tuning.check_finite(network)
    checkpoint = _checkpoint(section, network, examples, log, prepared, place)
    _publish(checkpoint, section, network, base, log, place)
    executor.watch.end("train", checkpoint.describe())


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
    )


def _publish(checkpoint: Checkpoint, section: Train, network: Any, base: Base, log: Log, place: Place) -> None:
    """Write everything beside the checkpoint's place, then give it its name."""
    made = place.working / "made"
    made.mkdir(exist_ok=True)
    tuning.save(network, made, section.model, section.revision)
    base.processor.save_pretrained(made)
    (made / LOG).write_text(log.path.read_text())
    (made / ABOUT).write_text(json.dumps({"checkpoint": checkpoint.to_json(), "section": section.model_dump()}, indent=1))
    place.publish(made)


def _arguments(section: Train, working: Path, examples: Examples, network: Any) -> TrainingArguments:
    """The section in the Trainer's words."""
    arguments = TrainingArguments(
        output_dir=str(working),
        use_cpu=network.device.type == "cpu",
        per_device_train_batch_size=section.batch_size // section.accumulation,
        gradient_accumulation_steps=section.accumulation,
        num_train_epochs=section.epochs,
        learning_rate=section.learning_rate,
        lr_scheduler_type="constant_with_warmup" if section.schedule == "constant" else section.schedule,
        warmup_steps=int(section.warmup * examples.num_steps),
        max_grad_norm=section.max_grad_norm,
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
    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.watch.advance("train", 1)


class TreeTrainer(Trainer):
    """Trains on trees: it knows the terms that an objective asks for, and not the objective."""

    optimizer: Any

    def __init__(
        self, section: Train, scorer: TreeScorer, examples: Examples, log: Log, arguments: TrainingArguments, watch: Watch
    ) -> None:
        super().__init__(
            model=scorer,
            args=arguments,
            train_dataset=examples,
            data_collator=examples.collate,
            callbacks=[_Progress(watch)],
        )
        self.remove_callback(PrinterCallback)
        self.section = section
        self.examples = examples
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
        return self.examples.sampler(self.args.seed) or super()._get_train_sampler(*args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self._pairs_in_step = sum(len(batch["num_tokens"]) for batch in batches)
        tokens_K = sum(batch["num_tokens"].sum(0) for batch in batches)
        self._tokens_per_pair = (tokens_K / max(self._pairs_in_step, 1)).tolist() if batches else []
        return batches, num_items

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        objective = self.section.objective
        terms, counts = objective.needed_terms(), inputs["num_tokens"]
        policy = model(inputs)
        reference = self._live_reference(inputs) if self._is_live else inputs["reference"].to(policy.dtype)
        if self.state.global_step == 0 and objective.needs_reference:
            self._check_start(inputs, policy.detach(), reference)
        told = as_logprobs(policy, counts, terms, self._tokens_per_pair)
        loss = objective.loss(told, as_logprobs(reference, counts, terms))
        if not torch.isfinite(loss.value):
            raise TrainingError(
                "train",
                f"the loss is {loss.value.item()} at step {self.state.global_step + 1}",
                "lower train.learning_rate, or use dtype float32",
            )
        self._means.add(loss.logs, len(policy), int((inputs["segments"] >= 0).sum()), loss.counts)
        # the Trainer divides by the number of parts; a step's last part may hold fewer pairs than the others
        return loss.value * (len(policy) * self.current_gradient_accumulation_steps / self._pairs_in_step)

    @property
    def _is_live(self) -> bool:
        return self.section.reference == "live" and self.section.objective.needs_reference

    def _live_reference(self, inputs: dict[str, Any]) -> Tensor:
        """(B, K): what the model says with its adapters off."""
        with torch.no_grad(), self.network.disable_adapter():
            return self.model(inputs)

    def _check_start(self, inputs: dict[str, Any], policy: Tensor, reference: Tensor) -> None:
        """TrainingError, with the likely cause, where the untrained policy is not its reference."""
        tolerance = START_TOLERANCE[next(self.network.parameters()).dtype]
        # a guess between two tokens that are level may turn on rounding, and then another one is scored
        sure = [at for at, term in enumerate(self.section.objective.needed_terms()) if term.tokens != "guessed"]
        policy, reference = policy[:, sure], reference[:, sure]
        if _near(policy, reference, tolerance):
            return
        far = (policy - reference).abs().max().item()
        where, what = (
            "train",
            f"before the first step the policy's log-probabilities differ from the reference's by up to {far:.3g}",
        )
        untouched = policy
        if tuning.is_adapter(self.network):
            with torch.no_grad(), self.network.disable_adapter():
                untouched = TreeScorer(self.network)(inputs)[:, sure]
        if _near(untouched, reference, tolerance):
            raise TrainingError(
                where, f"{what}: the adapter does not start neutral", "report this, with the train section of the recipe"
            )
        raise TrainingError(
            where,
            f"{what}: the stored reference is not this model's (other weights, pictures, precision or device)",
            "remove the store's folder rows/reference and run again",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One line of the log a step (the Trainer's own summary at the end is left out)."""
        if "loss" in logs:
            means = self._means.take()
            first = {"step": self.state.global_step, "epoch": self.state.epoch, "loss": logs["loss"]}
            self.lines.add({**first, **means, "grad_norm": logs.get("grad_norm", 0.0), "learning_rate": logs["learning_rate"]})
            logs = {**logs, **means}
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        tuning.snapshot(self.network, folder / TRAINED)
        (folder / OBJECTIVE).write_text(json.dumps(self.section.objective.state()))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        tuning.restore(self.network, Path(resume_from_checkpoint) / TRAINED)
        self.section.objective.restore(json.loads((Path(resume_from_checkpoint) / OBJECTIVE).read_text()))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        (self.folder / f"checkpoint-{self.state.global_step}" / WHOLE).touch()


def _near(left: Tensor, right: Tensor, tolerance: float) -> bool:
    return bool(((left - right).abs() <= tolerance * (1 + right.abs())).all())
