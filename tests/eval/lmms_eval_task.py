"""A task of lmms-eval, in POPE's form, on shipped pictures; and the log that lmms-eval 0.7.3 gave of such a task."""

import json
from pathlib import Path
from typing import Any

from sightline.engines.weights import locate_data

ROWS = [("000.png", "book", "yes"), ("000.png", "cup", "no"), ("001.png", "boat", "yes"), ("001.png", "car", "no")]
QUESTIONS = [
    {"question_id": n, "image": image, "text": f"Is there a {thing} in the picture?", "label": label}
    for n, (image, thing, label) in enumerate(ROWS, 1)
]
YAML = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {questions}}}
test_split: test
output_type: generate_until
doc_to_visual: !function {name}_code.visual
doc_to_text: !function {name}_code.text
doc_to_target: label
generation_kwargs: {{max_new_tokens: 16}}
process_results: !function {name}_code.results
metric_list:
  - {{metric: right, aggregation: !function {name}_code.mean, higher_is_better: true}}
"""
CODE = """\
from PIL import Image

def visual(doc):
    return [Image.open({pictures!r} + "/" + doc["image"])]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["text"]

def results(doc, answers):
    right = float(answers[0].strip(" .").lower() == doc["label"])
    return {{"right": {{"question_id": doc["question_id"], "score": right}}}}

def mean(entries):
    return sum(entry["score"] for entry in entries) / len(entries)
"""


def write_task(folder: Path, name: str = "sight") -> Path:
    """The folder, with the task's files and its questions."""
    questions = folder / f"{name}_random.jsonl"
    questions.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (folder / f"{name}.yaml").write_text(YAML.format(name=name, questions=questions))
    pictures = str(locate_data("miniature/heldout") / "pictures")
    (folder / f"{name}_code.py").write_text(CODE.format(pictures=pictures))
    return folder


def sample(number: int, text: Any, with_document: bool = True, finish: str = "stop") -> dict[str, Any]:
    """A line as the bridge writes it; without its document and `finish`, as lmms-eval's own --log_samples does."""
    question = QUESTIONS[number]
    right = float(isinstance(text, str) and text.strip(" .").lower() == question["label"])
    found: dict[str, Any] = {
        "doc_id": number,
        "doc": question,
        "target": question["label"],
        "filtered_resps": text,
        "doc_hash": "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b",
        "input_media": [question["image"]],
        "accuracy_seen": {"question_id": question["question_id"], "score": right},
        "f1_seen": {"question_id": question["question_id"], "score": right},
        "input": question["text"],
        "finish": finish,
    }
    return found if with_document else {key: value for key, value in found.items() if key not in ("doc", "finish")}


def numbers(accuracy: float, f1: float, error: float) -> dict[str, Any]:
    """A task's entry of `results`: both metrics have the standard error of the samples' scores."""
    found: dict[str, Any] = {"alias": "sight"}
    for name, value in {"accuracy_seen": accuracy, "f1_seen": f1}.items():
        found |= {
            f"{name},none": value,
            f"{name}_stderr,none": "N/A",
            f"{name}_stderr_clt,none": error,
            f"{name}_stderr_clustered,none": "N/A",
        }
    return found
