"""A question or two of each benchmark that the recipes name, in the published files' form, where the recipes look for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.make.own import png

PICTURES = (png(0), png(1))
YES_NO = [("Is there a cup in the picture?", "yes"), ("Is there a tree in the picture?", "no")]


def lay_out(root: Path) -> None:
    """Everything in `root/benchmarks`."""
    place = root / "benchmarks"
    _put(place, "coco/val2014", *(f"COCO_val2014_{number:012d}.jpg" for number in (1, 2)))
    for lay in (_pope, _amber, _mme, _mmbench, _scienceqa, _textvqa, _vqav2, _hallusionbench, _alt_text, _judged):
        lay(place)


def _put(place: Path, folder: str, *names: str) -> None:
    for number, name in enumerate(names):
        path = place / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURES[number % 2])


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _pope(place: Path) -> None:
    for split in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": number, "image": f"COCO_val2014_{number:012d}.jpg", "text": text, "label": label}
            for number, (text, label) in enumerate(YES_NO, 1)
        ]
        _lines(place / "pope" / f"coco_pope_{split}.json", rows)


def _amber(place: Path) -> None:
    _put(place, "amber/image", "AMBER_1.jpg", "AMBER_2.jpg")
    asked = [{"id": number, "image": f"AMBER_{number}.jpg", "query": YES_NO[0][0]} for number in (1, 2)]
    described = [{"id": 3, "image": "AMBER_1.jpg", "query": "Describe this image."}]
    known = [{"id": number, "type": "discriminative-hallucination", "truth": "no"} for number in (1, 2)]
    _write(place / "amber/annotations.json", [*known, {"id": 3, "type": "generative", "truth": ["cup"], "hallu": ["tree"]}])
    _write(place / "amber/relation.json", {"cup": ["mug"], "tree": []})
    _write(place / "amber/safe_words.txt", "picture")
    _write(place / "amber/query/query_discriminative.json", asked)
    _write(place / "amber/query/query_generative.json", described)


def _mme(place: Path) -> None:
    for subtask in ("existence", "commonsense_reasoning"):
        _put(place, f"mme/pictures/{subtask}", "1.jpg")
        rows = [f"1.jpg\t{text} Please answer yes or no.\t{truth.capitalize()}\n" for text, truth in YES_NO]
        _write(place / "mme" / f"{subtask}.txt", "".join(rows))


def _mmbench(place: Path) -> None:
    row = {"index": "1", "question": "Which is red?", "hint": "", "A": "cup", "B": "tree", "answer": "A"}
    row |= {"category": "object_localization", "split": "dev", "image": base64.b64encode(PICTURES[0]).decode()}
    _write(place / "mmbench/MMBench_DEV_EN.tsv", "\t".join(row) + "\n" + "\t".join(row.values()) + "\n")


def _scienceqa(place: Path) -> None:
    _put(place, "scienceqa/pictures/test/1", "image.png")
    problem = {"question": "Which is red?", "choices": ["cup", "tree"], "answer": 0, "hint": "", "image": "image.png"}
    problem |= {"split": "test", "subject": "natural science", "grade": "grade2"}
    _write(place / "scienceqa/problems.json", {"1": problem})
    _write(place / "scienceqa/pid_splits.json", {"test": ["1"]})


def _textvqa(place: Path) -> None:
    _put(place, "textvqa/pictures", "a.jpg")
    asked = {"question_id": 1, "image_id": "a", "question": "What does it say?", "answers": ["stop"] * 10}
    _write(place / "textvqa/TextVQA_0.5.1_val.json", {"data": [asked]})
    _write(place / "textvqa/TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [{"image_id": "a", "ocr_tokens": ["STOP"]}]})


def _vqav2(place: Path) -> None:
    asked = {"question_id": 1, "image_id": 1, "question": "What is it?"}
    answers = [{"answer": "cup", "answer_id": number} for number in range(1, 11)]
    answered = {"question_id": 1, "image_id": 1, "question_type": "what is", "answer_type": "other", "answers": answers}
    questions = {"data_subtype": "val2014", "questions": [asked]}
    _write(place / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", questions)
    _write(place / "vqav2/v2_mscoco_val2014_annotations.json", {"annotations": [answered]})


def _hallusionbench(place: Path) -> None:
    _put(place, "hallusionbench/pictures", "VS/map/0_0.png")
    row = {"category": "VS", "subcategory": "map", "set_id": "0", "figure_id": "0", "question_id": "0", "visual_input": "1"}
    row |= {"question": YES_NO[0][0], "gt_answer": "1", "gt_answer_details": "It is there.", "filename": "VS/map/0_0.png"}
    _write(place / "hallusionbench/HallusionBench.json", [row])


def _alt_text(place: Path) -> None:
    _put(place, "alt-text/pictures", "1.jpg", "2.jpg")
    rows = [{"idx": n, "question": f"Post {n}?", "chosen": f"a red cup, {n} of two", "image_path": f"{n}.jpg"} for n in (1, 2)]
    _lines(place / "alt-text/test.jsonl", rows)


def _judged(place: Path) -> None:
    """MMHal-Bench, MM-Vet, LLaVA-Bench and MT-Bench."""
    for folder in ("mmhal-bench", "mm-vet", "llava-bench-in-the-wild"):
        _put(place, f"{folder}/images", "1.jpg")
    asked = {"question_type": "attribute", "question_topic": "food", "image_id": "1", "image_src": "https://there/1.jpg"}
    asked |= {"image_content": ["cup"], "question": "What is it?", "gt_answer": "A cup.", "model_answer": ""}
    _write(place / "mmhal-bench/response_template.json", [asked])
    _write(
        place / "mm-vet/mm-vet.json",
        {"v1_0": {"imagename": "1.jpg", "question": "What is it?", "answer": "cup", "capability": ["rec"]}},
    )
    wild = place / "llava-bench-in-the-wild"
    _lines(wild / "questions.jsonl", [{"question_id": 1, "image": "1.jpg", "category": "conv", "text": "What is it?"}])
    _lines(wild / "context.jsonl", [{"image": "1.jpg", "caption": "A cup."}])
    _lines(wild / "answers_gpt4.jsonl", [{"question_id": 1, "text": "A cup."}])
    _lines(place / "mt-bench/question.jsonl", [{"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]}])
