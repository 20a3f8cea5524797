"""The command line: parse, call, print."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typer.core import TyperCommand

from sightline import __version__, processes
from sightline.errors import UserError

# its UsageError, wherever this typer has it from: some releases carry a click of their own
WrongUsage: Any = typer.BadParameter.__mro__[1]

console = Console(highlight=False)
complain = Console(stderr=True, highlight=False)

app = typer.Typer(
    help="Teach vision-language models to say what they see: make preference data, train, evaluate, report.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)

RecipeFile = Annotated[str, typer.Argument(help="A recipe's YAML file, or the name of a shipped one.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: --set train.objective.beta=0.2", metavar="KEY=VALUE")
]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder; runs beside each other share their store.")]
FORMATS = "datasets, llamafactory, llava, mllm_dpo, rlaif_v, swift, trl, vlfeedback"
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")]


def _example(text: str) -> str:
    return f"[dim]Example:[/dim]  {escape(text)}"


class Bars:
    """Progress on the terminal: one bar a step, with its rate and the time left."""

    def __init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.units: dict[str, str] = {}

    def begin(self, name: str, total: int, unit: str) -> None:
        self.units[name] = unit
        self.tasks[name] = self.progress.add_task(f"{name:<24}", total=max(total, 1), note="", rate="")

    def advance(self, name: str, done: int) -> None:
        self.progress.advance(self.tasks[name], done)
        speed = self.progress.tasks[self.tasks[name]].speed
        self.progress.update(self.tasks[name], rate=f"{speed:.1f} {self.units[name]}/s" if speed else "")

    def end(self, name: str, note: str) -> None:
        task = self.tasks[name]
        self.progress.update(task, completed=self.progress.tasks[task].total, note=note)


class Lines:
    """Progress where there is no terminal: one line a step."""

    def begin(self, name: str, total: int, unit: str) -> None: ...

    def advance(self, name: str, done: int) -> None: ...

    def end(self, name: str, note: str) -> None:
        console.print(f"{name:<28} {note}", soft_wrap=True)


def _carry_out(verb: str, recipe: str, out: Path | None, overrides: list[str] | None) -> None:
    from sightline import run as story

    work = getattr(story, verb)
    _print_outcome(_watched(lambda watch: work(recipe, out, overrides or (), watch)))


def _watched(work: Callable[[Bars | Lines], Any]) -> Any:
    """What the work comes to, its progress shown."""
    if not console.is_terminal:
        return work(Lines())
    bars = Bars()
    with bars.progress:
        return work(bars)


def _print_outcome(run: Any) -> None:
    from sightline.show import lmms_eval_table, results_table

    for table in filter(None, (results_table(run), lmms_eval_table(run))):
        console.print(table)
    console.print(f"page     {run.folder / 'report.html'}", soft_wrap=True)
    console.print(f"results  {run.folder / 'results.json'}", soft_wrap=True)
    if (run.folder / "adapter").exists():
        console.print(f"adapter  {run.folder / 'adapter'}", soft_wrap=True)


@app.command(epilog=_example("sightline run recipes/quickstart.yaml"))
def run(recipe: RecipeFile, overrides: Overrides = None, out: Out = None) -> None:
    """Make, train, evaluate and report: the whole recipe."""
    _carry_out("run", recipe, out, overrides)


@app.command(epilog=_example("sightline make recipes/quickstart.yaml --set make.images.guidance=[3,5,7]"))
def make(recipe: RecipeFile, overrides: Overrides = None, out: Out = None) -> None:
    """Make preference data: prompts, pictures, answers, scores, pairs."""
    _carry_out("make", recipe, out, overrides)


@app.command(epilog=_example("sightline train recipes/quickstart.yaml --set train.pairs=data/pds"))
def train(recipe: RecipeFile, overrides: Overrides = None, out: Out = None) -> None:
    """Train on the recipe's pairs, or on imported ones."""
    _carry_out("train", recipe, out, overrides)


@app.command(
    epilog=_example("sightline sweep recipes/quickstart.yaml --vary train.num_pairs=50,100,200,null --vary train.seed=0,1,2")
)
def sweep(
    recipe: RecipeFile,
    vary: Annotated[
        list[str],
        typer.Option("--vary", help="A key with the values it takes, or a file of named variants.", metavar="KEY=V,V|FILE"),
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="The sweep's folder; runs beside it share their store.")] = None,
) -> None:
    """Run the recipe at every point of a grid; one table and plot of all, means over seeds. What points share is made once."""
    from sightline.report.sweeps import FILES
    from sightline.show import sweep_tables
    from sightline.sweep import planned

    plan = planned(recipe, vary, out, overrides or ())
    for at, point in enumerate(plan.points, 1):
        console.print(f"[bold]{at} of {len(plan.points)}[/bold]  {escape(point.title)}", soft_wrap=True)
        _watched(partial(plan.carry_out, point))
    for table in sweep_tables(plan.results()):
        console.print(table)
    for name in FILES:
        console.print(f"{Path(name).suffix[1:]:<5} {plan.folder / name}", soft_wrap=True)


class AboutBenchmarks(TyperCommand):
    """`eval --help BENCH` tells of one benchmark: its rules, its settings, where its files are to be had."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--help" in args:
            from sightline.eval.scoring import BENCHMARKS, about

            for name in (word for word in args if word in BENCHMARKS):
                console.print("\n".join(map(escape, about(name))), soft_wrap=True)
                raise typer.Exit
        return list(super().parse_args(ctx, args))


@app.command(
    name="eval",
    cls=AboutBenchmarks,
    epilog=_example("sightline eval recipes/quickstart.yaml --set eval.adapter=runs/quickstart/adapter"),
)
def evaluate(recipe: RecipeFile, overrides: Overrides = None, out: Out = None) -> None:
    """Run the benchmarks before and after training, with intervals. `eval --help pope` tells of a benchmark, and of its files."""
    _carry_out("evaluate", recipe, out, overrides)


@app.command(epilog=_example("sightline score pope --answers answers.jsonl --data coco_pope_random.json"))
def score(
    benchmark: Annotated[
        str, typer.Argument(help="A benchmark's name; sightline eval --help NAME tells of it.", metavar="BENCH")
    ],
    answers: Annotated[Path, typer.Option("--answers", help="File of a model's answers, in the benchmark's form.")],
    data: Annotated[str, typer.Option("--data", help="The benchmark's file, or the folder of its files.")],
    rule: Annotated[str | None, typer.Option("--rule", help="How answers are read: published or clean.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="One of its settings.", metavar="KEY=VALUE")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Score answers that are there already: no model, no pictures."""
    from json import dumps

    from sightline.eval.scoring import read_benchmark, score
    from sightline.recipe import overridden
    from sightline.show import scores_table

    values = overridden({"data": data, **({"rule": rule} if rule else {})}, overrides or ())
    results = score(read_benchmark(benchmark, values), answers)
    if json:
        console.print_json(dumps(results.to_json()))
    else:
        console.print(scores_table(results.to_json()["benchmarks"][0]))


@app.command(epilog=_example("sightline compare runs/sft runs/dpo --out tables"))
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Runs' folders; RUN:base is a run's model before training.", metavar="RUN[:MODEL]...")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the tables as Markdown, CSV and LaTeX.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Compare finished runs on the same items, with intervals and tests; of one run alone, its model before and after."""
    from json import dumps

    from sightline.eval.runs import compare, sides
    from sightline.report.comparison import write
    from sightline.show import comparison_tables

    compared = compare(sides(runs))
    written = write(compared, out) if out else []
    if json:
        console.print_json(dumps(compared))
        return
    for part in comparison_tables(compared):
        console.print(part)
    for path in written:
        console.print(f"table    {path}", soft_wrap=True)


@app.command(epilog=_example("sightline check recipes/quickstart.yaml --set train.pairs=data/pds"))
def check(
    target: Annotated[str, typer.Argument(help="A recipe, or a folder of imported rows.", metavar="RECIPE|FOLDER")],
    overrides: Overrides = None,
) -> None:
    """Find what is wrong before anything is computed: keys, engines, prompts, pairs, and what training would see of them."""
    from sightline.check import check as inspect

    findings = _watched(lambda watch: inspect(target, overrides or (), watch))
    for line in findings.lines():
        told = Text(line)
        told.highlight_regex("(?s)«.*»", "green")  # what counts in the loss
        console.print(told, soft_wrap=True)
    for error in findings.missing:
        _print_error(error.where, error.problem, error.fix)
    if findings.missing:
        raise typer.Exit(1)


@app.command(name="import", epilog=_example("sightline import preferences.json --format llava --images photos --out data/mine"))
def import_data(
    path: Annotated[Path, typer.Argument(help="The dataset's file.")],
    format: Annotated[str, typer.Option("--format", help=f"One of {FORMATS}.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the rows to.")],
    images: Annotated[Path | None, typer.Option("--images", help="Folder that picture paths start from.")] = None,
) -> None:
    """Turn a published dataset into rows that a recipe takes in (train.pairs)."""
    from sightline.formats import import_rows

    with console.status(f"reading {path}"):
        result = import_rows(path, format, images or path.parent, out)
    for line in result.lines():
        console.print(line, soft_wrap=True)


@app.command(epilog=_example("sightline export runs/quickstart --merge --out model/"))
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a folder of imported rows.", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    format: Annotated[str | None, typer.Option("--format", help=f"Write the pairs: {FORMATS}.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Write the model: base and adapter as one.")] = False,
) -> None:
    """Write a run's pairs, with their pictures, in another tool's format; or its trained model, merged and checked."""
    if merge == (format is not None):
        raise typer.BadParameter("give either --format or --merge")
    if merge:
        from sightline.train.merge import merge as join

        with console.status("merging"):
            lines = list(join(run / "adapter" if (run / "adapter").exists() else run, out).lines())
    else:
        from sightline.formats import export_rows

        lines = list(export_rows(run, str(format), out).lines())
    for line in lines:
        console.print(line, soft_wrap=True)


@app.command(epilog=_example("sightline show runs/quickstart pairs"))
def show(
    run: RunFolder,
    what: Annotated[
        str | None, typer.Argument(help="A step's name, or a row's id (its first digits do).", metavar="[STEP|ID]")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows shown of a step.")] = 10,
) -> None:
    """Print a run's steps and results, a step's rows, or where a row comes from."""
    from sightline.show import show as look

    for part in look(run, what, limit):
        console.print(part)


@app.command(epilog=_example("sightline doctor"))
def doctor() -> None:
    """Say what this machine has, and what would go wrong."""
    from sightline.doctor import examine

    findings = examine()
    for finding in findings:
        mark = "[green]ok  [/green]" if finding.well else "[red]wrong[/red]"
        console.print(f"{mark} {escape(finding.what)}", soft_wrap=True)
        if finding.fix:
            console.print(f"      {escape(finding.fix)}", soft_wrap=True)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False
) -> None:
    if version:
        console.print(f"sightline {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: users' mistakes end with a message and code 1, wrong usage with 2.

    Of several processes the first speaks; an error is told by the one that met it, and not again by those that it ends.
    """
    console.quiet = processes.rank() > 0
    try:
        code = app(standalone_mode=False)
        if code == 128 + signal.SIGINT:  # some releases of typer answer Ctrl-C themselves, without a word
            raise KeyboardInterrupt
    except WrongUsage as error:
        if processes.first_to_fail():
            error.show()
        code = 2
    except UserError as error:
        _print_error(error.where, error.problem, error.fix)
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        _print_error("stopped", "you pressed Ctrl-C", "what is stored stays: the same command goes on from here")
        code = 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "free some and run the same command again: what is stored stays"
            _print_error(str(error.filename or "disk"), "no space left", fix)
        elif processes.first_to_fail():
            raise
        code = 1
    sys.exit(code or 0)


def _print_error(where: str, problem: str, fix: str) -> None:
    if not processes.first_to_fail():
        return
    complain.print(f"[bold red]error[/bold red] [bold]{escape(where)}[/bold]", soft_wrap=True)
    complain.print(f"  {escape(problem)}", soft_wrap=True)
    complain.print(f"  [green]{escape(fix)}[/green]", soft_wrap=True)
