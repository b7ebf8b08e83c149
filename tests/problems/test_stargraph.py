"""The stargraph world: its graphs, its checker, the cheat."""

import itertools
import random

import pytest
from pydantic import ValidationError

from negrl.problems.stargraph import StargraphProblems, World, load, parse
from negrl.records import Problem
from negrl.verify.extract import EXTRACTORS

SECTION = StargraphProblems(source="stargraph", degree=3, path=4, nodes=20, train=300, evaluate=50)
WORLD = World(SECTION)
PROMPT = "37>52,10>81,81>29,10>37/10,52="
PROBLEM = Problem("p", "stargraph", "train", "Apache-2.0", prompt=PROMPT, gold="103752")


def test_a_graph_is_a_star() -> None:
    for problem in load(SECTION).train:
        graph = parse(problem.prompt)
        nodes = set(itertools.chain(*graph.edges))
        assert len(graph.edges) == 9 and len(nodes) == 10
        assert sum(a == graph.center for a, _ in graph.edges) == 3
        assert len(graph.path) == 4 and (graph.path[0], graph.path[-1]) == (graph.center, graph.goal)
        assert all(edge in graph.edges for edge in itertools.pairwise(graph.path))
        assert problem.solution == ";".join(graph.path) and problem.gold == "".join(graph.path)
    orders = {tuple(sorted(p.prompt)) == tuple(p.prompt) for p in load(SECTION).train}
    assert orders == {False}  # shuffled


@pytest.mark.parametrize(
    ("text", "right", "value"),
    [
        ("10;37;52", [True, True, True], 1.0),
        ("10;37;", [True, True], 1.0),
        ("10;81;29", [True, False, False], 0.0),  # the other arm
        ("10;81;52", [True, False, False], 0.0),  # the goal, but no edge leads there
        ("10;37;29", [True, True, False], 0.0),
        ("37;52", [False, True], 0.0),
        ("10;37;52;52", [True, True, True, False], 0.0),
        ("10;10;37;52", [True, False, True, True], 0.0),  # a right step after a wrong one is right
        ("10;;37", [True, False, False], 0.0),
        ("", [], 1.0),
    ],
)
def test_steps_and_values(text: str, right: list[bool], value: float) -> None:
    assert WORLD.check_steps(PROBLEM, text) == right
    assert WORLD.value(PROBLEM, text) == value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("10;37;52", "103752"), (" 10;37;52\n", "103752"), ("100;370;520", "100370520"), ("10", "10"), ("10;370", None),
        ("103;752", "103752"), ("1037;52", None), ("10;37;", None), ("10;;37", None), ("", None), ("01;02", None),
        ("1\u0660;20", None), ("10;37;x", None),
    ],
)  # fmt: skip
def test_a_path_is_read_as_one_number(text: str, answer: str | None) -> None:
    assert EXTRACTORS["path"].find(text) == answer


def test_the_base_writer_enters_arms_blindly() -> None:
    texts = WORLD.pretraining_texts(3000)
    right = sum(text == ";".join(parse(prompt).path) for prompt, text in texts) / len(texts)
    assert 0.3 < right < 0.37  # one of three arms
    for prompt, text in texts[:200]:
        graph = parse(prompt)
        nodes = text.split(";")
        assert nodes[0] == graph.center and all(edge in graph.edges for edge in itertools.pairwise(nodes))
        assert len(nodes) == 4
    knowing = World(SECTION.model_copy(update={"habit_rate": 0.0})).pretraining_texts(100)
    assert all(text == ";".join(parse(prompt).path) for prompt, text in knowing)


def test_blind_paths_reach_every_arm() -> None:
    graph, rng = parse(PROMPT), random.Random(0)
    assert {graph.blind_path(rng)[-1] for _ in range(50)} == {"52", "29"}


def test_too_few_nodes_is_one_line() -> None:
    StargraphProblems(source="stargraph", degree=5, path=5, nodes=21)
    with pytest.raises(ValidationError, match="nodes: 20 are too few for 5 arms and a path of 5: at least 21"):
        StargraphProblems(source="stargraph", degree=5, path=5, nodes=20)


def test_names_have_one_width() -> None:
    for nodes, width in ((90, 2), (91, 3)):
        found = load(SECTION.model_copy(update={"nodes": nodes, "train": 50, "evaluate": 1})).train
        assert {len(n) for p in found for n in parse(p.prompt).path} == {width}
