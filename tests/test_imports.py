"""The start-up path stays light: no torch, no trl, no vllm for --help, parsing and preflight."""

import subprocess
import sys
from pathlib import Path

import pytest

from negrl.recipe.read import read_mapping

ROOT = Path(__file__).resolve().parent.parent
HEAVY = [
    "torch",
    "transformers",
    "trl",
    "vllm",
    "ray",
    "datasets",
    "math_verify",
    "sympy",
    "matplotlib",
    "pandas",
    "numpy",
]
FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("recipes/**/*.yaml"))
BENCHES = [file for file in FILES if {"bench", "extends"} & set(read_mapping(ROOT / file, "recipe"))]
RECIPES = [file for file in FILES if file not in BENCHES]


def loaded_by(code: str) -> set[str]:
    report = f"import sys\n{code}\nprint('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_probe_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import negrl",
        "import negrl.cli",
        "import negrl.methods",
        "from typer.testing import CliRunner; import negrl.cli; CliRunner().invoke(negrl.cli.app, ['--help'])",
    ],
)
def test_import_is_light(code: str) -> None:
    assert loaded_by(code) == set()


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_parses_without_torch(recipe: str) -> None:
    assert loaded_by(f"from negrl.recipe import load_recipe; load_recipe({recipe!r})") == set()


@pytest.mark.parametrize("bench", BENCHES)
def test_bench_parses_without_torch(bench: str) -> None:
    assert loaded_by(f"from negrl.bench.sweep.load import load_bench; load_bench({bench!r})") == set()


def test_there_are_recipes() -> None:
    assert "recipes/bench/chain.yaml" in BENCHES
    assert "recipes/quickstart.yaml" in RECIPES
