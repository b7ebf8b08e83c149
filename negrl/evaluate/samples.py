"""The stages of an evaluation: draw the samples, judge them. Both resume shard by shard: a killed evaluation
loses the shard in flight, a changed extractor judges again without drawing again."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from negrl.engines import ENGINES, Engine, Request
from negrl.engines.traces import traces_of
from negrl.errors import InputError
from negrl.evaluate.prompts import Task
from negrl.evaluate.settings import EvalSettings
from negrl.policy import PolicySection, context_length, encode_prompt, local_model
from negrl.progress import StageBar, thousands
from negrl.records import Problem, Trace, stable_seed
from negrl.store import Stage, Store, fingerprint

JUDGE_SHARD = 4096
"""Samples per shard of verdicts."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One sample with its verdict, as it is kept in `judged-*.parquet`. `tokens` counts the drawn tokens, 0 for
    responses that came from a file."""

    problem_id: str
    sample_index: int
    gold: str
    text: str
    finish_reason: str
    tokens: int
    answer: str | None
    verdict: str
    verdict_reason: str | None
    method: str | None


@dataclass(frozen=True)
class Drawn:
    """A finished sampling stage and what it cost. `short` problems have a prompt that leaves less than
    max_tokens in the model's context."""

    stage: Stage
    engine: str
    generated: int
    prompt_tokens: int
    tokens: int
    seconds: float
    short: int


def engine_version(kind: str) -> str:
    """The engine's package and version, without importing it.

    Raises:
        InputError: it is not installed.
    """
    return ENGINES[kind].version("--engine")


def sample_stage(store: Store, task: Task, settings: EvalSettings, model_key: str) -> Stage:
    """Where these samples belong: keyed by everything that they depend on."""
    key = fingerprint(
        "evaluate", model_key, engine_version(settings.engine),
        [[p.problem_id, p.prompt, [[m.role, m.content] for m in p.messages or []]] for p in task.problems],
        task.stop,
        settings.model_dump(
            include={
                "n", "temperature", "top_p", "top_k", "max_tokens", "seed", "chat_template", "system_prompt", "dtype",
                "options",
            }
        ),
    )  # fmt: skip
    return store.stage(f"{task.benchmark.name}-samples", key)


def draw_all(
    stage: Stage, task: Task, settings: EvalSettings, policy: PolicySection, model_key: str,
    tokenizer: Any, engine: Callable[[], Engine], bar: StageBar,
) -> Drawn:  # fmt: skip
    """Draw what is missing.

    Args:
        tokenizer: the model's.
        engine: opens the engine, or returns the open one; called only when there is something to draw.

    Raises:
        InputError: a prompt leaves no room for a response in the model's context.
    """
    prompts = [encode_prompt(tokenizer, problem, policy) for problem in task.problems]
    context = context_length(local_model(policy), policy)
    for problem, ids in zip(task.problems, prompts, strict=True):
        if context is not None and len(ids) >= context:
            raise InputError(
                f"{task.benchmark.name}: the prompt of '{task.known[problem.problem_id][:40]}...' has {len(ids)} "
                f"tokens, which leaves no room in the model's context of {context}; use fewer examples (--few-shot)"
            )
    size = stage.pinned("shard_size", settings.shard_size)
    starts = range(0, len(prompts), size)
    bar.total(len(starts))
    for shard, start in enumerate(starts):
        if not stage.has("samples", shard):
            generator = engine()  # opening it is not counted
            started = time.perf_counter()
            part = slice(start, start + size)
            traces = _draw(task.problems[part], prompts[part], task, settings, model_key, generator, bar)
            # First the time, then the samples: a shard that is there has both.
            took = json.dumps(time.perf_counter() - started).encode()
            stage.store.write_bytes(f"{stage.folder}/seconds-{shard:05d}.json", took)
            stage.write("samples", shard, Trace, traces)
        bar.advance()
    generated, tokens = stage.sizes("samples", "token_ids")
    _check_count(stage, generated, len(prompts) * settings.n)
    names = stage.store.list(stage.folder, "seconds-*.json")
    seconds = sum(json.loads(stage.store.read_bytes(f"{stage.folder}/{name}")) for name in names)
    bar.note(f"{generated:,} samples of {len(prompts):,} problems")
    bar.note(f"{thousands(tokens)} tokens")
    short = sum(context is not None and context - len(ids) < settings.max_tokens for ids in prompts)
    if short:
        bar.note(f"{short} prompts leave less than {settings.max_tokens} tokens in the context of {context}")
    return Drawn(
        stage, engine_version(settings.engine), generated, sum(map(len, prompts)), tokens, round(seconds, 3), short
    )


def _draw(
    problems: Sequence[Problem], prompts: Sequence[list[int]], task: Task, settings: EvalSettings, model_key: str,
    engine: Engine, bar: StageBar,
) -> list[Trace]:  # fmt: skip
    """n samples of each problem. A request's seed comes from the problem, not from its place."""
    requests = [
        Request(
            prompt_token_ids=ids,
            n=settings.n,
            seed=stable_seed("evaluate", settings.seed, problem.problem_id),
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            stop=task.stop,
        )
        for problem, ids in zip(problems, prompts, strict=True)
    ]
    traces: list[Trace] = []
    for problem, request, drawn in zip(problems, requests, engine.generate(requests, bar.add_tokens), strict=True):
        key = ("evaluate", model_key, problem.problem_id, settings.seed)
        traces += traces_of(
            request, drawn, problem_id=problem.problem_id, policy=model_key, engine=engine.name, key=key
        )
    return traces


def unjudged(traces: Sequence[Trace], problems: dict[str, Problem]) -> list[Judged]:
    """The samples as rows that wait for their verdict.

    Raises:
        InputError: a sample is of a problem that is not there.
    """
    if lost := [t for t in traces if t.problem_id not in problems]:
        raise InputError(f"a sample is of problem {lost[0].problem_id}, which the benchmark does not have")
    return [
        Judged(
            t.problem_id,
            t.sample_index,
            problems[t.problem_id].gold,
            t.text,
            t.finish_reason,
            len(t.token_ids),
            None,
            "",
            None,
            None,
        )
        for t in traces
    ]


def judge_all(
    stage: Stage, rows: Sequence[Judged], settings: EvalSettings, extract: str, bar: StageBar
) -> list[Judged]:
    """Every row with its verdict, in order.

    Raises:
        InputError: the stored verdicts are fewer or more than the samples.
    """
    from negrl.verify import Verifier

    verifier = Verifier(settings.verify(extract))
    bar.total(len(rows))
    for shard, start in enumerate(range(0, len(rows), JUDGE_SHARD)):
        part = rows[start : start + JUDGE_SHARD]
        if not stage.has("judged", shard):
            verdicts = verifier.verify_all([(r.text, r.gold, r.finish_reason) for r in part])
            found = [
                replace(r, answer=v.answer, verdict=v.value, verdict_reason=v.reason, method=v.method)
                for r, v in zip(part, verdicts, strict=True)
            ]
            stage.write("judged", shard, Judged, found)
        bar.advance(len(part))
    judged = stage.read("judged", Judged)
    _check_count(stage, len(judged), len(rows))
    counts = Counter(r.verdict for r in judged)
    bar.note(", ".join(f"{counts[v]:,} {v}" for v in ("correct", "incorrect", "undecided")))
    return judged


def _check_count(stage: Stage, found: int, expected: int) -> None:
    if found != expected:
        raise InputError(f"{stage.url}: {found} samples, expected {expected}; remove the folder and run again")
