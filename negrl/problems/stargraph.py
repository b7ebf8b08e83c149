"""`stargraph`: find the path from the center of a star to the end of one of its arms (Bachmann & Nagarajan
2024, arXiv:2403.06963; Setlur et al. 2024, arXiv:2406.14532, section 5).

    prompt    37>52,10>81,81>29,10>37/10,52=       the edges, shuffled; center and goal
    solution  10;37;52                             a step is a node

Only the first node after the center is hard: the arm must be known before it is entered. A model trained on
right paths is shown the earlier nodes and learns to read each later one off the edges (the paper's Clever
Hans cheat), so it enters an arm blindly and is right with chance 1/degree. The teacher's solutions are the
right paths. The writer of the pre-training text enters arms blindly and follows them to their end.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from pydantic import Field, model_validator

from negrl.problems.base import ProblemSet, Source, WorldProblems, draw_problems, held_out
from negrl.records import Json, Problem, stable_id, stable_seed


class StargraphProblems(WorldProblems):
    degree: int = Field(2, ge=1)
    """Arms of the star."""
    path: int = Field(4, ge=2)
    """Nodes of the path from the center to the goal, including both."""
    nodes: int = Field(15, ge=2, le=900)
    """Names to choose from: two-digit numbers from 10 on, or three-digit ones from 100 on if there are more than 90."""
    habit_rate: float = Field(1.0, ge=0, le=1)
    """Chance that the writer of the pre-training text enters an arm blindly and follows it to its end."""

    @model_validator(mode="after")
    def _fits(self) -> StargraphProblems:
        needed = self.degree * (self.path - 1) + 1
        if self.nodes < needed:
            raise ValueError(
                f"nodes: {self.nodes} are too few for {self.degree} arms and a path of {self.path}: at least {needed}"
            )
        return self


@dataclass(frozen=True, slots=True)
class Graph:
    """The edges in the prompt's order, the center and the goal."""

    edges: tuple[tuple[str, str], ...]
    center: str
    goal: str

    @property
    def prompt(self) -> str:
        return ",".join(f"{a}>{b}" for a, b in self.edges) + f"/{self.center},{self.goal}="

    @property
    def path(self) -> list[str]:
        """The nodes from the center to the goal; every node but the center has one edge into it."""
        before = {b: a for a, b in self.edges}
        nodes = [self.goal]
        while nodes[-1] != self.center:
            nodes.append(before[nodes[-1]])
        return nodes[::-1]

    def blind_path(self, rng: random.Random) -> list[str]:
        """A random arm from the center to its end."""
        nodes = [self.center, rng.choice([b for a, b in self.edges if a == self.center])]
        after = dict(self.edges)
        while nodes[-1] in after:
            nodes.append(after[nodes[-1]])
        return nodes


def parse(prompt: str) -> Graph:
    """The graph of a prompt."""
    edges, _, question = prompt.removesuffix("=").partition("/")
    center, goal = question.split(",")
    pairs = (edge.split(">") for edge in edges.split(","))
    return Graph(tuple((a, b) for a, b in pairs), center, goal)


def load(section: StargraphProblems) -> ProblemSet:
    """The first `train` and `evaluate` graphs of the world's streams; disjoint by construction.

    Raises:
        InputError: there are not that many.
    """
    return ProblemSet(
        train=_problems(section, "train", section.train), evaluate=_problems(section, "evaluate", section.evaluate)
    )


def _problems(section: StargraphProblems, split: str, count: int) -> list[Problem]:
    graphs = draw_problems("stargraph", section.seed, split, count, lambda rng: _draw(rng, section), _key)
    return [
        Problem(
            problem_id=stable_id("stargraph", graph.prompt),
            source="stargraph",
            split=split,
            license="Apache-2.0",
            prompt=graph.prompt,
            gold="".join(graph.path),  # one number, as verify.extract: path makes of a response
            solution=";".join(graph.path) if split == "train" else None,
            meta=Json(degree=section.degree, path=section.path),
        )
        for graph in graphs
    ]


def _key(graph: Graph) -> str:
    """The graph and the question, whatever the order of the edges."""
    return Graph(tuple(sorted(graph.edges)), graph.center, graph.goal).prompt


def _draw(rng: random.Random, section: StargraphProblems) -> Graph:
    first = 10 if section.nodes <= 90 else 100  # names of one width
    length = section.path - 1
    center, *others = rng.sample(range(first, first + section.nodes), section.degree * length + 1)
    arms = [[center, *others[i * length : (i + 1) * length]] for i in range(section.degree)]
    edges = [(str(a), str(b)) for arm in arms for a, b in itertools.pairwise(arm)]
    rng.shuffle(edges)
    return Graph(tuple(edges), str(center), str(arms[0][-1]))


class World:
    """Writes pre-training text, and judges steps exactly. See `negrl.problems.base.World`."""

    def __init__(self, section: StargraphProblems):
        self.section = section

    def pretraining_texts(self, count: int) -> list[tuple[str, str]]:
        rng = random.Random(stable_seed("stargraph-text", self.section.seed))
        texts: list[tuple[str, str]] = []
        while len(texts) < count:
            graph = _draw(rng, self.section)
            blind = rng.random() < self.section.habit_rate
            nodes = graph.blind_path(rng) if blind else graph.path
            if not held_out("stargraph", _key(graph)):
                texts.append((graph.prompt, ";".join(nodes)))
        return texts

    def check_steps(self, problem: Problem, text: str) -> list[bool]:
        """A node is right if it follows the node written before it on the path to the goal; the first one, if it is
        the center. A right step after a wrong one is right."""
        path = parse(problem.prompt).path
        after = dict(itertools.pairwise(path))
        nodes = _nodes(text)
        return [node == (after.get(nodes[i - 1]) if i else path[0]) for i, node in enumerate(nodes)]

    def value(self, problem: Problem, prefix: str) -> float:
        """1.0 if the nodes so far are those of the path, else 0.0: no arm leads back."""
        path, nodes = parse(problem.prompt).path, _nodes(prefix)
        return float(nodes == path[: len(nodes)])


def _nodes(text: str) -> list[str]:
    """The nodes of a response, without an empty last one (`10;37;`)."""
    nodes = text.strip().split(";")
    return nodes[:-1] if nodes[-1] == "" else nodes


SOURCE = Source("stargraph", StargraphProblems, load, World)
