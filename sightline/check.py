"""Find what is wrong before anything is computed. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline import make as making
from sightline.engines.weights import locate
from sightline.formats.validate import Fault, faults
from sightline.recipe import Recipe, read
from sightline.store.folders import RowFolder
from sightline.store.shards import Store

SHOWN = 20


@dataclass
class Findings:
    """What a check came to: facts in order, and the faults of single rows."""

    facts: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield from self.facts
        for fault in self.faults[:SHOWN]:
            yield f"  {fault.row}: {fault.kind}{f' ({fault.detail})' if fault.detail else ''}"
        if len(self.faults) > SHOWN:
            yield f"  and {len(self.faults) - SHOWN} more"
        kinds = Counter(fault.kind for fault in self.faults)
        if kinds:
            yield "faults: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        else:
            yield "nothing wrong found"


def check(target: Recipe | str | Path, overrides: Sequence[str] = ()) -> Findings:
    """Check a recipe (keys, bounds, engines and roles, models' folders, prompts, pairs) or a folder of imported rows.

    A fault that stops a run is raised as a UserError; faults of single rows, which a run would drop with a reason, are listed.
    """
    if not isinstance(target, Recipe) and (Path(target) / "about.json").is_file():
        return _check_rows(Path(target), Findings())
    recipe, folder = (target, Path()) if isinstance(target, Recipe) else read(target, overrides)
    findings = Findings([f"recipe {recipe.name}: every key is known, every engine has its role"])
    _check_models(recipe, findings)
    if recipe.make is not None and not (recipe.train and recipe.train.pairs):
        findings.facts.append(making.check(recipe.make, recipe.engines, folder))
    if recipe.train and recipe.train.pairs:
        near = Path(recipe.train.pairs)
        _check_rows(near if near.exists() else folder / near, findings)
    return findings


def _check_models(recipe: Recipe, findings: Findings) -> None:
    findings.facts += [said for engine in recipe.engines.values() if (said := engine.look())]
    models = {engine.model for engine in recipe.engines.values() if not engine.served} | (
        {recipe.train.model} if recipe.train else set()
    )
    for model in sorted(models):
        found = locate(model)
        if not Path(found).is_dir():
            findings.facts.append(f"model {model} is not on this disk: it will be looked up on the hub")


def _check_rows(root: Path, findings: Findings) -> Findings:
    folder = RowFolder.open(root, "pairs")
    store = Store(root)
    pairs = [row for shard in folder.shards for row in store.read(shard)]
    refused = [row for shard in folder.shards for row in store.read_dropped(shard)]
    findings.facts.append(f"{root}: {len(pairs)} pairs, {len(refused)} rows refused at import")
    findings.faults += [Fault(row=row.key, kind=row.reason, detail=row.detail) for row in refused]
    findings.faults += [fault for pair in pairs for fault in faults(pair, store)]
    return findings
