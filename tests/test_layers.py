"""Who may import whom, read from the sources."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "sightline"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports from its own folder and from rows below its own, never up or sideways.
ROWS = [
    {"errors"},
    {"allocator", "plugin", "processes", "rows"},
    {"store"},
    {"engines", "files"},
    {"execute"},
    {"make", "train", "eval", "report", "formats"},
    {"recipe"},
    {"run", "miniature"},
    {"check", "doctor", "show", "sweep"},
    {"launch"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {unit: height for height, row in enumerate(ROWS) for unit in row}

HEAVY = {
    "torch",
    "transformers",
    "diffusers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "torchvision",
    "ray",
    "openai",
    "httpx2",
    "vllm",
}
TORCH_FILES = {
    "sightline.engines.image_reward_model",
    "sightline.engines.armorm_model",
    "sightline.eval.bridge_script",  # nothing imports it: the Python of another environment executes it
    *(f"sightline.train.{name}" for name in ("adapters", "attention", "dataset", "examples", "features", "log", "logprobs")),
    *(f"sightline.train.{name}" for name in ("memory", "order", "spoiling", "trainer", "tuning")),
}
WITHOUT_TORCH = ("report", "formats", "files")

DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "pydantic_core": "pydantic"}
ELSEWHERE = {"lmms_eval"}
"""In the environment that eval/bridge_script.py is executed in."""
NEEDED_BY_OTHERS = {
    "num2words": "SmolVLM's processor asks for it",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all that is imported anywhere below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import at line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(tree: ast.AST) -> Iterator[str]:
    """Full names of what importing the module imports: not what its functions import, nor what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(ast.Module([node], []))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import(node)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_every_module_has_its_row():
    assert {unit_of(name_of(path)) for path in MODULES} - {""} <= set(HEIGHT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_from_its_own_folder_and_from_below(path):
    here = unit_of(name_of(path))
    if not here:
        return  # the package itself names what its verbs load when they are called
    used = {unit_of(name) for name in imports(parsed(path)) if name.startswith("sightline.")}
    wrong = {unit for unit in used & set(HEIGHT) - {here} if HEIGHT[unit] >= HEIGHT[here]}
    assert not wrong, f"{name_of(path)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_packages_are_imported_where_they_are_needed_not_before(path):
    name = name_of(path)
    if name in TORCH_FILES or unit_of(name) == "miniature":
        return
    now = set(at_import(parsed(path)))
    heavy = {found for found in now if found.split(".")[0] in HEAVY or found.startswith("safetensors.torch")}
    through = {found for found in now for torch_file in TORCH_FILES if f"{found}.".startswith(f"{torch_file}.")}
    assert not heavy | through, f"{name} imports {', '.join(sorted(heavy | through))} at module level"


@pytest.mark.parametrize("name", sorted(TORCH_FILES))
def test_a_file_excused_for_its_torch_import_has_one(name):
    path = REPOSITORY.joinpath(*name.split(".")).with_suffix(".py")
    assert {found.split(".")[0] for found in at_import(parsed(path))} & HEAVY


@pytest.mark.parametrize("path", [path for path in MODULES if unit_of(name_of(path)) in WITHOUT_TORCH], ids=name_of)
def test_reports_and_formats_never_need_torch(path):
    assert not {found for found in imports(parsed(path)) if found.split(".")[0] in HEAVY}


def test_what_the_code_imports_is_declared_and_nothing_else_is():
    outside = {found.split(".")[0] for path in MODULES for found in imports(parsed(path))}
    outside -= {"sightline", *ELSEWHERE, *sys.stdlib_module_names}
    used = {DISTRIBUTIONS.get(found, found).replace("_", "-").lower() for found in outside}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    core = {re.match(r"[A-Za-z0-9-]+", entry).group().lower() for entry in project["dependencies"]}
    extras = {re.match(r"[A-Za-z0-9-]+", entry).group().lower() for entry in project["optional-dependencies"]["gpu"]}
    assert used - extras == core - set(NEEDED_BY_OTHERS)
