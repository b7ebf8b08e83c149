"""`negrl bench label-cost`: what do step labels cost, and how good are they for it?

    negrl bench label-cost recipes/bench/label-cost.yaml --out docs/results/label-cost

The recipe is run as any other. Then every policy of it (the base model, the start policy, each arm's last)
writes traces of the held-out problems; the exact value of each of their prefixes is worked out; every labeler
labels the same traces; and what it says is held against the truth. Everything is kept in the run's store, so
the command may be stopped and started again, and a second run measures only what has changed.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from negrl.bench.labels.grow import grow
from negrl.bench.labels.metrics import FIELDS, table, tally
from negrl.bench.labels.page import write
from negrl.bench.labels.replay import ReplayEngine
from negrl.bench.labels.results import LabelCost, Measured, Overhead, PolicyCost, Settings, default_rollouts, name_of
from negrl.bench.stats import resamples
from negrl.errors import InputError
from negrl.locks import locked
from negrl.pipeline import RunRecord, run
from negrl.pipeline.finish import hardware, versions
from negrl.pipeline.frame import Frame
from negrl.progress import Reporter
from negrl.recipe import LabelSection, Recipe, load_recipe
from negrl.records import CORRECT, Step
from negrl.verify.extract import text_before

if TYPE_CHECKING:
    from negrl.bench.labels.stages import Subject


def main(
    recipe: Path, overrides: list[str], out: Path, settings: Settings | None = None, reporter: Reporter | None = None
) -> LabelCost:
    """Measure, write `out`.md, .csv and .png, print the table.

    Raises:
        InputError: the recipe is wrong, or its sampling is not what exact values are of.
    """
    checked = load_recipe(recipe, overrides)
    _check(checked)

    settings, reporter = settings or Settings(), reporter or Reporter()
    record = run(checked, reporter)
    assert record is not None
    frame = Frame(checked, reporter)
    with locked(Path(checked.output_dir), "output_dir", "negrl bench"):
        try:
            found = _measure(frame, record, settings)
        finally:
            frame.close_engine()
    found = replace(found, command=" ".join(["negrl bench label-cost", str(recipe), *overrides, "--out", str(out)]))
    for path in write(found, out, reporter):
        reporter.say(f"  {path}")
    return found


def _check(recipe: Recipe) -> None:
    """Raises InputError unless the true values are of just what the engine draws."""
    sample = recipe.sample
    if (sample.temperature, sample.top_p, sample.top_k, sample.stop) != (1.0, 1.0, 0, []) or recipe.label.stop:
        raise InputError("bench label-cost: true values are of sampling at temperature 1, top_p 1, no top_k, no stop")
    if recipe.label.max_tokens is not None or getattr(recipe.label, "best_of", 1) != 1:
        raise InputError("bench label-cost: leave label.max_tokens and label.best_of at their defaults")
    if recipe.problems is None or recipe.problems.source != "chain":
        raise InputError("bench label-cost: expected problems.source: chain, whose small policies can be enumerated")
    if recipe.engine.kind != "transformers" or recipe.policy.dtype != "float32":
        raise InputError("bench label-cost: expected engine.kind: transformers and policy.dtype: float32")


def ladder(recipe: Recipe, settings: Settings) -> list[tuple[str, int, LabelSection]]:
    """Every labeler to compare, and its budget. The most rollouts come first: what asks for fewer finds them drawn."""
    section = recipe.label
    text = getattr(section, "belief", None) or text_before(recipe.verify.extract)
    like = section.with_labeler

    peers = [("fixed", k) for k in sorted(settings.fixed, reverse=True)]
    peers += [("bisect", settings.bisect), ("first_zero", settings.first_zero)]
    found = [(labeler, k, like(labeler, k=k)) for labeler, k in peers]
    found += [("belief", 0, like("belief", belief=text)), ("oracle", 0, like("oracle"))]
    for n in sorted({*settings.adaptive, default_rollouts(recipe)}, reverse=True):
        limits = {"max_rollouts": n} if n else {"max_rollouts": 1, "budget_tokens": 0}
        found += [("adaptive", n, like("adaptive", **limits))]
        found += [("blind", n, like("adaptive", step_chances=False, **limits))]
    return found


def _measure(frame: Frame, record: RunRecord, settings: Settings) -> LabelCost:
    from negrl.bench.labels import stages  # loads torch

    recipe = frame.recipe
    policies = {"base": record.base, "start": record.start, **{arm.name: arm.policy for arm in record.arms}}
    if recipe.policy.start is None:
        del policies["start"]
    problems = [p.problem_id for p in record.checked.evaluate]
    draws = resamples(len(problems), settings.bootstrap, recipe.seed)
    subjects = [stages.subject(frame, record.checked, name, policy) for name, policy in policies.items()]
    costs = []
    for who in subjects:
        found = len(who.labelled(recipe.label))
        if not found:
            low, high = recipe.label.value_band
            raise InputError(
                f"{who.name}: none of the {len(problems)} held-out problems has V_0 in {low:g}-{high:g}; "
                "raise problems.evaluate, or widen label.value_band"
            )
        costs.append(_policy_cost(frame, who, settings, problems))
        if found < settings.traces:
            frame.reporter.say(f"{who.name}: {found} traces, {settings.traces} wanted; raise problems.evaluate")
    timed = subjects[min(1, len(subjects) - 1)]
    frame.close_engine()
    return LabelCost(
        recipe=recipe, settings=settings, policies=costs, draws=draws, overheads=_overheads(frame, timed, settings),
        hardware=hardware(), versions=versions(),
    )  # fmt: skip


def _policy_cost(frame: Frame, who: Subject, settings: Settings, problems: list[str]) -> PolicyCost:
    """The truth and every labeler on one policy's traces."""
    from negrl.bench.labels import stages  # loads torch

    section = frame.recipe.label
    known = stages.truth(frame, who, settings.prune)
    checked = stages.check(frame, who, known, settings.check_prefixes, settings.check_rollouts)
    values, traces = stages.read_truth(known), who.labelled(section)
    engine = ReplayEngine(frame.engine(who.policy))
    measured = []
    for labeler, budget, setting in ladder(frame.recipe, settings):
        done = stages.label(frame, who, setting, name_of(labeler, budget), engine)
        steps: dict[str, list[Step]] = {}
        for step in done.stage.iterate("steps", Step):
            steps.setdefault(step.trace_id, []).append(step)
        tallies: dict[str, list[dict[str, float]]] = {}
        for trace in traces:
            own = steps[trace.trace_id]
            chances = [math.exp(math.fsum((trace.logprobs or [])[s.start : s.end])) for s in own]
            one = tally(own, values[trace.trace_id], chances, trace.verdict or "", section)
            tallies.setdefault(trace.problem_id, []).append(one)
        for spent in done.stage.iterate("spent", stages.Spent):
            cost = {"tokens": spent.tokens, "rollouts": spent.rollouts}
            tallies[spent.problem_id].append(dict.fromkeys(FIELDS, 0.0) | cost)
        measured.append(Measured(labeler, budget, table(tallies, problems)))
    sampled = who.read()
    return PolicyCost(
        name=who.name, accuracy=sum(t.verdict == CORRECT for t in sampled) / len(sampled), traces=len(traces),
        wrong=sum(t.verdict != CORRECT for t in traces), problems=len({t.problem_id for t in traces}),
        truth=known.info, check=checked.info, measured=measured,
    )  # fmt: skip


def _overheads(frame: Frame, who: Subject, settings: Settings) -> list[Overhead]:
    """fixed and adaptive, live, with the policy and with the same policy in a larger body."""
    from tempfile import TemporaryDirectory

    from negrl.bench.labels import stages  # loads torch

    section, rollouts = frame.recipe.label, default_rollouts(frame.recipe)
    labelers = {
        name_of("fixed", settings.overhead_k): section.with_labeler("fixed", k=settings.overhead_k),
        name_of("adaptive", rollouts): section.with_labeler("adaptive", max_rollouts=rollouts),
    }
    rows = []
    with TemporaryDirectory() as folder:
        for size in ((None, None), (settings.large_hidden, settings.large_layers)):
            model = Path(folder) / str(size[0] or "own")
            parameters = grow(who.policy.model, model, *size)
            for name, own in labelers.items():
                done = stages.overhead(frame, who, own, name, str(model), parameters, settings.overhead_problems)
                rows.append(Overhead(**{f.name: done.info[f.name] for f in fields(Overhead)}))
    return rows
