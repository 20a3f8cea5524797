"""What runs in the environment that has lmms-eval: it asks base and adapter lmms-eval's tasks, and writes what came of it.

    /path/to/its/python bridge_script.py REQUEST.json

It needs lmms-eval, torch, transformers and peft, and nothing of Sightline: `bridge.py` writes the request, and reads what this
leaves in the request's folder: TASK.json for each task asked for, with lmms-eval's numbers, and samples_TASK.jsonl, a line a
question, for each that was run; a group runs several.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder, whose modules are not meant for them

import hashlib
import importlib.metadata
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import lmms_eval.evaluator
import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.tasks import TaskManager
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

PACKAGES = ("lmms-eval", "torch", "transformers", "peft", "datasets", "pillow")
MAX_TOKENS = 128
"""Longest answer where a task sets no limit."""


def main(path: str) -> None:
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    manager = TaskManager(include_path=request["include_path"])
    for task in request["tasks"]:
        if task not in manager.all_tasks:
            near = [name for name in manager.all_tasks if task.lower() in name.lower() or name.lower() in task.lower()]
            sys.exit(f"lmms-eval has no task named {task!r}; near it: {', '.join(near[:8]) or 'none'}")
    model = Answering(request)
    for task in request["tasks"]:
        found = lmms_eval.evaluator.simple_evaluate(
            model=model, tasks=[task], task_manager=manager, limit=request["limit"], log_samples=True
        )
        _write(Path(request["out"]), task, found, manager, model)


class _Limits(NamedTuple):
    max_tokens: int
    until: tuple[str, ...]


@dataclass
class _Asked:
    """A request of lmms-eval, and what its reply is kept by."""

    key: str
    prompt: str
    limits: _Limits
    request: Instance


class Answering(lmms):
    """A model of transformers with PEFT's adapter on it, in the form that lmms-eval asks. Greedy; each reply is kept at once.

    A reply is kept by its prompt, its pictures and its limits, so that none is ever computed again, whatever happens after it.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__()
        self.request = request
        self.kept = _Kept(Path(request["replies"]))
        self.finished: dict[tuple[str, int], str] = {}
        self.model: Any = None
        self.processor: Any = None

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        asked = [self._asked(request) for request in requests]
        missing = {each.key: each for each in asked if each.key not in self.kept.replies}.values()
        done = 0
        for limits, group in itertools.groupby(missing, key=lambda each: each.limits):
            queue, size = list(group), self.request["batch_size"]
            for batch in (queue[start : start + size] for start in range(0, len(queue), size)):
                turns = [_turn(each.prompt, self._pictures(each.request)) for each in batch]
                for each, (text, finish) in zip(batch, self._replies(turns, limits), strict=True):
                    self.kept.add(each.key, text, finish)
                done += len(batch)
                print(f"{done} of {len(missing)} new answers", file=sys.stderr, flush=True)
        for each in asked:
            self.finished[(each.request.task_name, each.request.doc_id)] = self.kept.replies[each.key]["finish"]
        return [self.kept.replies[each.key]["text"] for each in asked]

    def _asked(self, request: Instance) -> _Asked:
        prompt, options = request.args[:2]
        until = options.get("until") or ()
        limits = _Limits(int(options.get("max_new_tokens") or MAX_TOKENS), (until,) if isinstance(until, str) else tuple(until))
        seen = hashlib.sha256(json.dumps([prompt, limits]).encode())
        for picture in self._pictures(request):
            seen.update(f"{picture.size} {picture.mode}".encode() + picture.tobytes())
        return _Asked(seen.hexdigest(), prompt, limits, request)

    def _pictures(self, request: Instance) -> list[Image.Image]:
        _, _, doc_to_visual, doc_id, task, split = request.args
        shown = doc_to_visual(self.task_dict[task][split][doc_id]) or []
        others = [type(each).__name__ for each in shown if not isinstance(each, Image.Image)]
        if others:
            sys.exit(f"task {task} shows {others[0]}: only pictures can be handed over")
        return list(shown)

    def _replies(self, turns: Sequence[list[dict[str, Any]]], limits: _Limits) -> Iterator[tuple[str, str]]:
        """Text and how it ended, for each turn."""
        self._load()
        inputs = self.processor.apply_chat_template(
            turns,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.model.device, dtype=self.model.dtype)
        ends = self.model.generation_config.eos_token_id or self.processor.tokenizer.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends)
        pad = self.processor.tokenizer.pad_token_id
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=limits.max_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=ends[0] if pad is None else pad,
            )
        for row in tokens[:, inputs["input_ids"].shape[1] :].tolist():
            end = next((at for at, token in enumerate(row) if token in ends), None)
            text = self.processor.tokenizer.decode(row[:end], skip_special_tokens=True).strip()
            cut = min((at for at in map(text.find, limits.until) if at >= 0), default=None)
            yield text[:cut], "length" if end is None and cut is None else "stop"

    def _load(self) -> None:
        """The model, when the first reply is missing."""
        if self.model is not None:
            return
        name, how = self.request["model"], {"revision": self.request["revision"]}
        device = self.request["device"]
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        dtype = self.request["dtype"]
        dtype = ("float32" if device == "cpu" else "bfloat16") if dtype == "auto" else dtype
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=getattr(torch, dtype), **how)
        backend = {} if find_spec("torchvision") else {"backend": "pil"}
        self.processor = AutoProcessor.from_pretrained(name, **how, **backend)
        self.processor.tokenizer.padding_side = "left"
        if self.request["adapter"]:
            model = _adapted(model, self.request["adapter"])
        self.model = model.to(device).eval()

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        sys.exit(
            f"task {requests[0].task_name} asks for likelihoods of given answers: only tasks that ask for an answer can be run"
        )

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        sys.exit(f"task {requests[0].task_name} asks in several rounds: only tasks that ask once can be run")


class _Kept:
    """Replies by what was asked, in a file that grows by a line each; a line that a kill left half written counts as none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, dict[str, str]] = {}
        for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
            try:
                reply = json.loads(line)
                self.replies[reply["key"]] = reply
            except ValueError:
                continue

    def add(self, key: str, text: str, finish: str) -> None:
        self.replies[key] = {"key": key, "text": text, "finish": finish}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(self.replies[key]))  # first the line's end: the last line may be half a one


def _turn(prompt: str, pictures: Sequence[Image.Image]) -> list[dict[str, Any]]:
    shown = [{"type": "image", "image": picture} for picture in pictures]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": prompt}]}]


def _adapted(model: Any, folder: str) -> Any:
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, folder)
    found = adapted.load_adapter(folder, "default")  # once more: only this call tells what found no place
    if found.missing_keys or found.unexpected_keys:
        sys.exit(f"adapter {folder}: its layers are not this model's; give the model that it was trained on")
    return adapted


def _write(out: Path, task: str, found: dict[str, Any], manager: TaskManager, model: Answering) -> None:
    """Their numbers, last, so that who finds them finds the samples as well."""
    parts = found["samples"]
    for part, samples in parts.items():
        lines = [json.dumps(_logged(sample, part, model), ensure_ascii=False, default=_named) for sample in samples]
        (out / f"samples_{part}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    told = {
        "task": task,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "parts": {part: {"sha256": _digest(part, manager, found), "samples": len(parts[part])} for part in parts},
        **{key: found.get(key) for key in ("results", "configs", "versions", "n-samples", "higher_is_better")},
    }
    (out / f"{task}.json").write_text(json.dumps(told, indent=1, default=_named), encoding="utf-8")


def _logged(sample: dict[str, Any], task: str, model: Answering) -> dict[str, Any]:
    """A sample as lmms-eval's own log has it (the only reply of a list by itself, the prompt as `input`), and its document."""
    kept = {key: value for key, value in sample.items() if key not in ("arguments", "resps", "token_counts")}
    replies, arguments = sample["filtered_resps"], sample["arguments"]
    return kept | {
        "filtered_resps": replies[0] if isinstance(replies, list) and len(replies) == 1 else replies,
        "input": arguments[0] if arguments else None,
        "finish": model.finished.get((task, sample["doc_id"])),
    }


def _digest(task: str, manager: TaskManager, found: dict[str, Any]) -> str:
    """Of the files beside a task's YAML that may have a say in it, or of what was read from them where it has none."""
    place = manager.task_index.get(task, {}).get("yaml_path")
    if not isinstance(place, str):
        read = json.dumps(found["configs"][task], sort_keys=True, default=_named)
        return hashlib.sha256(re.sub(" at 0x[0-9a-f]+", "", read).encode()).hexdigest()
    seen = hashlib.sha256(Path(place).name.encode())
    for path in sorted(Path(place).parent.iterdir()):
        if path.is_file() and path.name.endswith(("yaml", "yml", ".py")):
            seen.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return seen.hexdigest()


def _named(value: Any) -> str:
    return f"<{type(value).__name__}>"


if __name__ == "__main__":
    main(sys.argv[1])
