"""Object HalBench: objects that a description mentions and the picture lacks, as RLHF-V counts them (Yu et al., 2024)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sightline.engines.roles import Decoding
from sightline.errors import DataError, MissingPackage, RecipeError
from sightline.eval import Question
from sightline.eval.answer_files import read_texts, records
from sightline.eval.chair_words import ListedWords
from sightline.eval.coco import Words, annotated, image_id
from sightline.eval.compare import Metric, Score, fraction, ratio
from sightline.eval.judged import Judged
from sightline.eval.vocabulary import Mention, Vocabulary
from sightline.plugin import need
from sightline.rows import Answer, Item
from sightline.store.address import digest_file

SYNONYMS = "synonyms_refine.txt"
SILENT = "no answer mentions an object"
SHORT = 3
"""Words of an answer up to which the script asks no model for its objects."""
NOUNS = ("NN", "NNS", "NNP", "NNPS")

FORM = """\
Somebody has described a picture. List the things that are in it by this description.

A thing can be seen and pointed at: a person, an animal, a plant, food, a piece of furniture, a vehicle, a tool, clothes, a
building. Call each by the word that the description has for it, without its colour or number, and name none twice. Leave out
what the description says is not there, and what is no thing: a place, a mood, the light, a colour, something that happens.

Reply with a JSON list on one line and with nothing else: ["boy", "tennis racket"], for instance, or [] if there is nothing.

The description:
{answer}
"""

Parse = Callable[[str], list[tuple[str, str]]]
Read = Callable[[Iterable[str]], list[Mention]]


class ObjectHalBench(Judged):
    """Ask for a detailed description, have its objects listed, and look for those that are not in the picture.

    The data folder holds the questions (obj_halbench*.jsonl: image_id, question, and image in base64 or image_path), COCO's
    instances*.json and captions*.json of 2014, and synonyms_refine.txt. To score answers whose objects a model has listed, give
    records of image_id, text, and reply, which is that model's JSON list as it came (or extract_objs, the list itself). Of short
    answers, of three words or fewer, no model is asked: by the extractor llm they name nothing.
    """

    origin: ClassVar[str] = (
        "obj_halbench_300_with_image.jsonl (CC BY-NC 4.0) and synonyms_refine.txt are in eval/data of github.com/RLHF-V/RLHF-V;\n"
        "instances_*.json and captions_*.json of COCO 2014 are at cocodataset.org (CC BY 4.0). The published rule needs\n"
        "`pip install spacy nltk`, `python -m spacy download en_core_web_trf` and `python -m nltk.downloader wordnet`. Its\n"
        "lists came from gpt-3.5-turbo-0613, which is no longer served: numbers by other lists do not compare with the paper's."
    )
    answer_ids: ClassVar[Sequence[str]] = ("image_id", "question_id", "id")
    answer_texts: ClassVar[Sequence[str]] = ("text", "answer", "caption", "response")
    forms: ClassVar[tuple[str, ...]] = (FORM,)

    rule: Literal["published", "clean"] = "published"
    """published: words by spaCy's and WordNet's lemmas, nouns in a row as one, so that no tennis player is a person. clean: the
    clean words of chair, each object once an answer."""
    extractor: Literal["llm", "lemmas"] = "llm"
    """Who lists an answer's objects: a model, which is the judge or whose replies come with the answers (`sightline score`), or
    the list of words itself, which needs no model. By the published rule the latter is the script without --use_gpt, and counts
    every mention. Its numbers do not compare with the paper's, and are named so."""
    parser: str = Field("en_core_web_trf", min_length=1)
    """spaCy's pipeline, or its folder, that the published rule reads a model's lists with."""
    decoding: Decoding = Decoding(max_tokens=1024)
    """How the model answers. Longer descriptions hallucinate in more of their sentences: compare at one length limit only."""

    @model_validator(mode="after")
    def _judge_is_asked(self) -> Self:
        if self.judge and self.extractor == "lemmas":
            raise PydanticCustomError("conflict", "lemmas ask no judge", {"fix": "leave out judge, or set extractor to llm"})
        return self

    def engine_roles(self) -> dict[str, str]:
        if self.extractor == "lemmas":
            return {}
        if not self.judge:
            fix = "set its judge to an engine of the recipe, or its extractor to lemmas"
            raise RecipeError(f"eval, {self.title}", "no model lists the objects of its answers", fix)
        return super().engine_roles()

    def questions(self, place: Path) -> list[Question]:
        asked = _asked(_questions(place))
        seen = {picture.image: picture for picture in annotated(place, self._words(place), asked)}
        found = []
        for image, (where, row) in asked.items():
            file = seen[image].file
            picture, target = self._picture(place, row, file), sorted(seen[image].objects)
            found.append(Question(str(image), file, picture, _text(row, where), target))
        return found

    def _picture(self, place: Path, row: dict[str, Any], file: str) -> Path | bytes:
        return base64.b64decode(row["image"]) if row.get("image") else self.picture(place, row.get("image_path") or file)

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        """With the extractor llm, each is what `listing` gives."""
        names = [question.id for question in questions]
        texts = read_texts(path, names, self.answer_ids, self.answer_texts)
        if self.extractor == "lemmas":
            return texts
        given = {str(image_id(row, where)): (where, row) for where, row in records(path)}
        return [listing(text, _listed(text, *given[name])) for name, text in zip(names, texts, strict=True)]

    def prompts(self, items: Sequence[Item], answers: Sequence[str]) -> list[str | None]:
        texts = [said(answer) for answer in answers]
        return [None if is_short(text) else FORM.format(answer=text) for text in texts]

    def replied(self, answer: Answer, reply: Answer | None) -> Answer:
        if reply is None:
            return replace(answer, text=listing(answer.text, []))
        return reply if reply.finish == "error" else replace(answer, text=listing(answer.text, objects(reply.text)))

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        read = self._reader(self._words(place))
        if self.extractor == "lemmas":
            texts = [said(answer.text) for answer in answers]
            return [_score(item, text, read([text])) for item, text in zip(items, texts, strict=True)]
        return [_listed_score(item, answer, read) for item, answer in zip(items, answers, strict=True)]

    def terms(self, place: Path) -> dict[str, Any]:
        return {**super().terms(place), SYNONYMS: digest_file(place / SYNONYMS)}

    def _words(self, place: Path) -> Words:
        path = place / SYNONYMS
        return Vocabulary.read(path) if self.rule == "clean" else ListedWords.read(path, wordnet_lemma(), strip=True)

    def _reader(self, words: Words) -> Read:
        if isinstance(words, ListedWords):
            if self.extractor == "lemmas":
                return lambda texts: [mention for text in texts for mention in words.mentions(text)]
            parse = spacy_parse(self.parser)
            return lambda phrases: published(phrases, words, parse)
        return lambda texts: list({mention.name: mention for text in texts for mention in words.mentions(text)}.values())

    def metrics(self) -> list[Metric]:
        is_listed = self.extractor == "llm"
        about: dict[str, Any] = {"undefined": SILENT, "split": None if is_listed else "lemmas"}
        numbers = [
            fraction("response_level", "flawed", "with objects", "with objects", "lower", **about),
            fraction("mention_level", "hallucinated", "mentions", "responses", "lower", **about),
            fraction("recall", "found", "truth", "responses", "higher", **{**about, "undefined": "no picture has an object"}),
            # an unreadable reply leaves its answer out
            fraction("CHAIR_s", "flawed", "responses", "responses", "lower", is_outcome=not is_listed, needs="mentions", **about),
            ratio("words", "words", "responses", "responses", None, unit="words"),
        ]
        return [*numbers, fraction("unreadable", "unreadable", "asked", "asked", "lower")] if is_listed else numbers


def published(phrases: Iterable[str], words: ListedWords, parse: Parse) -> list[Mention]:
    """Objects that a model listed, by the script's rule; a word that comes twice counts once, another word for the same does not.

    Of a phrase's lemmas, pairs that the table knows are taken; where there is none, each run of nouns is one word.
    """
    found: dict[str, None] = {}
    for phrase in phrases:
        tokens = parse(f"a {phrase}")
        joined = words.joined([lemma for lemma, _ in tokens])
        pairs = [word for word, first, last in joined if last > first]
        found |= dict.fromkeys(pairs or runs_of_nouns(tokens))
    listed = words.listed(list(found))
    return [Mention(words.names[word], word) for word in found if word in listed]


def runs_of_nouns(tokens: Iterable[tuple[str, str]]) -> list[str]:
    """Lemmas of nouns in a row, joined; a token is its lemma and its Penn Treebank tag."""
    runs: list[list[str]] = [[]]
    for lemma, tag in tokens:
        if tag in NOUNS:
            runs[-1].append(lemma)
        else:
            runs.append([])
    return [" ".join(run) for run in runs if run]


def spacy_parse(pipeline: str) -> Parse:
    """Lemmas and tags by a pipeline of spaCy; MissingPackage where it is not at hand."""
    spacy = need("spacy")
    try:
        read = spacy.load(pipeline)
    except OSError as error:
        fix = f"python -m spacy download {pipeline}, set parser to a pipeline that you have, or use rule clean, which needs none"
        raise MissingPackage("spacy", f"its pipeline {pipeline} is not installed", fix) from error
    return lambda text: [(token.lemma_, token.tag_) for token in read(text)]


def wordnet_lemma() -> Callable[[str], str]:
    """A noun's lemma by NLTK's WordNet: bus of buses, but men of men. MissingPackage where its data is not at hand."""
    lemmatise: Callable[[str], str] = need("nltk.stem", "text-metrics").WordNetLemmatizer().lemmatize
    try:
        lemmatise("buses")
    except LookupError as error:
        fix = "python -m nltk.downloader wordnet, or use rule clean, which needs none"
        raise MissingPackage("nltk", "its WordNet is not installed", fix) from error
    return lemmatise


def objects(reply: str) -> list[str] | None:
    """The list of a model's reply: all of it as JSON, else its last line; None where that is none.

    There the script asks again, a hundred times, and then ends.
    """
    for text in (reply, reply.strip().split("\n")[-1] if '["' in reply else ""):
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            continue
        return [str(entry) for entry in found] if isinstance(found, list) else None
    return None


def listing(text: str, listed: Sequence[str] | None) -> str:
    """An answer and the list of its objects (None where the reply holds none), as the JSON that `scores` reads."""
    return json.dumps([said(text), listed])


def said(text: str) -> str:
    """What a model said, without the turn's name."""
    return text.replace("Assistant:", "").strip()


def is_short(text: str) -> bool:
    """True where the script asks no model for the objects of an answer, and takes it for one without any."""
    return len(text.split()) <= SHORT


def _score(item: Item, text: str, mentions: list[Mention] | None, guessed: bool = False) -> Score:
    if mentions is None:
        return Score(item.id, item.group, {"asked": 1, "unreadable": 1})
    truth = json.loads(item.target)
    wrong = [mention for mention in mentions if mention.name not in truth]
    counts = {
        "asked": 1,
        "responses": 1,
        "with objects": bool(mentions),
        "mentions": len(mentions),
        "hallucinated": len(wrong),
        "flawed": bool(wrong),
        "truth": len(truth),
        "found": len({mention.name for mention in mentions} & set(truth)),
        "words": len(text.split(" ")),
    }
    return Score(item.id, item.group, counts, guessed, tuple(dict.fromkeys(mention.words for mention in wrong)), tuple(truth))


def _listed_score(item: Item, answer: Answer, read: Read) -> Score:
    if answer.finish == "error":
        return Score(item.id, item.group, {"unjudged": 1})
    text, phrases = json.loads(answer.text)
    return _score(item, text, None if phrases is None else read(phrases), guessed=is_short(text))


def _listed(text: str, where: str, row: dict[str, Any]) -> list[str] | None:
    if is_short(said(text)):
        return []
    if isinstance(given := row.get("extract_objs"), list):
        return [str(entry) for entry in given]
    if not isinstance(reply := row.get("reply"), str):
        fix = "add what a model replied that was asked for the answer's objects, or set extractor to lemmas"
        raise DataError(where, "neither 'reply' nor a list 'extract_objs' is here", fix)
    return objects(reply)


def _asked(path: Path) -> dict[int, tuple[str, dict[str, Any]]]:
    """The questions' records by their picture, which has one each."""
    asked: dict[int, tuple[str, dict[str, Any]]] = {}
    for where, row in records(path):
        if (image := image_id(row, where)) in asked:
            raise DataError(where, f"picture {image} is asked about a second time", f"first at {asked[image][0]}")
        asked[image] = (where, row)
    return asked


def _questions(place: Path) -> Path:
    found = sorted(place.glob("obj_halbench*.jsonl"))
    if len(found) != 1:
        fix = "`sightline eval --help object_halbench` says where it is to be had"
        raise DataError(str(place), f"{len(found)} files obj_halbench*.jsonl are here, not one", fix)
    return found[0]


def _text(row: dict[str, Any], where: str) -> str:
    if not isinstance(text := row.get("question"), str):
        raise DataError(where, "no 'question' that is text", "check that this is the benchmark's own file")
    return text
