"""A source, an engine or a benchmark is one module: a file that is dropped anywhere is found, used and in the keys."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from negrl.engines import ENGINES, EngineSection, Request, open_engine
from negrl.errors import InputError
from negrl.evaluate.benchmarks import BENCHMARKS, pick
from negrl.evaluate.settings import EvalSettings
from negrl.options import first_error
from negrl.preflight import preflight
from negrl.problems import SOURCES, ProblemsSection, load_problems, world_of
from negrl.recipe import PolicySection, Recipe
from negrl.registry import Registry

REGISTRIES = [SOURCES, ENGINES, BENCHMARKS]
by_kind = pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.kind)
MODULE = '''
"""Sums of two numbers, an engine that says them, and a benchmark of them."""
from negrl.engines.base import Completion, EngineSpec
from negrl.evaluate.benchmarks.base import Benchmark, Row
from negrl.evaluate.benchmarks.base import Source as Rows
from negrl.options import Options, unkeyed
from negrl.problems.base import ProblemSet, Source, WorldProblems, draw_problems
from negrl.records import Problem, stable_id


class SumsProblems(WorldProblems):
    largest: int = 9


def load(section):
    def problems(split, count):
        pairs = draw_problems("sums", section.seed, split, count, lambda rng: rng.randint(0, section.largest ** 2), str)
        return [
            Problem(stable_id("sums", n), "sums", split, "MIT", prompt=f"{n}+1=", gold=str(n + 1), solution=str(n + 1))
            for n in pairs
        ]

    return ProblemSet(problems("train", section.train), problems("evaluate", section.evaluate))


class World:
    def __init__(self, section):
        self.section = section

    def pretraining_texts(self, count):
        return [("1+1=", "2")] * count

    def check_steps(self, problem, text):
        return [text == problem.gold]

    def value(self, problem, prefix):
        return float(problem.gold.startswith(prefix))


class EchoOptions(Options):
    token: int = 5
    speed: int = unkeyed(1)


class Echo:
    name = "echo"

    def __init__(self, token):
        self.token = token

    def generate(self, requests, on_tokens=None):
        return [[Completion([self.token], [0.0], "x", "length")] * r.n for r in requests]

    def score(self, pairs):
        return [[0.0] * len(after) for _, after in pairs]

    def close(self):
        pass


SUMS = Source("sums", SumsProblems, load, World)
ECHO = EngineSpec("echo", EchoOptions, lambda model, policy, section: Echo(section.token))
NONE = EngineSpec("absent", Options, lambda *_: None, distributions=("no-such-thing",), install="`pip install it`")
PLUS = Benchmark("plus", "Plus", "MIT", Rows(2, "", "", ("plus.jsonl",), lambda row, where: Row(row["q"], row["a"])))
'''


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module above, from a file outside the package, in the registries for the time of one test."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_found", dict(registry))
        monkeypatch.setattr(registry, "_origin", {name: registry.origin(name) for name in registry})
    (tmp_path / "dropped_additions.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("dropped_additions")
    assert [registry.add_all(module) for registry in REGISTRIES] == [1, 2, 1]
    yield module
    del sys.modules["dropped_additions"]


@by_kind
def test_every_module_of_the_package_is_what_it_is_called(registry: Registry[Any]) -> None:
    """Without plugins a name is that of its file, so that a newcomer finds it."""
    for name in registry:
        if registry.origin(name).startswith("negrl."):
            assert registry.origin(name) == f"{registry.package}.{name}"


@by_kind
def test_a_wrong_name_is_one_line_with_the_nearest(registry: Registry[Any]) -> None:
    for name in registry:
        with pytest.raises(ValueError, match=r"^unknown") as caught:
            registry.get_or_refuse(f"{name}x")
        near = f"unknown {registry.kind} '{name}x' (did you mean '{name}'?)"
        assert str(caught.value) == f"{near}; one of {', '.join(sorted(registry))}"


@by_kind
def test_a_taken_name_is_one_line(registry: Registry[Any], dropped: ModuleType) -> None:
    twin = ModuleType("twin")
    for name in ("sums", "echo", "plus"):
        if name in registry:
            twin.one = type(registry[name])(**vars_of(registry[name]))  # type: ignore[attr-defined]
            with pytest.raises(InputError) as caught:
                registry.add_all(twin)
            assert str(caught.value) == f"twin: a {registry.kind} '{name}' is there already, from dropped_additions"
    assert registry.add_all(dropped)  # the same again is none too many


def vars_of(item: Any) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def recipe(**sections: Any) -> Recipe:
    problems = {"source": "sums", "train": 20, "evaluate": 5}
    return Recipe.model_validate(
        {"name": "t", "policy": {"build": {}}, "problems": problems, "label": {"labeler": "oracle"}, **sections}
    )


def test_a_dropped_source_is_read_checked_and_a_world(dropped: ModuleType) -> None:
    section = recipe(problems={"source": "sums", "train": 20, "evaluate": 5, "largest": 30}).problems
    assert isinstance(section, dropped.SumsProblems) and section.largest == 30
    found = load_problems(section)
    assert len(found.train) == 20 and len(found.evaluate) == 5
    world = world_of(section)
    assert world is not None and world.value(found.train[0], found.train[0].gold) == 1.0
    assert section.writer_settings() == {"source": "sums", "seed": 0, "largest": 30}
    with pytest.raises(ValidationError) as caught:
        ProblemsSection.model_validate({"source": "sums", "larges": 3})
    assert first_error(caught.value) == "unknown key 'larges' (did you mean 'largest'?)"


def test_a_dropped_engine_is_opened_with_its_options(dropped: ModuleType) -> None:
    section = recipe(engine={"kind": "echo", "token": 7, "speed": 3}).engine
    engine = open_engine(section, "", PolicySection(model="m"))
    assert engine.generate([Request([1], n=2)])[0][1].token_ids == [7]
    assert section.key() == {"kind": "echo", "options": {}, "token": 7}  # not the speed
    with pytest.raises(ValidationError, match="only transformers can read it"):
        EngineSection(kind="echo", batch_size=3)
    settings = EvalSettings(engine="echo", options={"token": 9})
    assert settings.engine_section().model_dump() == {"kind": "echo", "device": None, "token": 9, "speed": 1}
    with pytest.raises(ValidationError, match="engine echo: unknown key 'tokn'"):
        EvalSettings(engine="echo", options={"tokn": 9})


def test_an_engine_that_is_not_installed_is_said_first(dropped: ModuleType) -> None:
    assert preflight(recipe(engine={"kind": "echo"})).train
    with pytest.raises(InputError, match=r"^engine.kind: absent needs `pip install it`$"):
        preflight(recipe(engine={"kind": "absent"}))


def test_a_dropped_benchmark_is_picked(dropped: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "plus.jsonl").write_text('{"q": "1+1", "a": "2"}\n{"q": "2+1", "a": "3"}\n')
    (one, other) = pick("plus,gsm8k")
    assert [row.gold for row in one.source.rows(tmp_path)] == ["2", "3"]
    assert other is BENCHMARKS["gsm8k"]


def test_an_option_that_the_section_has_already_is_refused(dropped: ModuleType) -> None:
    from negrl.engines.base import EngineSpec
    from negrl.options import Options

    for name in ("device", "picked_options"):
        made = type("Mine", (Options,), {"__annotations__": {name: int}, name: 3})
        ENGINES.add(EngineSpec(f"has-{name}", made, lambda *_: None), "here")  # type: ignore[arg-type,return-value]
        with pytest.raises(TypeError, match=f"'{name}' is taken by EngineSection; name it otherwise"):
            EngineSection(kind=f"has-{name}")
