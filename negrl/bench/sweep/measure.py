"""One point of a bench, done in a worker process: run its recipe, measure, leave one small JSON.

All points share the bench's store, so what several need (base model, start policy, samples, labels) is made
once. Nothing here loads torch before a point is worked on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from negrl import pipeline
from negrl.bench.sweep.frame import Stopwatch, TimedFrame, entry, seconds_of
from negrl.bench.sweep.points import (
    Given,
    Point,
    beyond,
    finished,
    judged_by,
    key_of,
    points,
    recipe_of,
    record_path,
    settings,
    settings_text,
)
from negrl.bench.sweep.schema import Bench
from negrl.errors import InputError
from negrl.methods import METHODS
from negrl.pipeline import ArmRun, learn
from negrl.pipeline.finish import gather
from negrl.pipeline.frame import Done, Frame, Policy
from negrl.preflight import Checked, preflight
from negrl.problems import load_problems, world_of
from negrl.progress import Reporter, SafeConsole
from negrl.recipe import Recipe, TrainSection
from negrl.records import CORRECT, Trace
from negrl.steps.split import split_steps
from negrl.store import write_atomic

Pair = tuple[list[int], list[int]]
Judged = dict[str, list[int]]
"""problem_id -> [samples, right ones, 1 if the greedy answer is right, right ones for pass@k]."""


def prepare(threads: int, log: str, parent: int) -> None:
    """Begin a worker: its threads before torch loads, its libraries' chatter into a file, its end with its parent's.

    Args:
        parent: process id of the bench.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(sink, 1)
    os.dup2(sink, 2)


def _end_with(parent: int) -> None:
    """A killed bench leaves nobody at work: the next one would share the cores and the stages with them."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def work(bench: Bench, point: Point, given: Given) -> None:
    """Do a point, unless it is done. Its log is points/<name>/log.txt, its result points/<name>.json.

    Raises:
        Exception: whatever went wrong, after its traceback was added to the log.
    """
    from filelock import FileLock

    watch = Stopwatch()
    folder = bench.folder / "points" / point.name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), (folder / "log.txt").open("a") as log:  # a killed bench's worker may still be here
        key = key_of(bench, point, given)
        if finished(bench, point, key):
            return
        try:
            _measure(bench, point, given, key, watch, Reporter(SafeConsole(file=log, width=160, highlight=False)))
        except BaseException:
            traceback.print_exc(file=log)
            raise


def _measure(bench: Bench, point: Point, given: Given, key: str, watch: Stopwatch, reporter: Reporter) -> None:
    from omegaconf import OmegaConf

    recipe = recipe_of(bench, point, given)
    text = OmegaConf.to_yaml(OmegaConf.create(recipe.model_dump(mode="json")))
    write_atomic(Path(recipe.output_dir) / "recipe.yaml", text.encode())
    checked = preflight(recipe)
    frame = TimedFrame(recipe, reporter)
    problems: Judged = {}
    try:
        base, _ = learn.base(frame, checked)
        if point.kind == "grid":
            row = _grid(bench, point, frame, checked, base)
        elif point.kind == "trial":
            row = _trial(bench, point, frame, checked)
        elif point.kind == "arm":
            row, problems = _arm(bench, point, given, frame, checked)
        else:
            row, problems = _reference(bench, point, given, frame, checked, base)
    finally:
        frame.close_engine()
    made = {done.key: done for done in reversed(frame.done)}  # as each was met first: new or found
    stages = [entry(done) for done in reversed(made.values())]
    record = {
        "key": key, "row": row, "problems": problems, "stages": stages,
        "seconds": watch.seconds, "wall_seconds": watch.wall,
    }  # fmt: skip
    write_atomic(record_path(bench, point), json.dumps(record).encode())


def _grid(bench: Bench, point: Point, frame: Frame, checked: Checked, base: Policy) -> dict[str, Any]:
    """One SFT training of the grid, on the validation problems."""
    checked = dataclasses.replace(checked, evaluate=validation(bench, frame.recipe))
    policy, trained = learn.start(frame, checked, base)
    assert trained is not None and point.choice is not None
    judged = learn.evaluate(frame, checked, policy, "validate")
    greedy, tried = _greedy(frame, checked, policy), dict(point.choice)
    return {
        "size": point.size, "seed": point.seed,
        "learning_rate": tried["learning_rate"], "epochs": tried["num_train_epochs"],
        "validation_pass_at_1": judged.info["summary"]["pass_at_1"],
        "validation_pass_at_k": _at_k(_counts(judged))[0],
        "validation_greedy": greedy.info["summary"]["pass_at_1"], "train_seconds": seconds_of(trained),
    }  # fmt: skip


def _trial(bench: Bench, point: Point, frame: Frame, checked: Checked) -> dict[str, Any]:
    """A method with one of its settings, on the validation problems."""
    checked = dataclasses.replace(checked, evaluate=validation(bench, frame.recipe))
    arm = pipeline.run_stages(frame, checked).arms[0]
    assert arm.evaluation is not None and point.choice is not None
    return {
        "arm": point.arm, "size": point.size, "seed": point.seed, "settings": settings_text(point.choice),
        "validation_pass_at_1": arm.evaluation.info["summary"]["pass_at_1"],
        "validation_greedy": _greedy(frame, checked, arm.policy).info["summary"]["pass_at_1"],
        "train_seconds": round(sum(seconds_of(done) for done in arm.trainings), 3),
    }  # fmt: skip


def validation(bench: Bench, recipe: Recipe) -> list[Any]:
    """Problems of the training stream that come after those of every size: no point trains on them.

    Raises:
        InputError: the source has too few.
    """
    assert recipe.problems is not None
    first, count = bench.plan.largest, bench.plan.validation
    found = load_problems(recipe.problems.model_copy(update={"train": first + count})).train[first:]
    if len(found) < count:
        raise InputError(f"bench.validation: {count} problems wanted after the first {first}, there are {len(found)}")
    return found


def _reference(
    bench: Bench, point: Point, given: Given, frame: Frame, checked: Checked, base: Policy
) -> tuple[dict[str, Any], Judged]:
    """The base model, the start policy, or the grid's winner (pass@k and greedy answers: of the winners there)."""
    policy, trained = (base, None) if point.kind == "base" else learn.start(frame, checked, base)
    judged = many = learn.evaluate(frame, checked, policy, f"{point.arm} · evaluate")
    if given.k_choice is not None:
        with _recipe(frame, recipe_of(bench, point, Given(choice=given.k_choice))):
            many = learn.evaluate(frame, checked, learn.start(frame, checked, base)[0], "pass@k · evaluate")
    with _recipe(frame, recipe_of(bench, point, Given(choice=given.greedy_choice or given.choice))):
        answering = policy if trained is None else learn.start(frame, checked, base)[0]
        greedy = _greedy(frame, checked, answering)
    row, problems = _judged(point, judged, greedy, many)
    _beside(bench, frame, checked, policy, row)
    row["note"] = given.note
    section = frame.recipe.policy.start
    if trained is not None and section is not None:
        row |= _trained([trained], section)
    if point.kind != "base":
        _mass(bench, point, frame, row, policy)
    return row, problems


def _arm(bench: Bench, point: Point, given: Given, frame: Frame, checked: Checked) -> tuple[dict[str, Any], Judged]:
    """A method at a size: the recipe's stages in order, all of its rounds."""
    record = pipeline.run_stages(frame, checked)
    arm = record.arms[0]
    assert arm.evaluation is not None
    cost = gather(frame, record, with_traces=False).arms[0]
    row, problems = _judged(point, arm.evaluation, _greedy(frame, checked, arm.policy), arm.evaluation)
    _beside(bench, frame, checked, arm.policy, row)
    row |= _trained(arm.trainings, arm.section) | {"note": given.note}
    row |= {"generated_tokens": cost.generated_tokens, "label_tokens": cost.label_tokens}
    row["seconds"] = round(sum({done.key: seconds_of(done) for done in _paid(arm)}.values()), 3)
    if METHODS[arm.section.method].reads_traces:
        drawn = sum(data.sampled.info["traces"] for data in arm.rounds if data.sampled is not None)
        row["samples_n"] = round(drawn / (point.size * len(arm.rounds)), 2) if arm.spending else frame.recipe.sample.n
    _mass(bench, point, frame, row, arm.policy)
    return row, problems


def _paid(arm: ArmRun) -> list[Done]:
    """The stages that an arm needs, from sampling to training: labels only where its method reads them."""
    found: list[Done | None] = [*arm.own_views, *arm.views, *arm.trainings]
    for data in arm.rounds:
        found += [data.sampled, data.verified]
        found += [data.valued, data.credited] if METHODS[arm.section.method].reads_values else []
    return [done for done in found if done is not None]


def _greedy(frame: Frame, checked: Checked, policy: Policy) -> Done:
    """The problems of `checked` once more, one greedy answer each."""
    assert frame.recipe.evaluate is not None
    section = frame.recipe.evaluate.model_copy(update={"temperature": 0.0, "n": 1})
    with _recipe(frame, frame.recipe.model_copy(update={"evaluate": section})):
        return learn.evaluate(frame, checked, policy, "greedy")


def _beside(bench: Bench, frame: Frame, checked: Checked, policy: Policy, row: dict[str, Any]) -> None:
    """The policy at its best temperature, and on the problems of `bench.beyond`, if the bench asks for them."""
    recipe = frame.recipe
    assert recipe.evaluate is not None
    if bench.plan.temperatures:
        others = dataclasses.replace(checked, evaluate=validation(bench, recipe))
        tried = {0.0: 1, 1.0: recipe.evaluate.n} | dict.fromkeys(bench.plan.temperatures, recipe.evaluate.n)
        found = {t: _at(frame, others, policy, t, n, "validate") for t, n in sorted(tried.items())}
        best = max(found, key=lambda t: found[t])
        row["best_temperature"], row["at_best"] = best, _at(frame, checked, policy, best, tried[best], "evaluate")
    if bench.plan.beyond:
        longer = beyond(recipe, bench)
        assert longer.problems is not None
        others = dataclasses.replace(checked, evaluate=load_problems(longer.problems).evaluate)
        with _recipe(frame, longer):
            row["beyond"] = learn.evaluate(frame, others, policy, "beyond").info["summary"]["pass_at_1"]


def _at(frame: Frame, checked: Checked, policy: Policy, temperature: float, n: int, title: str) -> float:
    """pass@1 of n samples at a temperature."""
    assert frame.recipe.evaluate is not None
    section = frame.recipe.evaluate.model_copy(update={"temperature": temperature, "n": n})
    with _recipe(frame, frame.recipe.model_copy(update={"evaluate": section})):
        return float(
            learn.evaluate(frame, checked, policy, f"{title} at T={temperature:g}").info["summary"]["pass_at_1"]
        )


@contextmanager
def _recipe(frame: Frame, recipe: Recipe) -> Iterator[None]:
    """Another recipe for a while."""
    usual, frame.recipe = frame.recipe, recipe
    try:
        yield
    finally:
        frame.recipe = usual


def _judged(point: Point, judged: Done, greedy: Done, many: Done) -> tuple[dict[str, Any], Judged]:
    """What evaluations of the same problems say, for pass@1, at T=0 and for pass@k, as columns of points.csv and by
    problem."""
    summary, right, right_k = judged.info["summary"], _counts(greedy), _counts(many)
    found = {problem: [*counts, right[problem][1], right_k[problem][1]] for problem, counts in _counts(judged).items()}
    at_k, k = _at_k(right_k)
    share = summary["spurious_share"]
    row = {
        "arm": point.arm, "method": "", "rounds": 0, "size": point.size, "seed": point.seed,
        "pass_at_1": summary["pass_at_1"], "pass_at_k": at_k, "k": k,
        "greedy": greedy.info["summary"]["pass_at_1"], "spurious_share": summary["spurious_share"],
        "generated_tokens": 0, "label_tokens": 0, "train_seconds": 0.0, "seconds": 0.0,
        "maj_at_k": _majority(judged), "verified": None if share is None else summary["pass_at_1"] * (1 - share),
    }  # fmt: skip
    return row, found


def _majority(judged: Done) -> float:
    """maj@n of an evaluation. Wrong answers agree where their texts do."""
    from negrl.evaluate.scores import majority  # loads numpy

    votes: dict[str, list[int | None]] = {}
    wrong: dict[str, int] = {}
    for trace in judged.stage.iterate("traces", Trace):
        vote = None if trace.answer is None else wrong.setdefault(trace.answer, len(wrong) + 1)
        votes.setdefault(trace.problem_id, []).append(0 if trace.verdict == CORRECT else vote)
    return math.fsum(majority(cast) for cast in votes.values()) / len(votes)


def _counts(judged: Done) -> Judged:
    """problem_id -> [samples, right ones] of an evaluation."""
    found: Judged = {}
    for trace in judged.stage.iterate("traces", Trace):
        counts = found.setdefault(trace.problem_id, [0, 0])
        counts[0] += 1
        counts[1] += trace.verdict == CORRECT
    return found


def _at_k(counts: Judged) -> tuple[float, int]:
    """pass@k and its k, the fewest samples of a problem."""
    from negrl.evaluate.metrics import pass_at_k

    k = min(n for n, _ in counts.values())
    return math.fsum(pass_at_k(n, c, k) for n, c in counts.values()) / len(counts), k


def _trained(trainings: list[Done], section: TrainSection) -> dict[str, Any]:
    """Columns about the trainings of a point, one a round."""
    said = []
    for round_, done in enumerate(trainings, start=1):
        facts = json.loads((done.stage.path / "fit.json").read_text())["guard"] or {}
        if facts.get("stopped"):
            said.append(f"round {round_}: {facts['stopped']}" if len(trainings) > 1 else facts["stopped"])
    rate, epochs = settings(section)
    seconds = round(sum(seconds_of(done) for done in trainings), 3)
    return {
        "method": section.method, "rounds": len(trainings), "learning_rate": rate, "epochs": epochs,
        "train_seconds": seconds, "seconds": seconds, "guard": "; ".join(said),
    }  # fmt: skip


def _mass(bench: Bench, point: Point, frame: Frame, row: dict[str, Any], policy: Policy) -> None:
    """How much probability spurious steps have: the mean over wrong steps inside the start policy's right answers
    of exp(sum of log p of the step's tokens), under the start policy and under the point's.

    An `sft` point of a size that no arm has is judged by the steps of the arms' largest start policy."""
    size = judged_by(bench, point.size)
    start = next(p for p in points(bench) if (p.kind, p.size, p.seed) == ("start", size, point.seed))
    recipe = recipe_of(bench, start)
    checked = preflight(recipe)
    with _recipe(frame, recipe):
        base, _ = learn.base(frame, checked)
        begin, _ = learn.start(frame, checked, base)
        judged = learn.evaluate(frame, checked, begin, "start · evaluate")
        pairs = spurious_steps(frame, checked, begin, judged, bench.plan.spurious_steps)
        if not pairs:
            _note(row, "no wrong step inside the start policy's right answers")
            return
        for column, who in (("mass_before", begin), ("mass_after", policy)):
            scored = frame.engine(who).score(pairs)
            row[column] = math.fsum(math.exp(math.fsum(step)) for step in scored) / len(pairs)
    if size != point.size:
        _note(row, f"mass: on the steps of the start policy of size {size}")


def _note(row: dict[str, Any], text: str) -> None:
    row["note"] = "; ".join(filter(None, [row["note"], text]))


def spurious_steps(frame: Frame, checked: Checked, policy: Policy, judged: Done, most: int) -> list[Pair]:
    """(prompt and prefix, step) as token ids: wrong steps inside right answers, by the world's exact checker.
    A trace that we split into more or fewer steps than the checker is left out."""
    world = world_of(frame.recipe.problems)
    if world is None:
        return []
    tokenizer, problems = frame.tokenizer(policy), checked.by_id
    pairs: list[Pair] = []
    for trace in judged.stage.iterate("traces", Trace):
        if trace.verdict != CORRECT or not trace.meta.get("has_wrong_step"):
            continue
        spans = split_steps(trace.token_ids, tokenizer, frame.recipe.label)
        right = world.check_steps(problems[trace.problem_id], trace.text)
        if len(spans) != len(right):
            continue
        for span, is_right in zip(spans, right, strict=True):
            if not is_right:
                before = [*trace.prompt_token_ids, *trace.token_ids[: span.start]]
                pairs.append((before, trace.token_ids[span.start : span.end]))
    return pairs[:most]
