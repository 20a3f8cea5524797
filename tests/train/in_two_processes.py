"""What `test_scale.py` starts with torchrun: several trainings in one launch, for starting takes longer than training.

`in_two_processes.py OUT NAME...` trains the recipes `NAME.yaml` into `OUT/NAME`. Of names that are no recipe `wild` is trained by
the command line, and ends it; `sharded` compares a model that FSDP2 split with a whole one, and writes `sharded.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

import sightline
from sightline import processes
from sightline.cli import main
from sightline.engines import Engines
from sightline.execute import Execution, Executor
from sightline.recipe import read
from sightline.store.folders import RowFolder
from sightline.store.shards import Store
from sightline.train import Train, tuning
from sightline.train.logprobs import TreeScorer, pack


def started(section: Train) -> TreeScorer:
    """A tuned model, its adapters no longer neutral, so that all of them have gradients."""
    base = section.reference_step().base
    network = tuning.tune(base.network, section)
    torch.manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return TreeScorer(network, base.features)


def split_by_fsdp2(scorer: TreeScorer) -> Any:
    """As the Trainer's accelerate does it where there are GPUs; its own way to this code is closed on a CPU."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    layers = {"auto_wrap_policy": "transformer_based_wrap", "transformer_cls_names_to_wrap": ["LlamaDecoderLayer"]}
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, cpu_ram_efficient_loading=False, **layers)
    settings = {"mixed_precision": "no", "is_main_process": True, "device": torch.device("cpu")}
    return fsdp2_prepare_model(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin), **settings), scorer)


def batches(section: Train, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Four pairs, and this process's two of them."""
    store = Store(folder)
    rows = [row for shard in RowFolder.open(folder, "pairs").shards for row in store.read(shard)][:4]
    use = Executor(store, Engines({}), 0, Execution(workers=1)).use
    encoder, terms = section.reference_step().base.encoder(None, use.picture), section.objective.needed_terms()
    trees = [encoder.tree(row, terms) for row in rows]
    own = trees[2 * processes.rank() : 2 * processes.rank() + 2]
    return pack(trees, terms, encoder.pictures, encoder.pad), pack(own, terms, encoder.pictures, encoder.pad)


def margin(scores: torch.Tensor) -> torch.Tensor:
    return (scores[:, 0] - scores[:, 1]).sum()


def sharded(section: Train) -> dict[str, Any]:
    all_pairs, own_pairs = batches(section, Path(str(section.pairs)))
    whole, split = started(section), split_by_fsdp2(started(section))
    scores, own_scores = whole(all_pairs), split(own_pairs)
    margin(scores).backward()
    margin(own_scores).backward()
    wanted = {name: parameter for name, parameter in whole.network.named_parameters() if parameter.requires_grad}
    parts = dict(split.network.named_parameters())
    # averaged over two processes, each with half of the pairs
    gradients = {name: 2 * parts[name].grad.full_tensor() for name in wanted}
    told: dict[str, Any] = {
        "scores": (own_scores - scores[2 * processes.rank() :][:2]).abs().max().item(),
        "gradients": max(
            ((gradients[name] - one.grad).abs().max() / one.grad.abs().max()).item() for name, one in wanted.items()
        ),
        "held": sum(part.to_local().numel() for part in parts.values()) / sum(part.numel() for part in parts.values()),
    }
    tuning.check_finite(split.network)
    tuning.snapshot(split.network, Path("state.safetensors"))
    torch.distributed.barrier()
    for part in parts.values():
        part.data.mul_(2)
    tuning.restore(split.network, Path("state.safetensors"))
    told["restored"] = all(parts[name].full_tensor().equal(one) for name, one in wanted.items())
    tuning.gather(split.network)
    if processes.rank() == 0:
        for scorer, name in ((whole, "whole"), (split, "split")):
            Path(name).mkdir()
            tuning.save(scorer.network, Path(name), section.model, None)
    return told


if __name__ == "__main__":
    out, *names = sys.argv[1:]
    for name in names:
        if name == "sharded":
            section = read("dpo.yaml", ())[0].train
            told = sharded(section)
            if processes.rank() == 0:
                Path("sharded.json").write_text(json.dumps(told))
        elif name == "wild":
            sys.argv[1:] = ["train", "wild.yaml", "--out", f"{out}/wild"]
            main()
        else:
            sightline.train(f"{name}.yaml", f"{out}/{name}")
