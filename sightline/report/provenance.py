"""Where everything came from: models with their fingerprints, seeds, versions, the recipe."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sightline import __version__
from sightline.report.evidence import Evidence
from sightline.report.served import served
from sightline.rows import Origin

PACKAGES = ("torch", "transformers", "diffusers", "peft", "datasets", "pyarrow", "numpy", "pillow")


@dataclass
class Model:
    """An engine as rows name it, and the steps that it worked in."""

    engine: str
    name: str
    revision: str
    settings: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Provenance:
    """What one needs to make the same run again."""

    models: list[Model]
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    recipe: str


def provenance(evidence: Evidence) -> Provenance:
    return Provenance(_models(evidence), [*_facts(evidence), *served(evidence)], _versions(evidence), evidence.recipe_text)


def _models(evidence: Evidence) -> list[Model]:
    found: dict[tuple[str, str, str], Model] = {}
    for family in ("replies", "images", "ranking", "responses", "splits", "judgements"):
        for step in evidence.steps_of(family):
            for origin in _origins(evidence.rows_of(step)):
                who = (origin.engine, origin.model, origin.revision)
                model = found.setdefault(who, Model(*who))
                _add(model.steps, step)
                _add(model.settings, origin.settings)
    return list(found.values())


def _origins(rows: Iterable[Any]) -> list[Origin]:
    origins = {row.origin.engine + row.origin.revision + row.origin.settings: row.origin for row in rows}
    return [origins[key] for key in sorted(origins)]


def _add(entries: list[str], entry: str) -> None:
    if entry and entry != "{}" and entry not in entries:
        entries.append(entry)


def _facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Seeds and what the checkpoint says of itself."""
    recipe = _parsed(evidence.recipe_text)
    facts = [("recipe", str(recipe.get("name") or evidence.run.folder.name)), ("folder", evidence.run.folder.name)]
    if recipe.get("seed") is not None:
        facts.append(("seed", str(recipe["seed"])))
    for name, stage in (("fine-tuned", evidence.checkpoint.get("sft") or {}), ("checkpoint", evidence.checkpoint)):
        told = [(key, value) for key, value in stage.items() if key not in ("log", "seconds", "sft") and value not in (None, {})]
        facts += [(f"{name} {key.replace('_', ' ')}", _plainly(value)) for key, value in told]
    return facts


def _plainly(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_plainly(inner)}" for key, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parsed(text: str) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _versions(evidence: Evidence) -> list[tuple[str, str]]:
    """As the run noted them; else of what is installed where the page is made."""
    noted = evidence.manifest.get("versions")
    if isinstance(noted, dict) and noted:
        return [(str(name), str(number)) for name, number in sorted(noted.items())]
    return [("sightline", __version__), ("python", platform.python_version()), *_installed()]


def _installed() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
