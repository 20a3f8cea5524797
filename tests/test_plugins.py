"""Another package, really installed, adds to our tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OUTSIDE = Path(__file__).parent / "outside_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that pip installed the outside package to."""
    target = tmp_path_factory.mktemp("site")
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(OUTSIDE)], check=True, timeout=120)
    return target


def in_its_company(installed: Path, code: str) -> str:
    """What a fresh process prints that finds both packages."""
    paths = os.pathsep.join([str(installed), str(OUTSIDE.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_recipe_uses_the_engine_and_the_objective_of_another_package(installed):
    said = in_its_company(
        installed,
        """
import json
from sightline.engines import Engines
from sightline.engines.roles import ChatRequest, Decoding
from sightline.errors import RecipeError
from sightline.recipe import parse

tree = {"name": "outside", "engines": {"bird": {"kind": "parrot", "times": 2}}}
tree["train"] = {"model": "miniature/policy", "objective": {"kind": "capped", "margin": 2}}
recipe = parse(tree)
reply = Engines(recipe.engines).use("bird", "vision_chat").chat([ChatRequest("Pretty picture.")], Decoding())[0]
try:
    parse({**tree, "engines": {"bird": {"kind": "parrot", "time": 2}}})
except RecipeError as error:
    told = [error.where, error.problem, error.fix]
print(json.dumps({"reply": reply.text, "margin": recipe.train.objective.margin, "told": told, "resolved": recipe.resolved()}))
""",
    )
    found = json.loads(said)
    assert found["reply"] == "Pretty picture. Pretty picture."
    assert found["margin"] == 2.0
    where, problem, fix = found["told"]
    assert where.startswith("engines.bird") and "'time'" in problem and "did you mean 'times'" in fix
    assert "kind: parrot" in found["resolved"] and "kind: capped" in found["resolved"]


def test_the_loss_of_another_packages_objective_is_its_own(installed):
    loss = in_its_company(
        installed,
        """
import torch
from sightline.train.objectives import OBJECTIVES, Logprobs

def logprobs(chosen, rejected):
    return Logprobs({"chosen": torch.tensor(chosen), "rejected": torch.tensor(rejected)}, {})

objective = OBJECTIVES.read({"kind": "capped", "margin": 2})
print(objective.loss(logprobs([-3.0, -3.0], [-4.0, -9.0]), logprobs([-3.0, -3.0], [-4.0, -4.0])).value.item())
""",
    )
    assert float(loss) == 1.0  # gaps 0 and 5 against a margin of 2: losses 2 and 0


def test_a_name_of_ours_stays_ours_and_a_format_of_theirs_is_found(installed):
    said = in_its_company(
        installed,
        """
from sightline.engines import ENGINES
from sightline.formats import FORMATS
print(ENGINES.places["armorm"], FORMATS.find("parrot_lines").__module__)
""",
    )
    assert said.split() == ["sightline.engines.armorm:ArmoRM", "sightline_parrot.lines"]


def test_without_that_package_its_names_are_unknown():
    from sightline.engines import ENGINES

    assert "parrot" not in ENGINES.places
