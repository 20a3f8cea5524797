"""Each format against what its own system documents or does."""

import json
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest

from sightline.errors import DataError
from sightline.formats import export_rows, import_rows

from .conftest import coloured, folder_of, pairs_in
from .sound import ASKS, BAD, GOOD, SOUND, assistant, bring, completion, given_back, gpt, human, user, written

# VLFeedback


def test_vlfeedback_pairs_all_answers_of_different_means_and_refuses_ties_and_unreadable_ratings(tmp_path):
    """Means by hand: 2, 4, (5 + 5 + 2) / 3 = 4, and none. Of six pairs 2 differ, 1 ties, 3 cannot be read."""
    rated = [("a", "2", "2", "2"), ("b", "4", "4", "4"), ("c", "5", "5", "2"), ("d", "5", "N/A", "5")]
    completions = [completion(name, f"says {name}", *ratings) for name, *ratings in rated]
    record = {**SOUND["vlfeedback"][0], "completions": completions}
    done = bring(tmp_path, [record], "vlfeedback")
    told = {(pair.chosen, pair.chosen_model, pair.chosen_score, pair.rejected, pair.rejected_score) for pair in pairs_in(done)}
    assert told == {("says b", "b", 4.0, "says a", 2.0), ("says c", "c", 4.0, "says a", 2.0)}
    reasons = sorted((row.reason, row.detail) for row in done.dropped)
    assert reasons == [
        ("a rating is no number", "a: 2 and d: unreadable"),
        ("a rating is no number", "b: 4 and d: unreadable"),
        ("a rating is no number", "c: 4 and d: unreadable"),
        ("answers score the same", "b: 4 and c: 4"),
    ]
    assert given_back(done, "vlfeedback", tmp_path) == [record]


def test_vlfeedbacks_lines_without_a_path_find_their_picture_by_the_id(tmp_path):
    record = {name: value for name, value in SOUND["vlfeedback"][0].items() if name != "img_path"} | {"id": "deep/c"}
    done = bring(tmp_path, [record], "vlfeedback")
    assert given_back(done, "vlfeedback", tmp_path) == [record]
    assert (tmp_path / "back" / "deep" / "c.jpg").read_bytes() == coloured("deep/c.jpg")


def test_a_made_pair_is_a_vlfeedback_record_that_the_same_rule_reads(tmp_path):
    record = written(tmp_path, "vlfeedback", chosen_score=1.25, rejected_score=-3.0, chosen_model="policy")
    assert record == {
        "id": "k",
        "prompt": ASKS,
        "models": ["policy", ""],
        "completions": [
            {"annotations": {"Score": {"Rating": "1.25", "Rationale": ""}}, "model": "policy", "response": GOOD},
            {"annotations": {"Score": {"Rating": "-3.0", "Rationale": ""}}, "model": "", "response": BAD},
        ],
        "img_path": "images/k.png",
    }


@pytest.mark.parametrize("scores", [(None, None), (1.0, 1.0), (1.0, 2.0)])
def test_a_pair_whose_scores_do_not_say_which_is_better_is_refused_by_vlfeedback(tmp_path, scores):
    with pytest.raises(DataError, match="pair k: its scores are"):
        written(tmp_path, "vlfeedback", chosen_score=scores[0], rejected_score=scores[1])


def test_ratings_never_go_back_with_other_texts(tmp_path):
    (pair,) = pairs_in(bring(tmp_path, [SOUND["vlfeedback"][0]], "vlfeedback"))
    for changes in ({"chosen": "Two dogs."}, {"chosen": BAD, "rejected": GOOD}, {"instruction": "Why?"}):
        with pytest.raises(DataError, match="pair svit-1: it was changed since it was imported"):
            export_rows(folder_of(tmp_path / "in", [replace(pair, **changes)]), "vlfeedback", tmp_path / "out")


# mllm-dpo

LOGPS = {f"ref_{side}_{what}": number for side, number in (("win", -1.5), ("rej", -2.5)) for what in ("logp", "avg_logp")}
REFERENCE = {**LOGPS, "ref_win_per_token_logp": [-1.0, -0.5], "ref_rej_per_token_logp": [-2.5]}


def test_mllm_dpos_reference_fields_are_kept_counted_and_given_back(tmp_path):
    record = {**SOUND["mllm_dpo"][0], **REFERENCE, "chosen_Helpfulness": 4}
    done = bring(tmp_path, [record, SOUND["mllm_dpo"][0]], "mllm_dpo")
    told = "1 rows hold a reference model's log-probabilities: they are kept; training computes its own"
    assert told in list(done.lines())
    assert given_back(done, "mllm_dpo", tmp_path) == [record, SOUND["mllm_dpo"][0]]


def test_mllm_dpos_reference_fields_do_not_go_with_other_texts(tmp_path):
    (pair,) = pairs_in(bring(tmp_path, [{**SOUND["mllm_dpo"][0], **REFERENCE}], "mllm_dpo"))
    done = export_rows(folder_of(tmp_path / "in", [replace(pair, chosen="Two dogs.")]), "mllm_dpo", tmp_path / "out")
    assert json.loads(done.file.read_text()) == [{**SOUND["mllm_dpo"][0], "chosen": gpt("Two dogs.")}]


def test_mllm_dpos_other_ways_to_write_a_row_are_read(tmp_path):
    """As its encode_multimodal_preference_sample takes them: whole conversations, a question as Python's text, no picture."""
    asks = human(f"<image>\n{ASKS}")
    rows = [
        {"image": "a.png", "chosen": [asks, gpt(GOOD)], "rejected": [asks, gpt(BAD)]},
        {"image": "a.png", "question": str(asks), "chosen": gpt(GOOD), "rejected": gpt(BAD)},
        {"question": human(ASKS), "chosen": gpt(GOOD), "rejected": gpt(BAD)},
    ]
    done = bring(tmp_path, rows, "mllm_dpo")
    assert {(pair.instruction, pair.chosen, pair.rejected) for pair in pairs_in(done)} == {(ASKS, GOOD, BAD)}
    assert sorted(len(pair.pictures) for pair in pairs_in(done)) == [0, 1, 1]


# ms-swift


def test_swifts_documented_ways_to_write_one_row_are_the_same_pair(tmp_path):
    """Custom-dataset.md, DPO/ORPO/CPO/SimPO/RM: these three are equivalent."""
    sides = {"messages": [user(f"<image>{ASKS}"), assistant(GOOD)], "images": ["a.png"]}
    rows = [
        {**sides, "rejected_messages": [user(f"<image>{ASKS}"), assistant(BAD)], "rejected_images": ["a.png"]},
        {**sides, "rejected_response": BAD},
        {**sides, "rejected_response": [assistant(BAD)]},
    ]
    found = {(pair.instruction, pair.chosen, pair.rejected, *pair.pictures) for pair in pairs_in(bring(tmp_path, rows, "swift"))}
    assert len(found) == 1 and found.pop()[:3] == (ASKS, GOOD, BAD)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected_images": ["b.png"]}, "the two sides show different pictures"),
        ({"rejected_messages": [user("<image>Who?"), assistant(BAD)], "rejected_images": ["a.png"]}, "the two sides ask"),
        ({"rejected_messages": [user(f"<image>{ASKS}"), assistant(BAD)]}, "rejected_messages stands without rejected_images"),
        ({"messages": [{"role": "system", "content": "Be kind."}, user(ASKS), assistant(GOOD)]}, "messages is not one user turn"),
        ({"rejected_response": None}, "rejected_response is not a list of turns"),
    ],
)
def test_a_swift_row_that_no_pair_holds_is_dropped(tmp_path, change, reason):
    record, _ = SOUND["swift"]
    (dropped,) = bring(tmp_path, [record, {**record, **change}], "swift").dropped
    assert dropped.reason.startswith(reason)


def test_a_made_pair_is_swifts_documented_row(tmp_path):
    assert written(tmp_path, "swift", "rows.jsonl") == {
        "id": "k",
        "messages": [user(f"<image>\n{ASKS}"), assistant(GOOD)],
        "rejected_response": BAD,
        "images": ["images/k.png"],
    }


# LLaMA-Factory


def test_a_made_pair_is_llamafactorys_row_and_dataset_info_has_its_entry_beside_others(tmp_path):
    """The entry is that of rlhf_v in LLaMA-Factory's own dataset_info.json, with a file in place of the hub's name."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_info.json").write_text('{"identity": {"file_name": "identity.json"}}')
    assert written(tmp_path, "llamafactory", "mine.json") == {
        "id": "k",
        "conversations": [human(f"<image>\n{ASKS}")],
        "chosen": gpt(GOOD),
        "rejected": gpt(BAD),
        "images": ["images/k.png"],
    }
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"}
    assert json.loads((tmp_path / "out" / "dataset_info.json").read_text()) == {
        "identity": {"file_name": "identity.json"},
        "mine": {"file_name": "mine.json", "formatting": "sharegpt", "ranking": True, "columns": columns},
    }


def test_a_dataset_info_that_is_broken_is_told_and_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="dataset_info.json: this is not JSON"):
        written(tmp_path, "llamafactory")
    assert (tmp_path / "out" / "dataset_info.json").read_text() == "{"


def test_llamafactorys_alpaca_rows_are_read_input_after_instruction(tmp_path):
    record = {"instruction": "<image>What is", "input": "there?", "chosen": GOOD, "rejected": BAD, "images": ["a.png"]}
    done = bring(tmp_path, [record], "llamafactory")
    (pair,) = pairs_in(done)
    assert pair.instruction == "What is\nthere?"  # "prompt\nquery", as its converter joins them
    assert given_back(done, "llamafactory", tmp_path) == [record]


# TRL


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": ASKS, "chosen": GOOD, "rejected": BAD},
        {"prompt": [user(ASKS)], "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]},
        {"images": None, "image": "a.png"},
        {"images": [{"path": "a.png", "bytes": None}]},
        {"images": "a.png"},
    ],
)
def test_trls_other_ways_to_write_a_row_are_read_and_come_back(tmp_path, change):
    record = {**SOUND["trl"][0], **change}
    done = bring(tmp_path, [record], "trl")
    (pair,) = pairs_in(done)
    assert (pair.instruction, pair.chosen, pair.rejected, len(pair.pictures)) == (ASKS, GOOD, BAD, 1)
    assert given_back(done, "trl", tmp_path) == [record]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": [user([{"type": "text", "text": ASKS}])]}, "prompt shows another number of pictures"),
        ({"prompt": [user([{"type": "image"}])]}, "prompt' question is not one text"),
        ({"prompt": [user(ASKS), assistant(GOOD)]}, "prompt is not one user turn"),
        ({"chosen": [assistant([{"type": "image"}, {"type": "text", "text": GOOD}])]}, "chosen' answer is not one text"),
        ({"chosen": None}, "chosen is not a list of turns"),
    ],
)
def test_a_trl_row_that_no_pair_holds_is_dropped(tmp_path, change, reason):
    record, _ = SOUND["trl"]
    (dropped,) = bring(tmp_path, [record, {**record, **change}], "trl").dropped
    assert dropped.reason.startswith(reason)


def test_a_parquet_of_trl_rows_as_datasets_writes_it_is_read(tmp_path):
    """As trl-lib's data sets are: parts of content have a null text beside a picture, pictures are {bytes, path}."""
    record = {
        **SOUND["trl"][0],
        "images": [{"bytes": coloured("b.png"), "path": None}],
        "prompt": [user([{"type": "image", "text": None}, {"type": "text", "text": ASKS}])],
    }
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "train.parquet")
    done = import_rows(tmp_path / "train.parquet", "trl", None, tmp_path / "in")
    (pair,) = pairs_in(done)
    assert (pair.instruction, pair.chosen) == (ASKS, GOOD)
    back = export_rows(done.folder, "trl", tmp_path / "back.parquet").file
    assert pyarrow.parquet.read_table(back).to_pylist() == [record]
