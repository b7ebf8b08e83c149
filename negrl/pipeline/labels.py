"""The stages that make traces into training tables: value the steps, credit them, build views."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from negrl.pipeline.frame import Done, Frame, Policy
from negrl.pipeline.traces import chunks, draw, drawing, judge, prompting
from negrl.policy import context_length, encode_prompt, encode_response
from negrl.preflight import Checked, problems_key
from negrl.progress import StageBar, thousands
from negrl.records import (
    CORRECT,
    STEP_LABELS,
    Rollout,
    Sampling,
    Step,
    Trace,
    stable_id,
)
from negrl.store import Stage
from negrl.trainers.methods import Method

if TYPE_CHECKING:
    from negrl.recipe import LabelSection


def value(frame: Frame, checked: Checked, policy: Policy, verified: Done, title: str, needed: bool) -> Done:
    """Steps with their values: counts, estimates, intervals. Where nearly all compute goes: so where no
    arm reads values (`needed` is false), the traces are split into steps and no more."""
    section = frame.recipe.label
    if not needed:
        section = section.model_copy(update={"labeler": "none"})

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.problems import world_of
        from negrl.steps.driver import label_traces
        from negrl.steps.labelers import open_labeler
        from negrl.steps.values import prompt_values
        from negrl.verify import Verifier

        problems = checked.by_id
        world = world_of(frame.recipe.problems)
        verifier = Verifier(frame.recipe.verify)
        traces = verified.stage.read("traces", Trace)
        by_problem: dict[str, list[Trace]] = {}
        for trace in traces:
            by_problem.setdefault(trace.problem_id, []).append(trace)
        shards = chunks(list(by_problem.values()), stage.pinned("shard_size", section.shard_size))
        bar.total(len(shards))
        engine = frame.engine(policy) if section.labeler == "fixed" else None
        imported = any(trace.engine == "imported" for trace in traces)
        for index, groups in enumerate(shards):
            # Somebody else's traces say nothing about this policy's chance from the prompt: ask the policy.
            if imported and engine is not None and not stage.has("prompts", index):
                drawn = draw(
                    frame, policy, [problems[group[0].problem_id] for group in groups], n=section.k, round_=0,
                    seed=section.seed, temperature=frame.recipe.sample.temperature,
                    max_tokens=frame.recipe.sample.max_tokens, bar=bar,
                )  # fmt: skip
                stage.write("prompts", index, Trace, [judge(verifier, t, problems[t.problem_id]) for t in drawn])
        v0 = prompt_values(stage.read("prompts", Trace) or traces, section.confidence)
        for index, groups in enumerate(shards):
            if not (stage.has("steps", index) and stage.has("rollouts", index)):
                result = label_traces(
                    problems,
                    [t for group in groups for t in group],
                    frame.tokenizer(policy),
                    section,
                    open_labeler(section, world.value if world else None),
                    engine,
                    verifier.verify,
                    frame.recipe.sample,
                    bar.add_tokens,
                    v0,
                    context_length(policy.model, frame.recipe.policy),
                )
                stage.write("rollouts", index, Rollout, result.rollouts)
                stage.write("steps", index, Step, result.steps)
            bar.advance()
        # Counted from the rows, so that a run that was killed on the way says the same.
        rollouts, tokens = stage.sizes("rollouts", "token_ids")
        tokens += stage.sizes("prompts", "token_ids")[1]
        steps = counted = 0
        labelled: set[str] = set()
        for step in stage.iterate("steps", Step):
            steps, counted = steps + 1, counted + step.n
            if not math.isnan(step.advantage):
                labelled.add(step.trace_id)
        bar.note(f"{steps:,} steps")
        if section.labeler != "none":
            low, high = section.value_band
            bar.note(f"{len(labelled):,} of {len(traces):,} traces valued (right or wrong, V_0 in {low:g}-{high:g})")
        if counted:
            bar.note(f"{thousands(tokens)} rollout tokens")
            bar.note(f"{1 - rollouts / counted:.0%} of the counts shared by equal prefixes")
        return {"generated_tokens": tokens, "rollouts": rollouts, "steps": steps, "labelled": len(labelled)}

    inputs = {"traces": verified.key, "policy": policy.key, "label": _value_settings(section)}
    if section.labeler == "fixed":
        inputs |= {"sample": frame.recipe.sample.model_dump(include={"temperature", "max_tokens"}), **drawing(frame)}
    return frame.run("value", title, inputs, work)


def _value_settings(section: LabelSection) -> dict[str, Any]:
    """The settings that the steps and their values depend on, and no others: rollouts are dear."""
    read = {"labeler", "split", "min_chars", "max_steps"}
    read |= {"pattern"} if section.split == "pattern" else set()
    read |= {"value_band", "confidence"} if section.labeler != "none" else set()
    read |= {"k", "max_tokens", "seed"} if section.labeler == "fixed" else set()
    return section.model_dump(include=read)


def credit(frame: Frame, verified: Done, valued: Done, title: str) -> Done:
    """Labels on the steps: good, bad, pit, spurious. Cheap: redone when only the dead zone changes."""
    section = frame.recipe.label

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.steps.credit import relabel

        verdicts = {t.trace_id: t.verdict for t in verified.stage.iterate("traces", Trace)}
        steps = relabel(valued.stage.read("steps", Step), verdicts, section)
        stage.write("steps", 0, Step, steps)
        counts = Counter(s.label for s in steps)
        bar.note(", ".join(f"{counts[label]:,} {label}" for label in STEP_LABELS if counts[label]))
        return {"labels": dict(counts)}

    inputs = {"value": valued.key, "label": section.model_dump(include={"dead_zone", "require_significance"})}
    return frame.run("credit", title, inputs, work)


@dataclasses.dataclass(frozen=True)
class Round:
    """One policy's labelled data. None where the arms need no traces."""

    sampled: Done | None = None
    verified: Done | None = None
    valued: Done | None = None
    credited: Done | None = None


def view(
    frame: Frame, checked: Checked, policy: Policy, data: Round, method: Method, fields: dict[str, Any], title: str
) -> Done:
    """A method's training table."""
    section = frame.recipe.label
    options, _ = method.split(fields)
    read = {name: getattr(options, name) for name in method.view_reads}
    max_length = fields.get("max_length") or context_length(policy.model, frame.recipe.policy)

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.steps.values import prompt_values
        from negrl.views import VIEWS, ViewInputs, build_view

        traces = data.verified.stage.read("traces", Trace) if data.verified else []
        by_trace: dict[str, list[Step]] = {}
        if method.reads_values and data.credited:
            for step in data.credited.stage.iterate("steps", Step):
                by_trace.setdefault(step.trace_id, []).append(step)
        prompts = data.valued.stage.read("prompts", Trace) if data.valued else []
        rollouts = method.view == "step_preference" and data.valued is not None
        inputs = ViewInputs(
            problems=checked.by_id,
            solutions=solutions(frame, checked, policy) if method.view == "sft" else [],
            traces=traces,
            steps=by_trace,
            rollouts=data.valued.stage.read("rollouts", Rollout) if rollouts and data.valued else [],
            v0={k: v.value for k, v in prompt_values(prompts or traces, section.confidence).items()},
            label=section,
            max_length=max_length,
            tokenizer=frame.tokenizer(policy),
        )
        built = build_view(method.view, inputs, options)
        stage.write(method.view, 0, VIEWS[method.view].row_type, built.rows)
        bar.note(", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in built.counts.items() if v))
        return {"counts": built.counts, "rows": len(built.rows)}

    if method.view == "sft":
        source: Any = {"problems": problems_key(checked.train), "policy": policy.key, **prompting(frame)}
    else:
        assert data.verified is not None
        source = {"traces": data.verified.key}
    if method.reads_values and data.credited and data.valued:
        credit_settings = {"dead_zone", "require_significance", "after_pit", "value_band", "confidence"}
        source |= {"credit": data.credited.key, "label": section.model_dump(include=credit_settings)}
    inputs = {"view": method.view, "options": read, "max_length": max_length, **source}
    return frame.run("view", title, inputs, work)


def solutions(frame: Frame, checked: Checked, policy: Policy) -> list[Trace]:
    """The reference solutions of the training problems as traces of nobody's policy."""
    tokenizer = frame.tokenizer(policy)
    return [
        Trace(
            trace_id=stable_id("solution", problem.problem_id),
            problem_id=problem.problem_id,
            round=0,
            sample_index=0,
            policy="reference",
            engine="reference",
            sampling=Sampling(),
            prompt_token_ids=encode_prompt(tokenizer, problem, frame.recipe.policy),
            token_ids=encode_response(tokenizer, problem.solution),
            logprobs=None,
            text=problem.solution,
            finish_reason="imported",
            verdict=CORRECT,
        )
        for problem in checked.train
        if problem.solution is not None
    ]
