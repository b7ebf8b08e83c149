"""`negrl bench free-labels`: what are labels without a single rollout worth, when siblings share facts but not words?

First with a policy whose values are known exactly (scripted.py), for several ways to word a line: the error of values
and advantages by siblings with equal tokens (`label.merge: tokens`), by siblings with equal facts (`facts`), and by K
rollouts after every step. Then with solutions that models wrote (GSM8K): how often another solution of the same
problem is in the same state.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from negrl.bench.labels.metrics import Bounds, tally
from negrl.bench.labels.replay import ReplayEngine
from negrl.bench.labels.scripted import ScriptedEngine, ScriptedPolicy
from negrl.bench.page import Column, a_number, a_whole, render, to_csv, write_files
from negrl.bench.stats import CONFIDENCE, interval, resamples
from negrl.bench.verify import GSM8K_COLUMNS
from negrl.engines.base import Request
from negrl.engines.section import SampleSection
from negrl.files import read_rows
from negrl.labelers import open_labeler
from negrl.labeling.driver import label_traces
from negrl.labeling.rollouts import Tools
from negrl.pipeline.finish import hardware
from negrl.policy import BuildSection, build_tokenizer
from negrl.problems.base import draw_problems
from negrl.problems.ledger.draw import Story, draw
from negrl.problems.ledger.line import WORDINGS
from negrl.problems.ledger.section import LedgerProblems
from negrl.problems.ledger.world import World
from negrl.progress import Reporter
from negrl.recipe import LabelSection
from negrl.records import CORRECT, Problem, Sampling, Step, Trace, stable_id, stable_seed
from negrl.sampling import judge
from negrl.steps.credit import in_band
from negrl.steps.facts import passed, read_facts, states
from negrl.steps.values import prompt_values
from negrl.verify import Verifier
from negrl.verify.section import VerifySection

GSM8K = "gsm8k_example_model_solutions.jsonl.gz"
_FIELDS = ("traces", "tokens", "steps", "squares", "places", "value_squares", "intervals", "covered")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, and on how much."""

    wordings: tuple[int, ...] = (1, WORDINGS)
    """Ways to word a line."""
    fixed: tuple[int, ...] = (4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    problems: int = 24
    """Of each seed."""
    samples: int = 16
    steps: tuple[int, int] = (3, 5)
    habit_rate: float = 0.2
    bootstrap: int = 1000


@dataclass(frozen=True)
class Arm:
    """A way to label. `words`: what the page calls it; `by_world`: the world says what the facts are."""

    name: str
    words: str
    labeler: str
    options: dict[str, Any]
    by_world: bool = False


def arms(settings: Settings) -> list[Arm]:
    found = [Arm(f"fixed-{k}", f"`fixed`, K = {k}", "fixed", {"k": k}) for k in sorted(settings.fixed, reverse=True)]
    for chances, where in ((True, ""), (False, ", step chances unknown")):
        for merge in ("tokens", "facts"):
            name = f"{merge}{'' if chances else '-blind'}"
            words = f"no rollouts, `merge: {merge}`{where}"
            options = {"budget_tokens": 0, "merge": merge, "step_chances": chances}
            found.append(Arm(name, words, "adaptive", options))
    blind = {"budget_tokens": 0, "merge": "facts", "step_chances": False}
    found.append(Arm("world-blind", "the same, facts by the world's checker", "adaptive", blind, by_world=True))
    return found


@dataclass(frozen=True)
class Measured:
    """One arm with so many wordings. `sums`: [problems of all seeds, _FIELDS]; `discounts`: one a seed."""

    arm: Arm
    wordings: int
    sums: np.ndarray
    discounts: list[float]

    def of(self, what: str, sums: np.ndarray) -> np.ndarray:
        at = {name: sums[..., i] for i, name in enumerate(_FIELDS)}
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "tokens": lambda: at["tokens"] / at["traces"],
                "rmse": lambda: np.sqrt(at["squares"] / at["steps"]),
                "rmse_value": lambda: np.sqrt(at["value_squares"] / at["places"]),
                "coverage": lambda: at["covered"] / at["intervals"],
            }[what]()

    def row(self, draws: np.ndarray) -> dict[str, Any]:
        """A row of the CSV."""
        discount = statistics.mean(self.discounts) if self.discounts else float("nan")
        row = {"wordings": self.wordings, "labels": self.arm.name, "traces": int(self.sums[:, 0].sum())}
        for what in _MEASURES:
            low, high = interval(self.of(what, draws @ self.sums))
            row |= {what: float(self.of(what, self.sums.sum(axis=0))), f"{what}_low": low, f"{what}_high": high}
        return {**row, "discount": discount}


_MEASURES = ("tokens", "rmse", "rmse_value", "coverage")
COLUMNS = (
    Column("wordings", a_whole), Column("labels"), Column("traces", a_whole),
    *(Column(what + end, a_number, "{:.6g}".format) for what in _MEASURES for end in ("", "_low", "_high")),
    Column("discount", a_number, "{:.6g}".format),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shared:
    """Places (ends of all lines but the last) in solutions by models, and those where another solution of the problem
    has the same tokens (here: characters) up to there, or has worked out the same. `empty` places, before the first
    fact, are in `places`, but no solution shares them by facts."""

    problems: int
    solutions: int
    places: int
    empty: int
    by_words: int
    by_facts: int


def main(
    data: Path, out: Path, settings: Settings | None = None, reporter: Reporter | None = None
) -> list[dict[str, Any]]:
    """Measure, write `out`.md and .csv. Returns the rows of the CSV.

    Raises:
        InputError: the GSM8K solutions are not in the folder `data`.
    """
    settings, reporter = settings or Settings(), reporter or Reporter()
    shared = share_of_states(data / GSM8K)
    reporter.say(f"GSM8K: {shared.by_facts:,} of {shared.places:,} places share their facts, {shared.by_words:,} words")
    draws = resamples(len(settings.seeds) * settings.problems, settings.bootstrap, 0)
    rows = []
    for wordings in settings.wordings:
        for measured in _measure(settings, wordings, reporter):
            rows.append({**measured.row(draws), "words": measured.arm.words})
    page = render(
        "free-labels.md", command=shlex.join(["negrl", "bench", "free-labels", "--out", str(out)]), out=out.name,
        hardware=hardware(), settings=settings, shared=shared, rows=rows, CONFIDENCE=CONFIDENCE,
    )  # fmt: skip
    for path in write_files(out, {".md": page.encode(), ".csv": to_csv(COLUMNS, rows)}):
        reporter.say(f"  {path}")
    return rows


def _measure(settings: Settings, wordings: int, reporter: Reporter) -> list[Measured]:
    """All arms, on the same traces, of all seeds."""
    chosen = arms(settings)
    sums: dict[str, list[np.ndarray]] = {arm.name: [] for arm in chosen}
    discounts: dict[str, list[float]] = {arm.name: [] for arm in chosen}
    for seed in settings.seeds:
        setup = Setup.of(settings, wordings, seed)
        for arm in chosen:
            table, discount = setup.measure(arm)
            sums[arm.name].append(table)
            discounts[arm.name] += [] if discount is None else [discount]
        reporter.say(f"{wordings} wordings, seed {seed}: {len(setup.traces):,} traces")
    return [Measured(arm, wordings, np.concatenate(sums[arm.name]), discounts[arm.name]) for arm in chosen]


@dataclass
class Setup:
    """The traces of one seed's problems, judged, and what it takes to label them."""

    engine: ScriptedEngine
    problems: dict[str, Problem]
    traces: list[Trace]
    tools: Tools
    world: World

    @classmethod
    def of(cls, settings: Settings, wordings: int, seed: int) -> Setup:
        section = LedgerProblems(source="ledger", steps=settings.steps, people=max(8, settings.steps[1] + 4), seed=seed)
        stories = draw_problems(
            "ledger", seed, "evaluate", settings.problems, lambda rng: draw(rng, section), lambda s: s.plan.key
        )
        policy = ScriptedPolicy(section.habits, settings.habit_rate, wordings)
        tokenizer = build_tokenizer(BuildSection(tokenizer="char"), [*_alphabet(stories)])
        engine = ScriptedEngine(policy, stories, tokenizer)
        problems = []
        for story in stories:
            name, gold = stable_id("ledger", story.prompt), str(story.plan.values()[-1])
            problems.append(Problem(name, "ledger", "evaluate", "Apache-2.0", story.prompt, gold))
        verifier = Verifier(VerifySection(extract="hash"))
        sample = SampleSection(n=settings.samples, max_tokens=4096)
        traces = []
        for problem in problems:
            prompt = engine.encode(problem.prompt)
            request = Request(prompt, settings.samples, stable_seed("free", seed, problem.problem_id))
            for i, drawn in enumerate(engine.generate([request])[0]):
                name = stable_id(problem.problem_id, i)
                traces.append(
                    Trace(
                        name, problem.problem_id, 1, i, "scripted", "scripted", Sampling(max_tokens=4096), prompt,
                        drawn.token_ids, drawn.logprobs, drawn.text, drawn.finish_reason,
                    )
                )  # fmt: skip
        by_id = {p.problem_id: p for p in problems}
        judged = judge(verifier, traces, [by_id[t.problem_id].gold for t in traces])
        tools = Tools(tokenizer, verifier.verify, sample, ReplayEngine(engine))
        return cls(engine, by_id, judged, tools, World(section))

    def measure(self, arm: Arm) -> tuple[np.ndarray, float | None]:
        """Sums [problems, _FIELDS], and the discount that was learned."""
        section: LabelSection = LabelSection.model_validate({"labeler": arm.labeler, "split": "newline", **arm.options})
        labeler = open_labeler(section)
        tools = replace(self.tools, facts=self.world.facts) if arm.by_world else self.tools
        result = label_traces(self.problems, self.traces, section, labeler, tools)
        v0 = prompt_values(self.traces, section.confidence)
        steps: dict[str, list[Step]] = {}
        for step in result.steps:
            steps.setdefault(step.trace_id, []).append(step)
        rows = {problem: dict.fromkeys(_FIELDS, 0.0) for problem in self.problems}
        for rollout in result.rollouts:
            rows[rollout.problem_id]["tokens"] += len(rollout.token_ids)
        for trace in self.traces:
            if trace.problem_id in v0 and in_band(v0[trace.problem_id].value, section):
                for name, value in self._tally(trace, steps[trace.trace_id], section).items():
                    rows[trace.problem_id][name] += value
        return np.array([[row[name] for name in _FIELDS] for row in rows.values()]), getattr(labeler, "discount", None)

    def _tally(self, trace: Trace, own: list[Step], section: LabelSection) -> dict[str, float]:
        ends = [0, *(s.end for s in own[:-1])]
        values = [self.engine.value([*trace.prompt_token_ids, *trace.token_ids[:end]]) for end in ends]
        values.append(float(trace.verdict == CORRECT))
        chances = [float(np.exp(sum((trace.logprobs or [])[s.start : s.end]))) for s in own]
        sums = tally(own, [Bounds(v, v) for v in values], chances, trace.verdict or "", section)
        found = {name: sums[name] for name in ("traces", "steps", "squares", "intervals", "covered")}
        errors = [step.value - value for step, value in zip(own[:-1], values[1:-1], strict=True)]
        return {**found, "places": len(errors), "value_squares": sum(e * e for e in errors)}


def _alphabet(stories: Sequence[Story]) -> Iterator[str]:
    """Texts with all characters that may come."""
    yield from (story.prompt for story in stories)
    yield from (f"{step.head} {step.tail}" for story in stories for step in story.plan.steps)
    yield "0123456789+-*/=#,\nmax min So so together"


def share_of_states(file: Path) -> Shared:
    """Of the solutions by four models to each GSM8K problem.

    Raises:
        InputError: the file is missing or not as published.
    """
    problems = solutions = places = empty = by_words = by_facts = 0
    for _, row in read_rows(file, "solutions"):
        texts = [str(row[name]["solution"]) for name in GSM8K_COLUMNS]
        problems, solutions = problems + 1, solutions + len(texts)
        facts = [read_facts(text, str(row["question"])) for text in texts]
        through = [passed(found) for found in facts]
        for i, text in enumerate(texts):
            ends = [at for at, character in enumerate(text) if character == "\n" and text[at:].strip()]
            for end, state in zip(ends, states(facts[i], ends), strict=True):
                others = [j for j in range(len(texts)) if j != i]
                places += 1
                empty += not state
                by_words += any(texts[j].startswith(text[: end + 1]) for j in others)
                by_facts += bool(state) and any(state in through[j] for j in others)
    return Shared(problems, solutions, places, empty, by_words, by_facts)
