"""Runs side by side as tables: cells for the terminal, Markdown and LaTeX for a paper, CSV with every number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.report.wording import MINUS, ends, number, signed
from sightline.store.shards import written_whole

HEADER = ("metric", "run", "value", "95 % interval", "n", "difference", "95 % interval", "p", "Holm", "would show", "")
BELOW = "below"
ABOUT = (
    "Differences are to the first run, on the same items. p: exact McNemar where items are hits or misses and no two share a "
    "picture, else a bootstrap over pictures. Holm: p corrected for {family}. Would show: the smallest true difference that "
    "these items find in 80 of 100 comparisons; a difference smaller than that is marked '{below}'."
)
_IN_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    MINUS: "$-$", "–": "--", "\n": " ",
}  # fmt: skip


def write(compared: dict[str, Any], folder: Path) -> list[Path]:
    """compare.md, compare.csv and compare.tex in the folder."""
    if folder.exists() and not folder.is_dir():
        raise RunError(str(folder), "this is a file, and three files are to be written", "give a folder with --out")
    texts = {"compare.md": markdown(compared), "compare.csv": as_csv(compared), "compare.tex": latex(compared)}
    for name, text in texts.items():
        with written_whole(folder / name) as aside:
            aside.write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in texts]


def title(benchmark: dict[str, Any]) -> str:
    return f"{benchmark['benchmark']}, rule: {benchmark['rule']}; {benchmark['n']} items on {benchmark['pictures']} pictures"


def rows(benchmark: dict[str, Any]) -> Iterator[list[str]]:
    """The cells of each metric and run, as HEADER names them; metrics of splits are in the CSV alone."""
    for metric in benchmark["metrics"]:
        for at, line in enumerate(metric["runs"] if not metric["split"] else ()):
            yield [f"{metric['metric']} ({metric['unit']})" if at == 0 else "", line["run"], *_cells(line, metric["unit"])]


def notes(compared: dict[str, Any]) -> Iterator[str]:
    """What a reader of the tables has to know."""
    yield ABOUT.format(family=compared["family"], below=BELOW)
    for benchmark in compared["benchmarks"]:
        for run, suffix in benchmark["suffixes"].items():
            yield f"{benchmark['benchmark']}: {run} was asked with {suffix!r} behind each question, as it was taught."
        for metric in benchmark["metrics"]:
            yield from _reasons(benchmark["benchmark"], metric)
    for name, runs in compared["left_out"].items():
        yield f"{name} is not compared: only {', '.join(runs)} ran it."


def markdown(compared: dict[str, Any]) -> str:
    """One table a benchmark, with the notes below."""
    blocks = ["# " + " · ".join(map(_in_markdown, compared["runs"]))]
    for benchmark in compared["benchmarks"]:
        lines = [HEADER, ["---"] * len(HEADER), *rows(benchmark)]
        table = "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines)
        blocks.append(f"## {_in_markdown(title(benchmark))}\n\n{table}")
    return "\n\n".join([*blocks, *map(_in_markdown, notes(compared))]) + "\n"


def latex(compared: dict[str, Any]) -> str:
    r"""One table a benchmark, to be read by \input in any document: no package is needed."""
    blocks = []
    for benchmark in compared["benchmarks"]:
        lines = [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_in_latex(title(benchmark))}}}",
        ]
        # wider than the text of an article, it stands in its middle
        lines += [r"\makebox[\textwidth]{\begin{tabular}{llrrrrrrrrl}", r"\hline", _latex_row(HEADER), r"\hline"]
        lines += [*map(_latex_row, rows(benchmark)), r"\hline", r"\end{tabular}}", r"\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, *(f"% {' '.join(note.split())}" for note in notes(compared))]) + "\n"


def as_csv(compared: dict[str, Any]) -> str:
    """A line for each benchmark, metric and run, splits included, with all digits there are."""
    names = ("value", "low", "high", "n", "interval", "reason")
    changes = ("value", "low", "high", "p", "test", "corrected", "resolvable", "is_below_resolvable", "reason")
    about = ("benchmark", "rule", "metric", "split", "unit", "better", "run")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*about, *names, *(f"difference_{name}" for name in changes)])
    for benchmark in compared["benchmarks"]:
        for metric in benchmark["metrics"]:
            for line in metric["runs"]:
                record = {**benchmark, **metric, **line}
                change = line.get("difference", {})
                writer.writerow([*(record.get(name) for name in (*about, *names)), *(change.get(name) for name in changes)])
    return stream.getvalue()


def _cells(line: dict[str, Any], unit: str) -> list[str]:
    digits = 1 if unit in ("%", "words") else 2
    change = line.get("difference")
    cells = [number(line.get("value"), digits), ends((line.get("low"), line.get("high")), digits), str(line["n"])]
    if change is None:
        return [*cells, *[""] * 6]
    mark = BELOW if change.get("is_below_resolvable") else ""
    told = [
        signed(change["value"], digits),
        ends((change.get("low"), change.get("high")), digits, plus=True),
        _p(change.get("p")),
        _p(change.get("corrected")),
    ]
    return [*cells, *told, number(change.get("resolvable"), digits), mark]


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _reasons(benchmark: str, metric: dict[str, Any]) -> Iterator[str]:
    """Why a number, or an interval, is missing or short of draws."""
    for line in metric["runs"] if not metric["split"] else ():
        for what, entry in (("", line), ("difference of ", line.get("difference", {}))):
            if entry.get("reason"):
                yield f"{benchmark}, {what}{metric['metric']} of {line['run']}: {entry['reason']}."


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_in_latex, cells)) + r" \\"


def _in_latex(text: str) -> str:
    return "".join(_IN_LATEX.get(character, character) for character in text)


def _in_markdown(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("<", "&lt;").split("\n"))
