from pathlib import Path
from typing import Any

import pytest

from sightline.formats import import_rows
from sightline.formats.validate import Repeats, answer_faults, faults
from sightline.rows import Pair
from sightline.store.shards import Store

ASKED = "What does the picture of the carved figure show?"


def kinds(answer: str, asked: str = ASKED) -> list[str]:
    return [kind for kind, _ in answer_faults(asked, answer)]


def pair(store: Store, **changes: Any) -> Pair:
    stored = store.put_picture(b"any bytes")
    sound = {"pictures": [stored], "instruction": ASKED, "chosen": "A wooden horse.", "rejected": "A stone horse on a table."}
    return Pair(**{"id": "x", "key": "row", "rule": "test", **sound, **changes})


def found(store: Store, **changes: Any) -> list[tuple[str, str]]:
    return [(fault.kind, fault.detail) for fault in faults(pair(store, **changes), store)]


def test_a_sound_pair_has_no_fault(tmp_path):
    assert found(Store(tmp_path)) == []


def test_empty_equal_and_missing_are_named_with_their_side(tmp_path):
    store = Store(tmp_path)
    assert found(store, rejected="  ") == [("empty answer", "rejected")]
    assert found(store, rejected="A wooden horse. ") == [("equal answers", "A wooden horse.")]
    assert found(store, pictures=["f" * 32]) == [("missing picture", "f" * 32)]
    assert found(store, pictures=[]) == [("missing picture", "the pair names none")]
    assert found(store, instruction=" ") == [("empty instruction", "")]


def test_a_picture_whose_file_was_changed_is_named(tmp_path):
    store = Store(tmp_path)
    path = store.picture(pair(store).pictures[0])
    path.write_bytes(b"other bytes")
    row = Pair(
        id="x", key="k", rule="r", pictures=[path.name], instruction=ASKED, chosen="A wooden horse.", rejected="A stone one."
    )
    assert [fault.kind for fault in faults(row, store)] == ["damaged picture"]


def test_pairs_that_repeat_or_contradict_an_earlier_one_are_named_with_it(tmp_path):
    store, repeats = Store(tmp_path), Repeats()
    other = store.put_picture(b"other bytes")
    told = [
        (fault.row, fault.kind, fault.detail)
        for row in (
            pair(store, key="a"),
            pair(store, key="b", rejected="A stone horse."),  # another pair of the same instruction
            pair(store, key="c"),
            pair(store, key="d", chosen="A stone horse on a table.", rejected="A wooden horse."),
            pair(store, key="e", pictures=[other]),
            pair(store, key="f", instruction="And here?"),
            pair(store, key="g", chosen="Same.", rejected="Same."),
            pair(store, key="h", chosen="A wooden horse.", rejected=None),
            pair(store, key="i", chosen=None, rejected="A wooden horse."),
        )
        for fault in repeats.faults(row)
    ]
    assert told == [
        ("c", "repeated pair", "row a says the same"),
        ("d", "contradicted pair", "row a has its sides swapped"),
        ("i", "contradicted pair", "row h has its sides swapped"),
    ]


@pytest.mark.parametrize("token", ["<image>", "<IMAGE>", "<|image_pad|>", "[IMG]", "<im_start>"])
def test_an_image_token_in_a_text_is_named(tmp_path, token):
    assert found(Store(tmp_path), chosen=f"A horse {token} of wood.") == [("image token in text", f"{token} in chosen")]


@pytest.mark.parametrize(
    ("answer", "short"), [("сну", True), ("ok", True), ("No", False), ("yes", False), ("12", False), ("four", False)]
)
def test_three_characters_are_too_short_unless_they_answer_a_question(answer, short):
    assert kinds(answer) == (["short answer"] if short else [])


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("wooden figure The picture shows a horse.", "wooden figure"),
        ("What does the picture of the carved figure show? A horse.", ASKED),
        ("figure show? A horse made of wood.", "figure show?"),
        ("ASSISTANT: A horse.", "ASSISTANT:"),
        ("[/INST] A horse.", "[/INST]"),
        ("The picture of the carved figure shows a horse.", ""),
        ("horse of wood, standing in New York", ""),
        ("overhead picture of The Hague", "overhead picture of"),
        ("an iPhone on a table", ""),
        ("figure: The horse", ""),
    ],
)
def test_what_is_left_of_the_prompt_at_the_start_is_found(answer, left):
    seen = [seen for kind, seen in answer_faults(ASKED, answer) if kind == "prompt left in answer"]
    assert seen == ([repr(left)] if left else [])


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("Das Bild zeigt eine Figur aus Holz.", "German"),
        ("L'image montre une figure dans un musée.", "French"),
        ("La imagen muestra una figura de madera.", "Spanish"),
        ("На картине изображена лошадь.", "CYRILLIC"),
        ("图中是一匹木马。", "CJK"),
        ("The figure is a horse.", ""),
        ("Café con leche, and a horse.", ""),
        ("A «Pferd», which is German for a horse.", ""),
        ("Crème brûlée in a bowl.", ""),
        ("Wooden horse, carved figure, museum piece", ""),
    ],
)
def test_an_answer_that_starts_in_another_language_is_found(answer, language):
    seen = [seen for kind, seen in answer_faults(ASKED, answer) if kind == "starts in another language"]
    assert [entry.startswith(language) for entry in seen] == ([True] if language else [])


def test_an_answer_in_the_language_of_its_question_is_no_fault():
    assert kinds("Das Bild zeigt eine Figur aus Holz.", "Was ist auf dem Bild zu sehen und wie wird es gezeigt?") == []
    assert kinds("The picture shows a horse.", "Was ist auf dem Bild zu sehen?") == ["starts in another language"]
    assert kinds("写真には馬がいます。", "この写真には何が写っていますか。") == []


def test_an_answer_that_goes_round_until_it_is_cut_off_is_found():
    step = "Paint wash: the artist would have used a wash of paint. "
    assert kinds(f"These are the steps. {step * 5}Paint wash: the artist would have") == ["repeats itself until cut off"]
    assert kinds("a horse " * 20) == ["repeats itself until cut off"]
    assert kinds(f"These are the steps. {step * 5}".strip()) == [], "a text that comes to its end was not cut off"
    assert kinds("A horse, a cart and a man stand on the road that leads out of the town towards the hills") == []


def test_the_faults_of_the_real_pds_pairs_are_all_found_and_no_others(shared, tmp_path):
    source = shared / "data" / "pds_dpo"
    done = import_rows(source / "preferences.json", "llava", source, tmp_path)
    assert every_fault(done.folder.root, done) == [
        ("art-2", "empty answer", "rejected"),
        ("art-3", "prompt left in answer", "chosen: 'wooden sculpture'"),
        ("art-3", "empty answer", "rejected"),
        ("art-4", "short answer", "rejected: 'сну'"),
        ("art-5", "repeats itself until cut off", "rejected: 'paper and then using'"),
        ("art-10", "starts in another language", "rejected: German: 'beskrebt als schönste art most'"),
    ]


def test_the_real_pinterest_pairs_have_no_fault_but_the_missing_picture(shared, tmp_path):
    done = import_rows(shared / "data" / "mcm_dpo" / "pinterest" / "pinterest_train.json", "rlaif_v", None, tmp_path)
    assert every_fault(done.folder.root, done) == []
    assert [(row.key, row.reason) for row in done.dropped] == [("55", "picture is missing")]


def every_fault(root: Path, done: Any) -> list[tuple[str, str, str]]:
    store = Store(root)
    rows = [row for shard in done.folder.shards for row in store.read(shard)]
    return [(fault.row, fault.kind, fault.detail) for row in rows for fault in faults(row, store)]
