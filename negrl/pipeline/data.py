"""The data stages: sample or import traces, verify them, value and credit their steps, make views."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negrl.pipeline.frame import Done, Frame, Policy
from negrl.policy import context_length, encode_prompt, encode_response
from negrl.preflight import Checked, problems_key
from negrl.progress import StageBar, thousands
from negrl.records import (
    CORRECT,
    STEP_LABELS,
    UNDECIDED,
    Json,
    Problem,
    Rollout,
    Sampling,
    Step,
    Trace,
    stable_id,
    stable_seed,
)
from negrl.store import Stage
from negrl.trainers.methods import Method

if TYPE_CHECKING:
    from negrl.verify import Verifier


def sampling_request_parts(frame: Frame) -> dict[str, Any]:
    """What the recipe says about drawing traces; without the shard size, which changes no row."""
    return frame.recipe.sample.model_dump(exclude={"shard_size"})


def draw(
    frame: Frame, policy: Policy, problems: Sequence[Problem], *, n: int, round_: int, seed: int,
    temperature: float, max_tokens: int, bar: StageBar,
) -> list[Trace]:  # fmt: skip
    """`n` traces of each problem from the policy's engine. Each request's seed comes from the problem,
    so a trace does not depend on the shard that it travels in."""
    from negrl.engines import Request

    engine, tokenizer, section = frame.engine(policy), frame.tokenizer(policy), frame.recipe.sample
    requests = [
        Request(
            prompt_token_ids=encode_prompt(tokenizer, problem, frame.recipe.policy),
            n=n,
            seed=stable_seed("sample", seed, round_, problem.problem_id),
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=section.top_p,
            top_k=section.top_k,
            stop=tuple(section.stop),
        )
        for problem in problems
    ]
    traces = []
    for problem, request, drawn in zip(problems, requests, engine.generate(requests, bar.add_tokens), strict=True):
        sampling = Sampling(temperature, section.top_p, section.top_k, request.seed, max_tokens)
        for index, completion in enumerate(drawn):
            traces.append(
                Trace(
                    trace_id=stable_id(policy.key, problem.problem_id, round_, seed, index),
                    problem_id=problem.problem_id,
                    round=round_,
                    sample_index=index,
                    policy=policy.key,
                    engine=engine.name,
                    sampling=sampling,
                    prompt_token_ids=request.prompt_token_ids,
                    token_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    text=completion.text,
                    finish_reason=completion.finish_reason,
                )
            )
    return traces


def sample(frame: Frame, checked: Checked, policy: Policy, round_: int, title: str) -> Done:
    """n traces of every training problem."""
    section = frame.recipe.sample

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        shards = _chunks(checked.train, section.shard_size)
        bar.total(len(shards))
        for index, problems in enumerate(shards):
            if not stage.has("traces", index):
                traces = draw(
                    frame, policy, problems, n=section.n, round_=round_, seed=section.seed,
                    temperature=section.temperature, max_tokens=section.max_tokens, bar=bar,
                )  # fmt: skip
                stage.write("traces", index, Trace, traces)
            bar.advance()
        traces = stage.read("traces", Trace)
        tokens = sum(len(t.token_ids) for t in traces)
        bar.note(f"{len(traces):,} traces")
        bar.note(f"{thousands(tokens)} tokens")
        return {"generated_tokens": tokens, "traces": len(traces)}

    inputs = {
        "problems": problems_key(checked.train), "policy": policy.key, "round": round_,
        "sample": sampling_request_parts(frame), "engine": frame.recipe.engine.kind, **prompting(frame),
    }  # fmt: skip
    return frame.run("sample", title, inputs, work)


def import_traces(frame: Frame, checked: Checked, policy: Policy) -> Done:
    """The file's responses, tokenized once."""
    assert frame.recipe.traces is not None

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        tokenizer, problems = frame.tokenizer(policy), checked.by_id
        bar.total(len(checked.imported))
        prompts: dict[str, list[int]] = {}
        traces = []
        for index, item in enumerate(checked.imported):
            if item.problem_id not in prompts:
                prompts[item.problem_id] = encode_prompt(tokenizer, problems[item.problem_id], frame.recipe.policy)
            traces.append(
                Trace(
                    trace_id=stable_id("import", item.problem_id, item.line, item.column),
                    problem_id=item.problem_id,
                    round=1,
                    sample_index=index,
                    policy=f"imported:{item.column}",
                    engine="imported",
                    sampling=Sampling(),
                    prompt_token_ids=prompts[item.problem_id],
                    token_ids=encode_response(tokenizer, item.response),
                    logprobs=None,
                    text=item.response,
                    finish_reason="imported",
                    meta=Json(line=item.line, column=item.column, file_label=item.file_label),
                )
            )
            bar.advance()
        stage.write("traces", 0, Trace, traces)
        bar.note(f"{len(traces):,} traces of {len(prompts):,} problems")
        return {"generated_tokens": 0, "traces": len(traces)}

    inputs = {
        "traces": [dataclasses.astuple(t) for t in checked.imported],
        "problems": problems_key(checked.train), "policy": policy.key, **prompting(frame),
    }  # fmt: skip
    return frame.run("import", "import traces", inputs, work)


def judge(verifier: Verifier, trace: Trace, problem: Problem) -> Trace:
    """The trace with its verdict."""
    finish_reason = "stop" if trace.finish_reason == "imported" else trace.finish_reason
    verdict = verifier.verify(trace.text, problem.gold, finish_reason)
    return dataclasses.replace(
        trace, answer=verdict.answer, verdict=verdict.value, verdict_reason=verdict.reason, method=verdict.method
    )


def verify(frame: Frame, checked: Checked, traces_done: Done, title: str) -> Done:
    """Traces with their verdicts. Undecided is a verdict of its own: it never becomes a negative."""

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.verify import Verifier

        verifier, problems = Verifier(frame.recipe.verify), checked.by_id
        traces = traces_done.stage.read("traces", Trace)
        bar.total(len(traces))
        judged = []
        for trace in traces:
            judged.append(judge(verifier, trace, problems[trace.problem_id]))
            bar.advance()
        stage.write("traces", 0, Trace, judged)
        counts = Counter(t.verdict for t in judged)
        reasons = Counter(t.verdict_reason for t in judged if t.verdict == UNDECIDED)
        detail = ", ".join(f"{k} {v}" for k, v in reasons.most_common())
        bar.note(f"{counts[CORRECT]:,} correct, {counts['incorrect']:,} incorrect, {counts[UNDECIDED]:,} undecided")
        if detail:
            bar.note(detail)
        labelled = [t for t in judged if t.meta.get("file_label") is not None]
        agreed = sum((t.verdict == CORRECT) == t.meta["file_label"] for t in labelled)
        checks = []
        if labelled:
            undecided = sum(t.verdict == UNDECIDED for t in labelled)
            tail = f"; {undecided} undecided, all labelled wrong" if undecided and agreed == len(labelled) else ""
            checks.append(f"The file's own labels agree on {agreed:,} of {len(labelled):,} traces{tail}")
            bar.note(checks[0])
        return {"verdicts": dict(counts), "undecided": dict(reasons), "checks": checks}

    inputs = {"traces": traces_done.key, "verify": frame.recipe.verify.model_dump()}
    return frame.run("verify", title, inputs, work)


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
        shards = _chunks(list(by_problem.values()), section.shard_size)
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
                )
                stage.write("rollouts", index, Rollout, result.rollouts)
                stage.write("steps", index, Step, result.steps)
            bar.advance()
        # Counted from the rows, so that a run that was killed on the way says the same.
        lengths = [len(r.token_ids) for r in stage.iterate("rollouts", Rollout)]
        prompts = sum(len(t.token_ids) for t in stage.iterate("prompts", Trace))
        counts = [s.n for s in stage.iterate("steps", Step)]
        bar.note(f"{len(counts):,} steps")
        if engine is not None:
            bar.note(f"{thousands(sum(lengths) + prompts)} rollout tokens")
            bar.note(f"{1 - len(lengths) / max(sum(counts), 1):.0%} of the counts shared by equal prefixes")
        return {"generated_tokens": sum(lengths) + prompts, "rollouts": len(lengths), "steps": len(counts)}

    credit_only = {"dead_zone", "require_significance", "after_pit", "shard_size"}
    inputs = {
        "traces": verified.key, "policy": policy.key, "label": section.model_dump(exclude=credit_only),
        "sample": frame.recipe.sample.model_dump(include={"temperature", "top_p", "top_k", "max_tokens", "stop"}),
        "engine": frame.recipe.engine.kind,
    }  # fmt: skip
    return frame.run("value", title, inputs, work)


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
        source = {"traces": data.verified.key, "problems": None}
    if method.reads_values and data.credited and data.valued:
        source |= {"credit": data.credited.key, "label": section.model_dump(exclude={"shard_size"})}
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


def prompting(frame: Frame) -> dict[str, Any]:
    return {"prompting": frame.recipe.policy.model_dump(include={"chat_template", "system_prompt"})}


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
