"""One DPO step of Sightline and of TRL on the same model, pairs and precision, interleaved in one run.

    python benchmarks/dpo_step.py            # a table
    python benchmarks/dpo_step.py --json     # one line
    python benchmarks/dpo_step.py --answers 4 --rounds 3    # all six pairs of four answers, as VLFeedback has them

The model has the proportions of a 7B one: a language model 1024 wide of 2 layers and 1000 words, a vision tower 128 wide, 576
picture tokens, LoRA. Sides: TRL's DPOTrainer as it is; TRL with its completion-only head, used on GPUs only, switched on;
ours with a reference computed in the step; ours with reference and features of the frozen tower stored. A step is the loss
and its gradients: batches are made before. Medians with their range; memory is what a second step peaks at, in a process of its
own, over what that holds between steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import memory
import numpy as np
import torch

SIDES = ("trl", "trl_compact", "ours_live", "ours_stored")
WORDS = 1000
Step = Callable[[], float]


def new_processor(side: int) -> Any:
    """A processor for pictures of so many pixels a side, and a vocabulary of numbered words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlavaProcessor, PreTrainedTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    special = ["<pad>", "<s>", "</s>", "<image>"]
    vocabulary = {word: at for at, word in enumerate([*special, *(f"w{n}" for n in range(WORDS - len(special)))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    template = (
        "<s>{% for message in messages %}{% for part in message.content %}"
        "{{ '<image> ' if part.type == 'image' else part.text + ' ' }}{% endfor %}"
        "{{ '</s>' if message.role == 'assistant' else '' }}{% endfor %}"
    )
    return LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}), tokenizer, patch_size=14,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>", chat_template=template,
    )  # fmt: skip


def build_model(folder: Path, options: argparse.Namespace) -> None:
    """A LLaVA of random weights with the asked proportions, and its processor."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    side = options.side * 14
    vision = CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, image_size=side, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=WORDS, hidden_size=options.width, intermediate_size=options.width * 11 // 4, num_hidden_layers=options.layers,
        num_attention_heads=options.width // 64, max_position_embeddings=8192, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_seq_length=options.side**2)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    new_processor(side).save_pretrained(folder)


def pairs(options: argparse.Namespace, spare: int = 0) -> list[dict[str, Any]]:
    """Random questions and answers of the asked lengths, a tenth more or less, each question with pictures of noise."""
    from PIL import Image

    rng = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(f"w{n}" for n in rng.integers(1, 900, size=round(length * rng.uniform(0.9, 1.1))))

    side, made = options.side * 14, []
    for at in range(options.pairs + spare):
        asked = {
            "pictures": {
                f"{at}.{number}": Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
                for number in range(options.pictures)
            },
            "question": text(options.question),
        }
        answers = [text(options.answer) for _ in range(options.answers)]
        made += [{**asked, "chosen": better, "rejected": worse} for better, worse in combinations(answers, 2)]
    return made


def with_adapter(folder: Path) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(1)
    linear = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=linear, init_lora_weights="gaussian"))


def trl_step(folder: Path, options: argparse.Namespace, compact: bool) -> Step:
    """TRL's loss and gradients on a collated batch."""
    import trl
    from datasets import Dataset
    from transformers import AutoProcessor
    from trl.trainer import utils

    def turn(role: str, *parts: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": role, "content": list(parts)}]

    rows = [
        {
            "images": list(pair["pictures"].values()),
            "prompt": turn("user", *({"type": "image"} for _ in pair["pictures"]), {"type": "text", "text": pair["question"]}),
            "chosen": turn("assistant", {"type": "text", "text": pair["chosen"]}),
            "rejected": turn("assistant", {"type": "text", "text": pair["rejected"]}),
        }
        for pair in pairs(options)
    ]
    arguments = trl.DPOConfig(
        output_dir=str(folder / "trl"), beta=0.1, max_length=None, per_device_train_batch_size=len(rows), use_cpu=True,
        bf16=False, report_to="none", gradient_checkpointing=options.checkpointing,
    )  # fmt: skip
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    trainer = trl.DPOTrainer(
        with_adapter(folder), None, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=processor
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    on_gpus_only = utils._use_triton

    def step() -> float:
        utils._use_triton = (lambda device: True) if compact else on_gpus_only
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        return loss.item()

    return step


def planted(folder: Path, options: argparse.Namespace, objective: Any) -> tuple[list[Any], Any]:
    """The pairs' trees, and the encoder that made them. Negatives want another question, so one more instruction is drawn."""
    from sightline.engines.transformers import load_processor
    from sightline.rows import Pair
    from sightline.train import Train
    from sightline.train.examples import Encoder

    given = pairs(options, spare=1)
    pictures = {name: picture for pair in given for name, picture in pair["pictures"].items()}
    rows = [
        Pair(
            id=str(at), key=str(at), instruction=pair["question"], pictures=list(pair["pictures"]), chosen=pair["chosen"],
            rejected=pair["rejected"], rule="benchmark",
        )
        for at, pair in enumerate(given)
    ]  # fmt: skip
    asked = Train(model=str(folder), objective=objective).negative_step()
    negatives: list[Any] = [None] * len(rows) if asked is None else list(asked.make(None, rows))  # type: ignore[arg-type]
    encoder = Encoder(load_processor(str(folder)), 8192, pictures.__getitem__)
    wanted = len(pairs(options))
    terms = objective.needed_terms()
    return [encoder.tree(row, terms, negative) for row, negative in zip(rows[:wanted], negatives, strict=False)], encoder


def our_step(folder: Path, options: argparse.Namespace, live: bool, objective: Any = None) -> Step:
    """Our loss and gradients on packed trees, as the trainer computes them; DPO's where no other objective is given."""
    from sightline.train import attention
    from sightline.train.adapters import fuse
    from sightline.train.features import Features
    from sightline.train.logprobs import TreeScorer, as_logprobs, pack
    from sightline.train.objectives.dpo import DPO
    from sightline.train.tuning import recompute

    objective = objective or DPO(beta=0.1)
    trees, encoder = planted(folder, options, objective)
    terms = objective.needed_terms()
    batch = pack(trees, terms, encoder.pictures, encoder.pad)
    network = with_adapter(folder)
    fuse(network)
    attention.split(network.get_base_model())
    if options.checkpointing:
        recompute(network)
        network.train()
    scorer, counts = TreeScorer(network, None if live else Features()), batch["num_tokens"]

    def reference() -> Any:
        with torch.no_grad(), network.disable_adapter():
            return as_logprobs(scorer(batch), counts, terms)

    stored = None if live else reference()

    def step() -> float:
        network.zero_grad()
        loss = objective.loss(as_logprobs(scorer(batch), counts, terms), stored or reference()).value
        loss.backward()
        return loss.item()

    return step


def make_step(side: str, folder: Path, options: argparse.Namespace) -> Step:
    if side.startswith("trl"):
        return trl_step(folder, options, compact=side == "trl_compact")
    return our_step(folder, options, live=side == "ours_live")


def interleaved(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, Any]]:
    """Loss, and CPU and wall seconds of each side's steps, the sides taking turns."""
    losses = {side: step() for side, step in steps.items()}  # the first is a warm-up
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in steps}
    for _ in range(rounds):
        for side, step in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            taken[side].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        side: {"loss": losses[side], "cpu": [cpu for cpu, _ in some], "wall": [wall for _, wall in some]}
        for side, some in taken.items()
    }


def own_peak(side: str, folder: Path, options: argparse.Namespace) -> float:
    """MB that a step needs over what is held between steps: weights are read from their file in the first one."""
    step = make_step(side, folder, options)
    step()
    memory.forget_peak()
    before = memory.resident()
    step()
    return memory.peak() - before


def peaks(folder: Path, sides: Sequence[str], arguments: list[str]) -> dict[str, float]:
    """Each side's peak, in a process of its own; `arguments` are this program's."""
    found = {}
    # a tensor's memory goes back when the tensor goes: what the C library keeps of it differs by 100 MB from run to run
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 18)}
    for side in sides:
        command = [sys.executable, __file__, *arguments, "--only", side, "--model", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found[side] = float(done.stdout.split()[-1])
    return found


def medians(found: dict[str, dict[str, Any]], against: str) -> dict[str, dict[str, Any]]:
    """Medians, and ratios of steps that stood beside each other."""
    made = {}
    for side, entry in found.items():
        ratios = [theirs / ours for theirs, ours in zip(found[against]["cpu"], entry["cpu"], strict=True)]
        made[side] = {
            "loss": entry["loss"],
            **{f"{kind}_s": statistics.median(entry[kind]) for kind in ("cpu", "wall")},
            "times_as_fast": [statistics.median(ratios), min(ratios), max(ratios)],
        }
    return made


def print_table(made: dict[str, dict[str, Any]], against: str) -> None:
    print(f"| side | loss | CPU s a step | wall s | peak MB | times as fast as {against}, by CPU |\n|---|---|---|---|---|---|")
    for side, row in made.items():
        median, low, high = row["times_as_fast"]
        peak = f"{row['peak_mb']:.0f}" if "peak_mb" in row else ""
        numbers = f"{row['loss']:.6f} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} | {peak}"
        print(f"| {side} | {numbers} | {median:.2f} [{low:.2f}, {high:.2f}] |")


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """What the benchmarks of a step have in common."""
    parser.add_argument("--width", type=int, default=1024, help="of the language model")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--side", type=int, default=24, help="picture tokens in a row and in a column")
    parser.add_argument("--pictures", type=int, default=1, help="a question")
    parser.add_argument("--question", type=int, default=40, help="tokens")
    parser.add_argument("--answer", type=int, default=100, help="tokens")
    parser.add_argument("--pairs", type=int, default=1, help="instructions a step")
    parser.add_argument("--answers", type=int, default=2, help="answers an instruction; each two of them make a pair")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true", help="compute layers twice to save memory")
    parser.add_argument("--json", action="store_true", help="one line")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.add_argument("--only", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    if options.only:
        print(own_peak(options.only, options.model, options))
        return
    with tempfile.TemporaryDirectory() as folder:
        build_model(Path(folder), options)
        peak_of = peaks(Path(folder), SIDES, [argument for argument in sys.argv[1:] if argument != "--json"])
        found = interleaved({side: make_step(side, Path(folder), options) for side in SIDES}, options.rounds)
    made = {side: {**row, "peak_mb": peak_of[side]} for side, row in medians(found, against="trl_compact").items()}
    print(json.dumps(made)) if options.json else print_table(made, "compact TRL")


if __name__ == "__main__":
    main()
