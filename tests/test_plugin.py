"""The example plugin (tests/plugin, which CONTRIBUTING.md walks through): one of each addition, found and used."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from negrl.cli import app
from negrl.commands.options import KINDS
from negrl.errors import InputError
from negrl.methods import METHODS
from negrl.methods.spec import Options as MethodOptions
from negrl.methods.spec import in_training
from negrl.plugins import REGISTRIES, load_plugins, registries
from negrl.preflight import preflight
from negrl.recipe import load_recipe
from negrl.records import SftRow, Step
from negrl.store import Store
from negrl.views import view_of

PLUGIN = Path(__file__).parent / "plugin"
RECIPE = PLUGIN / "recipe.yaml"
SMALL = "policy.build.documents=4000"
NAMES = {
    "labelers": "ramp", "splitters": "width", "methods": "smooth_rft", "problems": "sums", "engines": "recorder",
    "benchmarks": "two_digits",
}  # fmt: skip


def command(*arguments: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    """negrl in a process of its own, in which nothing has been registered yet."""
    code = f"import sys; sys.path += {path.split(':')!r}; from negrl.cli import main; main()"
    run = [sys.executable, "-c", code, *arguments]
    return subprocess.run(run, capture_output=True, text=True, cwd=folder, timeout=240)


@pytest.mark.slow
def test_a_run_uses_one_of_each(tmp_path: Path) -> None:
    """The module is found beside the recipe: nothing is installed and nothing is on Python's path."""
    done = command("run", str(RECIPE), SMALL, folder=tmp_path, path="")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "plugin"
    results = json.loads((run / "report" / "results.json").read_text())
    assert list(results["arms"]) == ["smooth", "steps"]
    asked = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert len(asked) == 12 + 3 * 8 and {line["n"] for line in asked} == {4, 2}

    (valued,) = (run / "stages").glob("value-*")
    stage = Store(run / "stages").stage(*valued.name.split("-"))
    steps = list(stage.iterate("steps", Step))
    assert {step.labeler for step in steps} == {"ramp"}
    assert {len(step.text) for step in steps if step.step_index == 0} <= set(range(7))
    moved = [step.advantage for step in steps if not math.isnan(step.advantage)]
    assert moved and any(a != 0 for a in moved)
    key = stage.info()["inputs"]["label"]
    assert (key["power"], key["width"]) == (3, 6)  # declared, so in the key; log is declared as not in it
    assert stage.info()["inputs"].keys() == {"traces", "policy", "label"}  # ramp needs no policy

    again = command("run", str(RECIPE), SMALL, "engine.log=other.jsonl", folder=tmp_path, path="")
    assert again.returncode == 0, again.stderr
    assert re.search(r"(\d+) of \1 stages reused", again.stdout)
    assert not (tmp_path / "other.jsonl").exists()

    (model,) = sorted((run / "stages").glob("base-*/model"))
    rows = [{"question": f"1{i}+2{i}?", "answer": 30 + 2 * i} for i in range(4)]
    (tmp_path / "two_digits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["-b", "two_digits", "--plugin", "negrl_example", "--data", str(tmp_path), "--n", "2"]
    scored = command("evaluate", str(model), *options, "--max-tokens", "20", folder=tmp_path, path=str(PLUGIN))
    assert scored.returncode == 0, scored.stderr
    assert "Sums of two digits" in scored.stdout or "two_digits" in scored.stdout


@pytest.mark.slow
def test_entry_points_need_no_word_in_the_recipe(tmp_path: Path) -> None:
    """As pip would install it: the package's metadata on Python's path, with the groups of its pyproject.toml."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / "negrl_example-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    assert {group.removeprefix("negrl."): next(iter(found)) for group, found in groups.items()} == NAMES
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.read_text().replace("plugins: [negrl_example]\n", ""))

    listed = command("options", folder=tmp_path, path=f"{tmp_path / 'site'}:{PLUGIN}")
    assert listed.returncode == 0, listed.stderr
    for name in NAMES.values():
        assert f"  {name} " in listed.stdout
    checked = command("run", str(recipe), "--until", "problems", folder=tmp_path, path=f"{tmp_path / 'site'}:{PLUGIN}")
    assert checked.returncode == 0, checked.stderr
    without = command("run", str(recipe), "--until", "problems", folder=tmp_path, path=str(PLUGIN))
    assert without.returncode == 2
    assert without.stderr.count("\n") == 1 and "unknown" in without.stderr

    (info / "entry_points.txt").write_text("[negrl.labelers]\nramp = negrl_exampel.labeler:LABELER\n")
    broken = command("run", str(recipe), folder=tmp_path, path=f"{tmp_path / 'site'}:{PLUGIN}")
    assert broken.returncode == 2 and broken.stderr.count("\n") == 1


def test_every_kind_can_be_added_and_listed() -> None:
    assert set(NAMES) == set(REGISTRIES) == {registry for registry, _ in KINDS.values()}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for registry in registries().values():  # what the test adds goes with it
        monkeypatch.setattr(registry, "_found", dict(registry))
        monkeypatch.setattr(registry, "_origin", {name: registry.origin(name) for name in registry})
    return tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "plugins: no module 'my_own' on Python's path nor in"),
        ("x = 1\n", "plugins: 'my_own' declares nothing that negrl knows; expected one of its labelers, splitters,"),
        ("import nothing_there\n", "plugins: 'my_own' needs a module 'nothing_there', which is not installed"),
        ("1 / 0\n", "plugins: 'my_own' can't be imported: ZeroDivisionError"),
        (
            "from negrl.labelers import LabelerSpec\nL = LabelerSpec('fixed', lambda opening: None)\n",
            "my_own: a labeler 'fixed' is there already, from negrl.labelers.fixed",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line(mine: Path, text: str | None, message: str) -> None:
    if text is not None:
        (mine / "my_own.py").write_text(text)
    sys.modules.pop("my_own", None)
    with pytest.raises(InputError) as caught:
        load_plugins(["my_own"], beside=mine)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_preflight_refuses_what_cannot_be_opened(mine: Path) -> None:
    """A method whose trainer is not there, a labeler that fails to open: before anything is sampled."""
    (mine / "half_made.py").write_text(
        "from negrl.errors import InputError\n"
        "from negrl.labelers import LabelerSpec\n"
        "from negrl.methods import Method\n"
        "def refuse(opening):\n    raise InputError('label.labeler: shy does not work here')\n"
        "SHY = LabelerSpec('shy', refuse)\n"
        "NEEDS = frozenset({'traces'})\n"
        "BODILESS = Method(name='bodiless', view='rft', config='sft', trainer='nowhere:T', needs=NEEDS)\n"
    )
    text = (
        "name: t\nplugins: [half_made]\npolicy: {build: {documents: 1}}\n"
        "problems: {source: chain, train: 4, evaluate: 4}\n"
    )
    (mine / "r.yaml").write_text(text)
    with pytest.raises(InputError, match="shy does not work here"):
        preflight(load_recipe(mine / "r.yaml", ["label.labeler=shy"]))
    with pytest.raises(InputError, match="method 'bodiless': there is no module 'nowhere'"):
        preflight(load_recipe(mine / "r.yaml", ["train.method=bodiless"]))


def test_a_trainer_finds_the_columns_that_it_reads(mine: Path) -> None:
    method = METHODS["smooth_rft"] if "smooth_rft" in METHODS else METHODS["rft"]
    fits = dataclasses.replace(method, columns=frozenset({"input_ids", "labels"}))
    assert view_of(fits).row_type is SftRow
    with pytest.raises(InputError) as caught:
        view_of(dataclasses.replace(fits, columns=frozenset({"input_ids", "advantage"})))
    said = f"method '{method.name}': its trainer reads the column 'advantage', and the rows of view 'rft' have none"
    assert str(caught.value).startswith(said) and "input_ids, labels, problem_id, trace_id" in str(caught.value)


def test_a_view_cannot_read_an_option_that_is_not_in_its_key() -> None:
    class Mine(MethodOptions):
        pairs: int = 3
        smoothing: float = in_training(0.1)

    options = Mine().as_view_reads()
    assert options.pairs == 3 and Mine().for_view() == {"pairs": 3}
    with pytest.raises(AttributeError, match=r"^the view reads the option 'smoothing', which Mine declares with in_t"):
        options.smoothing  # noqa: B018
    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'nothing'"):
        options.nothing  # noqa: B018


def test_options_are_read_from_the_declarations() -> None:
    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["options", *arguments], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.output

    everything = shown()
    for kind, (registry, _) in KINDS.items():
        assert shown(kind) in everything and registry in REGISTRIES
    assert "rollouts" in shown("labeler", "adaptive") and "max_rollouts" in shown("labeler", "adaptive")
    assert "share_prefixes" in shown("method", "dpo") and "TRL's DPOConfig" in shown("method", "dpo")
    assert "changing it redoes nothing" in shown("engine", "transformers")
    wrong = CliRunner().invoke(app, ["options", "labeler", "adaptiv"])
    assert isinstance(wrong.exception, InputError) and "did you mean 'adaptive'?" in str(wrong.exception)
