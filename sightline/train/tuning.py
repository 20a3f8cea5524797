"""What trains: which parts of the model, through adapters or whole, at which rates (a torch file)."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from sightline import processes
from sightline.engines.local import quiet
from sightline.errors import TrainingError
from sightline.train.families import family_of

if TYPE_CHECKING:
    from sightline.train import Train


def tune(network: Any, section: Train) -> Any:
    """The network with what the section trains ready to be trained, and everything else frozen."""
    network.requires_grad_(False)
    if section.gradient_checkpointing:
        recompute(network)
    adapted = [part for part, mode in section.parts.items() if mode == "lora"]
    whole = [part for part, mode in section.parts.items() if mode == "full"]
    if adapted:
        return _with_adapter(network, section, adapted, whole)
    family = family_of(network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(family.part_of(name) in whole)
    return network


def recompute(network: Any) -> None:
    """Have layers forget what they computed, and compute it again for gradients."""
    if hasattr(network, "activation_checkpointing_enable"):  # the newer name of the same
        network.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _with_adapter(network: Any, section: Train, adapted: list[str], whole: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    from sightline.train.adapters import fuse

    config = LoraConfig(
        r=section.lora.rank,
        lora_alpha=section.lora.alpha,
        lora_dropout=section.lora.dropout,
        # a pattern and no set of names: a set is written in another order by every process
        target_modules="|".join(lora_pattern(network, part) for part in adapted),
        modules_to_save=[name for part in whole for name in _modules(network, part)] or None,
    )
    torch.manual_seed(section.seed or 0)  # adapters start from random numbers
    with quiet():
        adapted_network = get_peft_model(network, config)
    fuse(adapted_network)
    return adapted_network


def lora_pattern(network: nn.Module, part: str) -> str:
    """A regular expression for the names of a part's linear layers; TrainingError where it has none."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    found = []
    for prefix in family_of(network).parts[part]:
        leaves = sorted({name.rpartition(".")[2] for name in linear if name.startswith(f"{prefix}.")})
        if leaves:  # the head is one itself, and no start of another's name
            found.append(rf"{re.escape(prefix)}\.(?:.*\.)?(?:{'|'.join(leaves)})")
    if not found:
        raise TrainingError(f"train.{part}", "this model's has no linear layers to put adapters on", "use full or frozen")
    return "|".join(found)


def _modules(network: nn.Module, part: str) -> list[str]:
    """The last names of a part's modules, as PEFT takes them; the modules of a list one by one."""
    modules = dict(network.named_modules())
    names = []
    for prefix in family_of(network).parts[part]:
        last = prefix.rpartition(".")[2]
        if isinstance(modules.get(prefix), nn.ModuleList):
            names += [f"{last}.{at}" for at, _ in enumerate(modules[prefix])]
        elif prefix in modules:
            names.append(last)
    return names


def count_trained(network: nn.Module) -> dict[str, int]:
    """Numbers that train, by part."""
    family = family_of(network)
    counts = dict.fromkeys(family.parts, 0)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            counts[family.part_of(name)] += parameter.numel()
    return counts


def parameter_groups(network: nn.Module, section: Train) -> list[dict[str, Any]]:
    """Trained parameters by learning rate and weight decay; biases and norms (vectors) never decay."""
    family = family_of(network)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = section.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((section.rate(family.part_of(name)), decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def is_adapter(network: Any) -> bool:
    return hasattr(network, "peft_config")


def save(network: Any, folder: Path, base_name: str, revision: str | None) -> None:
    """Write what was trained: a PEFT adapter, or the whole model where it trained without one."""
    if not is_adapter(network):
        with quiet():
            network.save_pretrained(folder)
        return
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(network, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy.copy(network.peft_config["default"])
    # as the recipe names it, not where it lies on this machine
    config.base_model_name_or_path, config.revision, config.inference_mode = base_name, revision, True
    config.save_pretrained(str(folder))


def snapshot(network: nn.Module, file: Path) -> None:
    """Write the trained tensors as they are, to go on from. All processes ask, for they may hold parts; the first one writes."""
    trained = {name: _whole(value).cpu().contiguous() for name, value in network.named_parameters() if value.requires_grad}
    if processes.rank() == 0:
        save_file(trained, file)


def restore(network: nn.Module, file: Path) -> None:
    """Put a snapshot's tensors back into a network tuned the same way."""
    for name, tensor in load_file(file).items():
        held = network.get_parameter(name).data
        held.copy_(
            distribute_tensor(tensor.to(held.device), held.device_mesh, held.placements) if isinstance(held, DTensor) else tensor
        )


def gather(network: nn.Module) -> None:
    """Put whole tensors in the places of those that processes hold parts of, so that the first process can save them."""
    made: dict[nn.Parameter, nn.Parameter] = {}  # two modules may share one
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                if parameter not in made:
                    whole = _whole(parameter).cpu()  # all processes take part; the first one keeps it
                    kept = whole if processes.rank() == 0 else torch.empty(0)
                    made[parameter] = nn.Parameter(kept, requires_grad=parameter.requires_grad)
                setattr(module, name, made[parameter])


def _whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_finite(network: nn.Module) -> None:
    """TrainingError where a trained number is none."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingError("train", f"the weights '{name}' are no longer finite", "lower train.learning_rate")
