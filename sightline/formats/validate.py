"""What is wrong with a pair, before a model learns it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from sightline.files.texts import IMAGE_TOKEN
from sightline.rows import Pair
from sightline.store.address import digest
from sightline.store.shards import Store

SHORT = 3
"""Answers of so few characters say nothing about a picture, but for yes, no and numbers."""
OPENING_WORDS = 5
LEFTOVER_WORDS = 6
LOOP_WORDS, LOOP_TIMES = 4, 4
"""An answer that breaks off in words that it has said this often was cut by the token limit."""

ROLE_MARK = re.compile(r"\s*(?:\[/?INST\]|<\|[a-z_]+\|>|#{2,}\s*\w+:|(?:USER|ASSISTANT|Human|Assistant)\s*:)")
SENTENCE_OPENERS = frozenset("A An At By For From In It No On The There These This To Yes You".split())
FUNCTION_WORDS = {
    "English": "a an and are at be by can does for from has how in is it not of on or that the their this to was what which with",
    "German": "als auf aus bei das dem den der die ein eine einem einen im ist mit nicht sich sind und von wie wird zu zum zur",
    "French": "au aux avec ce ces cette d dans des du elle est et il l la le les ne ou par pas pour qui sont sur un une",
    "Spanish": "al con de del el en es esta este la las lo los muestra no para por que se son su una un y",
    "Italian": "che con da dei del della di e gli il in la le lo nel nella non per si sono su un una",
    "Portuguese": "ao as com da das de do dos em uma um na não no o os para por que se são",
    "Dutch": "als aan bij dat de deze die een en er het in is met naar niet op te van voor wordt zijn",
}
LANGUAGES = {name: frozenset(words.split()) for name, words in FUNCTION_WORDS.items()}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong with a row: which, of what kind, and what was seen."""

    row: str
    kind: str
    detail: str = ""


def faults(pair: Pair, store: Store) -> list[Fault]:
    """All that is wrong with a pair, in the order of the checks."""
    found = [*_of_pictures(pair, store), *_of_sides(pair)]
    return [Fault(row=pair.key, kind=kind, detail=detail) for kind, detail in found]


class Repeats:
    """Finds pairs that say what an earlier one said, or its contrary: by the same pictures, instruction and two answers."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def faults(self, pair: Pair) -> list[Fault]:
        """What the pair repeats or contradicts among those that were given before it."""
        said, contrary = (
            digest(pair.pictures, pair.instruction, *answers)
            for answers in ((pair.chosen, pair.rejected), (pair.rejected, pair.chosen))
        )
        same, swapped = self._first.get(said), self._first.get(contrary)
        self._first.setdefault(said, pair.key)
        if same is not None:
            return [Fault(row=pair.key, kind="repeated pair", detail=f"row {same} says the same")]
        if swapped is not None:
            return [Fault(row=pair.key, kind="contradicted pair", detail=f"row {swapped} has its sides swapped")]
        return []


def _of_pictures(pair: Pair, store: Store) -> Iterator[tuple[str, str]]:
    if not pair.pictures:
        yield "missing picture", "the pair names none"
    for name in pair.pictures:
        if not store.picture(name).is_file():
            yield "missing picture", name
        elif not store.holds(name):
            yield "damaged picture", f"{store.picture(name)} is no longer what was imported"


def _of_sides(pair: Pair) -> Iterator[tuple[str, str]]:
    if not pair.instruction.strip():
        yield "empty instruction", ""
    for place, text in {"instruction": pair.instruction, **pair.answers}.items():
        if token := IMAGE_TOKEN.search(text):
            yield "image token in text", f"{token.group()} in {place}"
    if pair.chosen is not None and pair.rejected is not None and pair.chosen.strip() == pair.rejected.strip():
        yield "equal answers", _short(pair.chosen)
    for side, answer in pair.answers.items():
        for kind, seen in answer_faults(pair.instruction, answer):
            yield kind, f"{side}: {seen}" if seen else side


def answer_faults(instruction: str, answer: str) -> Iterator[tuple[str, str]]:
    """Kinds of fault in one answer, each with what was seen."""
    answer = answer.strip()
    if not answer:
        yield "empty answer", ""
    elif len(answer) <= SHORT:
        if not re.fullmatch(r"yes|no|\d+", answer.lower().rstrip(".")):
            yield "short answer", repr(answer)
    else:
        if leftover := prompt_leftover(instruction, answer):
            yield "prompt left in answer", repr(leftover)
        if seen := other_language(instruction, answer):
            yield "starts in another language", seen
        if loop := repetition(answer):
            yield "repeats itself until cut off", repr(loop)


def prompt_leftover(instruction: str, answer: str) -> str:
    """What the answer starts with that belongs to the prompt; '' where nothing does."""
    if mark := ROLE_MARK.match(answer):
        return mark.group().strip()
    asked = instruction.strip()
    if len(asked.split()) > 2 and answer.lower().startswith(asked.lower().rstrip("?.!: ")):
        return _short(asked)
    return _tail(asked, answer) or _fragment(asked, answer)


def _tail(asked: str, answer: str) -> str:
    """The end of a question, its question mark included, before the answer begins."""
    words = asked.split()
    ends = (" ".join(words[start:]) for start in range(len(words)) if asked.endswith(("?", ":")))
    return next((end for end in ends if answer.lower().startswith(end.lower())), "")


def _fragment(asked: str, answer: str) -> str:
    """Lower-case words before the sentence begins: what is left when an almost equal prompt was cut out of a reply."""
    words = answer.split()
    start = next((place for place, word in enumerate(words[: LEFTOVER_WORDS + 1]) if not word.islower()), 0)
    if not start or words[start] not in SENTENCE_OPENERS or words[start - 1][-1] in ".!?:;,":
        return ""
    known = {word for word in _words(asked) if len(word) > 3}
    return " ".join(words[:start]) if known & set(_words(" ".join(words[:start]))) else ""


def other_language(instruction: str, answer: str) -> str:
    """Which script or language the answer starts in, where the instruction's is another; '' where it is the same or unclear."""
    opening = _words(answer)[:OPENING_WORDS]
    script, asked_script = _script(" ".join(opening)), _script(instruction)
    if script and asked_script and script != asked_script:
        return f"{script} letters: {' '.join(opening)!r}"
    own = _language(_words(instruction))
    if not own or set(opening) & LANGUAGES[own]:
        return ""
    theirs = {name: len(set(opening) & (words - LANGUAGES[own])) for name, words in LANGUAGES.items() if name != own}
    name, count = max(theirs.items(), key=itemgetter(1))
    # one such word may be a name; a second, or letters that the instruction's language does without, make it a language
    foreign_letters = instruction.isascii() and sum(not word.isascii() for word in opening)
    return f"{name}: {' '.join(opening)!r}" if count and count + foreign_letters > 1 else ""


def _language(words: list[str]) -> str:
    """The language most of whose function words are there; '' where there are too few of any."""
    counts = {name: sum(word in known for word in words) for name, known in LANGUAGES.items()}
    best, count = max(counts.items(), key=itemgetter(1))
    return best if count > 1 else ""


def _script(text: str) -> str:
    """The script of most of the letters, as Unicode names it: LATIN, CYRILLIC, CJK and so on."""
    names = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    for kana in ("HIRAGANA", "KATAKANA"):  # one Japanese text mixes all three
        names["CJK"] += names.pop(kana, 0)
    return names.most_common(1)[0][0] if names.total() else ""


def repetition(answer: str) -> str:
    """The words in which the answer goes round and breaks off; '' where it ends as a text does."""
    words = _words(answer)
    loop = words[-LOOP_WORDS:]
    if len(loop) < LOOP_WORDS or answer.rstrip().endswith((".", "!", "?", '"', "'", ")", "”", "’", "。", "*")):
        return ""
    times = sum(words[start : start + LOOP_WORDS] == loop for start in range(len(words) - LOOP_WORDS + 1))
    return " ".join(loop) if times >= LOOP_TIMES else ""


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
