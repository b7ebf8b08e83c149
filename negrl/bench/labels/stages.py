"""The stages of `negrl bench label-cost`, each kept in the run's store: true values, a check of them, the
labels of one labeler, and what the driver adds to the engine's time.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrl.bench.labels.metrics import Bounds
from negrl.bench.labels.replay import TimedEngine, TimedVerify
from negrl.bench.labels.results import NOT_UNCERTAIN
from negrl.bench.labels.truth import Writer, true_values
from negrl.engines import open_engine
from negrl.engines.base import Engine, Request
from negrl.labelers import open_labeler
from negrl.labeling.driver import LabelResult, label_traces
from negrl.labeling.rollouts import Tools, Verify, decoder
from negrl.pipeline import traces as tracing
from negrl.pipeline.frame import Done, Frame, Policy
from negrl.policy import context_length
from negrl.preflight import Checked
from negrl.progress import StageBar, thousands
from negrl.quiet import quiet
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, Rollout, Step, Trace, stable_seed
from negrl.steps.credit import in_band
from negrl.steps.split import Span, split_steps
from negrl.steps.values import prompt_values
from negrl.store import Stage, fingerprint
from negrl.verify import Verifier


@dataclass(frozen=True, slots=True)
class TrueValue:
    """V of a trace's prefix that ends with step `step_index` (-1: the prompt) lies in [low, high]."""

    trace_id: str
    step_index: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What one problem's labels cost."""

    problem_id: str
    tokens: int
    rollouts: int


@dataclass
class Subject:
    """A policy to label the traces of: its verified traces of every held-out problem."""

    name: str
    policy: Policy
    checked: Checked
    verified: Done

    def read(self) -> list[Trace]:
        return self.verified.stage.read("traces", Trace)

    def labelled(self, section: LabelSection) -> list[Trace]:
        """The traces that labelers label: decided, of problems whose V_0 is in the band."""
        traces = self.read()
        v0 = prompt_values(traces, section.confidence)
        inside = {p for p, v in v0.items() if in_band(v.value, section)}
        return [t for t in traces if t.problem_id in inside and t.verdict in (CORRECT, INCORRECT)]


def subject(frame: Frame, checked: Checked, name: str, policy: Policy) -> Subject:
    """Sample and judge the held-out problems, as the pipeline does with training problems."""
    held_out = dataclasses.replace(checked, train=checked.evaluate)
    sampled = tracing.sample(frame, held_out, policy, 1, f"{name} · sample")
    return Subject(name, policy, held_out, tracing.verify(frame, held_out, sampled, f"{name} · verify"))


def truth(frame: Frame, who: Subject, prune: float) -> Done:
    """Exact values of all traces that labelers label."""
    recipe = frame.recipe

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        import torch
        from transformers import AutoModelForCausalLM

        traces = who.labelled(recipe.label)
        spans = _spans(frame, who, traces)
        bar.total(len({t.problem_id for t in traces}))
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(who.policy.model, dtype=torch.float32).eval()
        verify, tokenizer = Verifier(recipe.verify).verify, frame.tokenizer(who.policy)
        writer = Writer(model, tokenizer, verify, recipe.sample.max_tokens, prune)
        found = true_values(writer, who.checked.by_id, traces, spans, bar.advance)
        rows = [
            TrueValue(trace.trace_id, i, bounds.low, bounds.high)
            for trace, values in zip(traces, found, strict=True)
            for i, bounds in enumerate(values, start=-1)
        ]
        stage.write("truth", 0, TrueValue, rows)
        halves = [(r.high - r.low) / 2 for r in rows]
        largest, mean = max(halves, default=0.0), sum(halves) / max(1, len(halves))
        bar.note(f"{len(rows):,} values, known to ±{mean:.4f} on average, ±{largest:.4f} at worst")
        return {"values": len(rows), "bound_max": largest, "bound_mean": mean}

    inputs = {
        "traces": who.verified.key, "policy": who.policy.key, "max_tokens": recipe.sample.max_tokens,
        "prune": prune, "label": recipe.label.model_dump(include=_SPLIT | {"value_band", "confidence"}),
        "verify": recipe.verify.model_dump(include={"extract"}), "code": _code("bench/labels/truth.py"),
    }  # fmt: skip
    return frame.run("truth", f"{who.name} · true values", inputs, work)


def read_truth(done: Done) -> dict[str, list[Bounds]]:
    """By trace id: the prompt's bounds, then each step's."""
    found: dict[str, list[Bounds]] = {}
    for row in done.stage.iterate("truth", TrueValue):
        found.setdefault(row.trace_id, []).append(Bounds(row.low, row.high))
    return found


def check(frame: Frame, who: Subject, known: Done, prefixes: int, rollouts: int) -> Done:
    """The true values of random uncertain prefixes against rollouts of the real engine, as z-scores."""
    recipe = frame.recipe

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        traces, values = who.labelled(recipe.label), read_truth(known)
        spans = _spans(frame, who, traces)
        found: dict[tuple[str, tuple[int, ...]], tuple[Trace, int, Bounds]] = {}
        for trace, cut in zip(traces, spans, strict=True):
            for end, bounds in zip([0, *(s.end for s in cut[:-1])], values[trace.trace_id], strict=False):
                if NOT_UNCERTAIN < bounds.value < 1 - NOT_UNCERTAIN:
                    found.setdefault((trace.problem_id, tuple(trace.token_ids[:end])), (trace, end, bounds))
        keys = random.Random(0).sample(sorted(found), min(prefixes, len(found)))
        verifier, engine = Verifier(recipe.verify), frame.engine(who.policy)
        decode = decoder(frame.tokenizer(who.policy))
        scores, beyond = [], []
        bar.total(len(keys))
        for key in keys:
            trace, end, bounds = found[key]
            head = trace.token_ids[:end]
            seed = stable_seed("truth-check", key)
            request = Request(trace.prompt_token_ids + head, rollouts, seed, recipe.sample.max_tokens - end)
            drawn = engine.generate([request])[0]
            gold = who.checked.by_id[trace.problem_id].gold
            said = [verifier.verify(decode(head + c.token_ids), gold, c.finish_reason) for c in drawn]
            share = sum(verdict.value == CORRECT for verdict in said) / len(drawn)
            chance = bounds.value
            error = (chance * (1 - chance) / len(drawn)) ** 0.5
            beyond.append(max(bounds.low - share, share - bounds.high, 0.0) / error)
            scores.append((share - chance) / error)
            bar.advance()
        worst = max(map(abs, scores), default=0.0)
        spread = (sum(z * z for z in scores) / max(1, len(scores))) ** 0.5
        bar.note(f"{len(scores)} prefixes x {rollouts:,} rollouts: z up to {worst:.1f}, root mean square {spread:.2f}")
        return {
            "prefixes": len(scores),
            "rollouts": rollouts,
            "z_max": worst,
            "z_rms": spread,
            "z": scores,
            "z_beyond": max(beyond, default=0.0),
        }

    inputs = {"truth": known.key, "prefixes": prefixes, "rollouts": rollouts, **tracing.drawing(frame)}
    return frame.run("truth-check", f"{who.name} · check by rollouts", inputs, work)


def label(frame: Frame, who: Subject, section: LabelSection, name: str, engine: Engine) -> Done:
    """The labels of one labeler, and what it spent on each problem. Kept per code of the labeler: labels made by
    another version of it are made again."""

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        traces, verifier = who.labelled(frame.recipe.label), Verifier(frame.recipe.verify)
        result, _ = _label(frame, who, who.read(), section, engine, verifier.verify, bar)
        tokens: Counter[str] = Counter()
        rollouts: Counter[str] = Counter()
        for rollout in result.rollouts:
            tokens[rollout.problem_id] += len(rollout.token_ids)
            rollouts[rollout.problem_id] += 1
        stage.write("spent", 0, Spent, [Spent(p, tokens[p], rollouts[p]) for p in sorted(rollouts)])
        ids = {t.trace_id for t in traces}
        stage.write("steps", 0, Step, [s for s in result.steps if s.trace_id in ids])
        bar.note(f"{len(traces):,} traces")
        bar.note(f"{result.counts.generated_tokens / max(1, len(traces)):.1f} tokens a trace")
        return {"traces": len(traces), "generated_tokens": result.counts.generated_tokens}

    inputs = {
        "traces": who.verified.key, "policy": who.policy.key, "label": section.model_dump(),
        "sample": frame.recipe.sample.model_dump(), **tracing.drawing(frame), "code": _labeler_code(section.labeler),
    }  # fmt: skip
    return frame.run("label-cost", f"{who.name} · {name}", inputs, work)


def overhead(
    frame: Frame, who: Subject, section: LabelSection, name: str, model: str, parameters: int, problems: int
) -> Done:
    """Wall time of labelling live, and how much of it is not the engine's. Storing the rows is part of it."""

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        chosen = list(dict.fromkeys(t.problem_id for t in who.labelled(frame.recipe.label)))[:problems]
        traces = [t for t in who.read() if t.problem_id in set(chosen)]
        engine = TimedEngine(open_engine(frame.recipe.engine, model, frame.recipe.policy))
        verify = TimedVerify(Verifier(frame.recipe.verify).verify)
        # The libraries load on first use: that is no cost of labelling.
        _label(frame, who, traces[:2], section, engine, verify, bar)
        engine.seconds = verify.seconds = 0.0
        result, seconds = _label(frame, who, traces, section, engine, verify, bar)
        start = time.perf_counter()
        stage.write("rollouts", 0, Rollout, result.rollouts)
        stage.write("steps", 0, Step, result.steps)
        storing = time.perf_counter() - start
        engine.close()
        wall = seconds + storing
        tokens = result.counts.generated_tokens
        outside = 1 - engine.seconds / wall
        bar.note(f"{thousands(tokens)} tokens in {wall:.1f} s, {outside:.1%} of it outside the engine")
        return {
            "labeler": name, "parameters": parameters, "traces": len(traces), "tokens": tokens,
            "wall": wall, "engine": engine.seconds, "verify": verify.seconds, "store": storing,
        }  # fmt: skip

    inputs = {
        "traces": who.verified.key, "label": section.model_dump(), "parameters": parameters, "problems": problems,
        "code": _labeler_code(section.labeler), **tracing.drawing(frame),
        "batch_size": frame.recipe.engine.model_dump()["batch_size"],
    }  # fmt: skip
    return frame.run("label-overhead", f"overhead · {name} · {thousands(parameters)} parameters", inputs, work)


def _label(
    frame: Frame, who: Subject, traces: list[Trace], section: LabelSection, engine: Engine, verify: Verify,
    bar: StageBar,
) -> tuple[LabelResult, float]:  # fmt: skip
    """One call for all traces, as in a run; and its wall time."""
    labeler = open_labeler(section, who.checked.oracle)
    context = context_length(who.policy.model, frame.recipe.policy)
    tools = Tools(
        frame.tokenizer(who.policy), verify, frame.recipe.sample, engine, context, on_tokens=bar.add_tokens,
        facts=who.checked.facts,
    )  # fmt: skip
    start = time.perf_counter()
    result = label_traces(who.checked.by_id, traces, section, labeler, tools)
    return result, time.perf_counter() - start


_SPLIT = {"split", "pattern", "min_chars", "max_steps"}


def _spans(frame: Frame, who: Subject, traces: list[Trace]) -> list[list[Span]]:
    tokenizer = frame.tokenizer(who.policy)
    return [split_steps(t.token_ids, tokenizer, frame.recipe.label) for t in traces]


@functools.cache
def _code(part: str) -> str:
    """A fingerprint of the source of a room or file of negrl, as it was when this process first asked."""
    root = Path(__file__).parents[2] / part
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    return fingerprint([file.read_text() for file in files])


@functools.cache
def _labeler_code(labeler: str) -> str:
    """A fingerprint of the source that a labeler's labels come from: another labeler's is no part of it."""
    shared = {"__init__", "base", "search", labeler}
    files = []
    house = Path(__file__).parents[2]
    for file in sorted(file for room in ("steps", "labelers", "labeling") for file in (house / room).rglob("*.py")):
        within = file.relative_to(house)  # labelers/fixed.py or labelers/adaptive/posterior.py
        others = within.parts[0] == "labelers" and within.with_suffix("").parts[1] not in shared
        if not (others or file.stem.startswith("equation")):
            files.append(file.read_text())
    return fingerprint(files)
