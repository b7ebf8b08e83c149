"""The stages that make traces into training tables: value the steps, credit them, build views."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negrl.labelers import needs_policy, needs_rollouts
from negrl.methods import Method
from negrl.pipeline.frame import Done, Frame, Policy
from negrl.pipeline.traces import chunks, draw, drawing, judge, prompting
from negrl.policy import PolicySection, check_model, context_length, encode_prompt, encode_response
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
    stable_seed,
)
from negrl.store import Stage
from negrl.views import ViewInputs, view_of
from negrl.views.earlier import Kept, room_for

if TYPE_CHECKING:
    from negrl.recipe import LabelSection


def value(frame: Frame, checked: Checked, policy: Policy, verified: Done, title: str, needed: bool) -> Done:
    """Steps with their values: counts, estimates, intervals. Where nearly all compute goes: so where no
    arm reads values (`needed` is false), the traces are split into steps and no more."""
    section = frame.recipe.label
    if not needed:
        section = section.model_copy(update={"labeler": "none"})

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.labelers import open_labeler
        from negrl.labeling.driver import LabelCounts, label_traces
        from negrl.problems import world_of
        from negrl.steps.values import prompt_values
        from negrl.verify import Verifier

        problems = checked.by_id
        world = world_of(frame.recipe.problems)
        verifier = Verifier(frame.recipe.verify)
        traces = verified.stage.read("traces", Trace)
        by_problem: dict[str, list[Trace]] = {}
        for trace in traces:
            by_problem.setdefault(trace.problem_id, []).append(trace)
        shard_size = stage.pinned("shard_size", section.shard_size)
        if section.labeler == "belief":  # calibrated on what it sees, and cheap to lose: better on all at once
            shard_size = max(1, len(by_problem))
        shards = chunks(list(by_problem.values()), shard_size)
        bar.total(len(shards))
        engine = frame.engine(policy) if needs_policy(section) else None
        imported = any(trace.engine == "imported" for trace in traces)
        for index, groups in enumerate(shards):
            # Somebody else's traces say nothing about this policy's chance from the prompt: ask the policy.
            if imported and engine is not None and not stage.has("prompts", index):
                drawn = draw(
                    frame, policy, [problems[group[0].problem_id] for group in groups], n=section.k, round_=0,
                    seed=section.seed, temperature=frame.recipe.sample.temperature,
                    max_tokens=frame.recipe.sample.max_tokens, bar=bar,
                )  # fmt: skip
                stage.write("prompts", index, Trace, judge(verifier, drawn, problems))
        v0 = prompt_values(stage.read("prompts", Trace) or traces, section.confidence)
        sizes = [sum(map(len, groups)) for groups in shards]
        budgets = shares(section.budget_tokens, sizes)
        rewards = _rewards(frame)
        for index, groups in enumerate(shards):
            if not all(stage.has(table, index) for table in ("steps", "rollouts", "counts")):
                own = section.model_copy(update={"budget_tokens": budgets[index]})
                result = label_traces(
                    problems,
                    [t for group in groups for t in group],
                    frame.tokenizer(policy),
                    own,
                    open_labeler(own, world.value if world else None),
                    engine,
                    verifier.verify,
                    frame.recipe.sample,
                    bar.add_tokens,
                    v0,
                    context_length(policy.model, frame.recipe.policy),
                    rewards,
                )
                stage.write("rollouts", index, Rollout, result.rollouts)
                stage.write("steps", index, Step, result.steps)
                stage.write("counts", index, LabelCounts, [result.counts])
            bar.advance()
        # Counted from the rows, so that a run that was killed on the way says the same.
        counts = [dataclasses.asdict(c) for c in stage.iterate("counts", LabelCounts)]
        total = {name: sum(c[name] for c in counts) for name in counts[0]} if counts else Counter[str]()
        rollouts, tokens = stage.sizes("rollouts", "token_ids")
        tokens += stage.sizes("prompts", "token_ids")[1]
        bar.note(f"{total['steps']:,} steps")
        if section.labeler != "none":
            low, high = section.value_band
            bar.note(
                f"{total['labelled']:,} of {len(traces):,} traces looked at (right or wrong, V_0 in {low:g}-{high:g})"
            )
        if tokens:
            bar.note(f"{thousands(tokens)} rollout tokens")
        if total["scored_tokens"]:
            bar.note(f"{thousands(total['scored_tokens'])} tokens read for {'rewards' if section.prm else 'beliefs'}")
        if total["reused"]:
            bar.note(f"{total['reused'] / total['asked']:.0%} of the rollouts asked for shared by equal prefixes")
        return {**total, "generated_tokens": tokens, "rollouts": rollouts}

    inputs = {
        "traces": verified.key,
        "policy": policy.key,
        "label": _value_settings(section, imported=frame.recipe.traces is not None),
    }
    if "prm" in section.members and section.prm is not None:
        inputs["prm"] = check_model(PolicySection(model=section.prm))
    if needs_policy(section):
        inputs |= {"sample": frame.recipe.sample.model_dump(include={"temperature", "max_tokens"}), **drawing(frame)}
    return frame.run("value", title, inputs, work)


def _rewards(frame: Frame) -> Any:
    """What reads the recipe's process reward model, None where there is none."""
    model = frame.recipe.label.prm
    if model is None:
        return None
    from negrl.labelers.prm import scorer

    return scorer(model, frame.recipe.policy, frame.recipe.engine.device)


def shares(budget: int | None, sizes: Sequence[int]) -> list[int | None]:
    """A budget for all, cut by size. The parts add up to it."""
    if budget is None:
        return [None] * len(sizes)
    ends = [budget * end // max(1, sum(sizes)) for end in itertools.accumulate(sizes)]
    return [end - start for start, end in itertools.pairwise([0, *ends])]


_READS: dict[str, set[str]] = {
    "none": set(),
    "oracle": set(),
    "arithmetic": set(),
    "prm": {"best_of"},
    "belief": {"best_of", "belief"},
    "fixed": {"k", "best_of"},
    "bisect": {"k", "best_of"},
    "first_zero": {"k", "best_of"},
    # What it learns and spends on one shard depends on what is in it.
    "adaptive": {"max_rollouts", "step_chances", "budget_tokens", "dead_zone", "belief", "best_of", "shard_size"},
}
"""Settings that a labeler's values depend on."""


def _value_settings(section: LabelSection, imported: bool) -> dict[str, Any]:
    """The settings that the steps and their values depend on, and no others: rollouts are dear."""
    read = {"labeler", "split", "min_chars", "max_steps"}.union(*(_READS[name] for name in section.members))
    read |= {"pattern"} if section.split == "pattern" else set()
    read |= {"value_band", "confidence"} if section.labeler != "none" else set()
    read |= {"max_tokens", "stop"} if needs_rollouts(section) else set()
    read |= {"seed"} if needs_policy(section) else set()
    read |= {"k"} if needs_policy(section) and imported else set()  # for V_0
    if section.labeler == "consensus":
        read |= {"agree", "dead_zone", "require_significance"}
        read |= {"shard_size"} if "belief" in section.members else set()
    return section.model_dump(include=read)


def credit(frame: Frame, verified: Done, valued: Done, title: str) -> Done:
    """Labels on the steps: good, bad, pit, spurious. Cheap: redone when only the dead zone changes."""
    section = frame.recipe.label

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.steps.credit import relabel, shuffled

        verdicts = {t.trace_id: t.verdict for t in verified.stage.iterate("traces", Trace)}
        steps = relabel(valued.stage.read("steps", Step), verdicts, section)
        if section.shuffle:
            steps = shuffled(steps, verdicts, section, stable_seed("shuffle", section.seed, valued.key))
        stage.write("steps", 0, Step, steps)
        counts = Counter(s.label for s in steps)
        bar.note(", ".join(f"{counts[label]:,} {label}" for label in STEP_LABELS if counts[label]))
        return {"labels": dict(counts)}

    inputs = {"value": valued.key, "label": section.model_dump(include={"dead_zone", "require_significance"})}
    if section.shuffle:  # reads what the weights depend on, too
        inputs["shuffle"] = section.model_dump(include={"shuffle", "seed", "after_pit", "value_band"})
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
    spec = view_of(method)
    options, _ = method.split(fields)
    max_length = fields.get("max_length") or context_length(policy.model, frame.recipe.policy)

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        from negrl.steps.values import prompt_values

        traces = data.verified.stage.read("traces", Trace) if data.verified else []
        by_trace: dict[str, list[Step]] = {}
        if method.reads_values and data.credited:
            for step in data.credited.stage.iterate("steps", Step):
                by_trace.setdefault(step.trace_id, []).append(step)
        prompts = data.valued.stage.read("prompts", Trace) if data.valued else []
        inputs = ViewInputs(
            problems=checked.by_id,
            solutions=solutions(frame, checked, policy) if "solutions" in method.needs else [],
            traces=traces,
            steps=by_trace,
            rollouts=data.valued.stage.read("rollouts", Rollout) if "rollouts" in method.needs and data.valued else [],
            v0={k: v.value for k, v in prompt_values(prompts or traces, section.confidence).items()},
            label=section,
            max_length=max_length,
            tokenizer=frame.tokenizer(policy),
            prompts=(
                {p.problem_id: encode_prompt(frame.tokenizer(policy), p, frame.recipe.policy) for p in checked.train}
                if "prompts" in method.needs
                else {}
            ),
        )
        built = spec.build(inputs, options)
        stage.write(method.view, 0, spec.row_type, built.rows)
        bar.note(", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in built.counts.items() if v))
        return {"counts": built.counts, "rows": len(built.rows)}

    if not method.reads_traces:
        source: Any = {"problems": problems_key(checked.train), "policy": policy.key, **prompting(frame)}
    else:
        assert data.verified is not None
        source = {"traces": data.verified.key}
    if method.reads_values and data.credited and data.valued:
        credit_settings = {"dead_zone", "require_significance", "after_pit", "value_band", "confidence"}
        source |= {"credit": data.credited.key, "label": section.model_dump(include=credit_settings)}
    inputs = {"view": method.view, "options": options.for_view(), "max_length": max_length, **source}
    return frame.run("view", title, inputs, work)


def merge(
    frame: Frame, method: Method, own: Done, earlier: Sequence[Done], round_: int, kept: str | float, title: str
) -> Done:
    """This round's training table with rows of earlier rounds, one shard for each round.

    Args:
        own: the view of round `round_`.
        earlier: those of the rounds before it, newest first.
        kept: the recipe's `earlier_rounds`.
    """

    def work(stage: Stage, bar: StageBar) -> dict[str, Any]:
        row_type = view_of(method).row_type
        new: list[Any] = own.stage.read(method.view, row_type)
        stage.write(method.view, 0, row_type, new)
        room = room_for(len(new), kept)
        chosen, sizes = Kept(new, round_, room), [len(new)]
        for age, view_done in enumerate(earlier, 1):
            rows = chosen.take(view_done.stage.read(method.view, row_type), age)
            stage.write(method.view, age, row_type, rows)
            sizes.append(len(rows))
        counts = {"new": len(new), "old": sum(sizes[1:]), "duplicates": chosen.duplicates}
        bar.note(f"{counts['new']:,} new rows, {counts['old']:,} of earlier rounds")
        return {"counts": counts, "rows": sum(sizes), "rows_by_age": sizes}

    inputs = {
        "view": own.key,
        "earlier": [done.key for done in earlier],
        "earlier_rounds": kept,
        # Which of them have room depends on it.
        **({} if isinstance(kept, str) else {"round": round_}),
    }
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
