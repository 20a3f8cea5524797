"""Numbers and texts in the form in which people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from markupsafe import Markup, escape

NO_BREAK = "\u00a0"
MINUS = "\u2212"


def number(value: float | None, digits: int | None = None) -> str:
    """'21.4', '−0.03', '1,200'; a dash where there is no value."""
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if isinstance(value, int) else 1 if abs(value) >= 10 else 2
    text = f"{abs(value):,.{digits}f}"
    negative = value < 0 and any(figure in text for figure in "123456789")
    return MINUS + text if negative else text


def amount(value: float | None, unit: str = "") -> str:
    """A number with its unit; percentages with one decimal."""
    if value is None:
        return "–"
    text = number(value, 1) if unit in ("%", "words") else number(value)
    return f"{text}{NO_BREAK}{unit}" if unit else text


def signed(value: float | None, digits: int | None = None) -> str:
    """The number with its plus or minus."""
    text = number(value, digits)
    return text if value is None or text.startswith(MINUS) or not any(figure in text for figure in "123456789") else f"+{text}"


def ends(interval: tuple[float | None, float | None] | None, digits: int | None = None, plus: bool = False) -> str:
    """'20.1 to 22.7', with their signs where `plus`; a dash where there is no interval."""
    if interval is None or None in interval:
        return "–"
    low, high = ((signed if plus else number)(end, digits) for end in interval)
    return f"{low} to {high}"


def share(part: int | float, whole: int | float) -> str:
    return f"{100 * part / whole:.0f}{NO_BREAK}%" if whole else "–"


def duration(seconds: float) -> str:
    """'0.4 s', '38 s', '4 min 12 s', '2 h 5 min'."""
    if 0 < seconds < 0.05:
        return f"<{NO_BREAK}0.1{NO_BREAK}s"
    if seconds < 10:
        return f"{seconds:.1f}{NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest}{NO_BREAK}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NO_BREAK}h {minutes}{NO_BREAK}min" if hours else f"{minutes}{NO_BREAK}min {rest}{NO_BREAK}s"


def p_value(value: float | None) -> str:
    if value is None:
        return ""
    return f"p{NO_BREAK}<{NO_BREAK}0.001" if value < 0.001 else f"p{NO_BREAK}={NO_BREAK}{value:.3f}"


def plural(count: int, noun: str) -> str:
    """'1 pair', '30 pairs'."""
    return f"{count:,}{NO_BREAK}{noun}{'' if count == 1 else 's'}"


def marked(text: str, phrases: Iterable[str], why: str) -> Markup:
    """The text with these phrases marked wherever they stand as whole words."""
    wanted = sorted({phrase.strip() for phrase in phrases if phrase.strip()}, key=lambda phrase: (-len(phrase), phrase))
    if not wanted:
        return escape(text)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, wanted))})(?:s|es)?(?!\w)", re.IGNORECASE)
    parts, at = [], 0
    for found in pattern.finditer(text):
        parts += [escape(text[at : found.start()]), Markup('<mark title="{}">{}</mark>').format(why, found.group())]
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])
