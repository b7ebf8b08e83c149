"""Label traces: one stream of rollouts for all of them.

The driver splits the traces, lets the labeler ask, and merges its asks into one call of the engine.
Equal prefixes (same problem, same tokens) are continued once and every trace that shares them is told.
A prefix's rollouts have a seed of their own, from the problem and the prefix: so the labels do not
depend on the order of the traces, nor on how they are cut into shards.

What a rollout counts: the value is the chance of a right answer, so a rollout that is cut off
(truncated) or gives no answer counts as not successful. One that the verifier failed to judge
(timeout, unparsable) says nothing about the policy and is not counted at all.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from negrl.engines.base import Completion, Engine, Request
from negrl.records import CORRECT, INCORRECT, Problem, Rollout, Step, Trace, Verdict, stable_id, stable_seed
from negrl.steps.credit import in_band, label_steps
from negrl.steps.labelers.base import Ask, Branch, Labeler, Outcome, Task
from negrl.steps.split import Span, split_steps
from negrl.steps.values import VERIFIER_FAILED, Difference, Estimate, prompt_values

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from negrl.recipe import LabelSection, SampleSection

Verify = Callable[[str, str, str], Verdict]
"""(response text, gold answer, finish reason) -> verdict."""

_Drawn = tuple[list[tuple[list[int], bool]], int]
"""(tokens of a rollout, did it come out right?) of each rollout that could be judged, and the tokens of all."""

_JUDGE_AT_ONCE = 512  # prefixes whose rollouts are decoded together: bounds the memory of the texts
_NAN = math.nan
_UNKNOWN = Estimate(_NAN, _NAN, _NAN)
_NO_DIFFERENCE = Difference(_NAN, _NAN, _NAN)


@dataclass(frozen=True, slots=True)
class LabelResult:
    """`steps`: of every trace, in order of traces and steps; those of traces that were not labelled
    are "unlabelled" with NaN. `asked`: rollouts that the labeler asked for, summed over the traces;
    `reused`: those of them that an equal prefix had paid for. `counts`: traces labelled, undecided,
    outside_band, and prefixes no_room."""

    steps: list[Step]
    rollouts: list[Rollout]
    generated_tokens: int
    asked: int
    reused: int
    counts: dict[str, int]


@dataclass(slots=True)
class _Prefix:
    """One distinct prefix: the first `end` tokens of `trace`, that end with step `step_index`."""

    key: str
    trace: Trace
    step_index: int
    end: int
    members: list[tuple[int, int]] = field(default_factory=list)
    """(task, step index) of every trace that begins like this."""
    drawn: int = 0


def label_traces(
    problems_by_id: Mapping[str, Problem],
    traces: Sequence[Trace],
    tokenizer: PreTrainedTokenizerBase,
    section: LabelSection,
    labeler: Labeler,
    engine: Engine | None,
    verify: Verify,
    sample: SampleSection,
    on_tokens: Callable[[int], None] | None = None,
    v0: Mapping[str, Estimate] | None = None,
    context: int | None = None,
) -> LabelResult:
    """Put values, advantages and labels on the steps of `traces`.

    Undecided traces, and traces of problems whose V_0 is outside `section.value_band`, are split but
    not labelled: they cost no rollout. A rollout is kept with the first trace that has its prefix.
    Temperature, top_p, top_k and stop strings are the sampler's; a rollout has `section.max_tokens`,
    or else what `sample.max_tokens` leaves after the prefix, and never more than the context leaves; a
    prefix with no room is not continued. A rollout is judged on what a trace's text would be: cut before
    the first stop string.

    Args:
        traces: of one policy, verified.
        engine: may be None for a labeler that asks nothing.
        v0: V_0 by problem. Default: from `traces`. Give it when they are only a shard, in which a
            problem's other traces may be missing.
        context: tokens that prompt and response may have together in the model. Default: no limit.

    Raises:
        ValueError: the labeler asks for rollouts and there is no engine.
    """
    v0 = prompt_values(traces, section.confidence) if v0 is None else v0
    spans = [split_steps(t.token_ids, tokenizer, section) for t in traces]
    counts = {"labelled": 0, "undecided": 0, "outside_band": 0, "no_room": 0}
    tasks: dict[int, Task] = {}  # index of the trace -> its task
    for i, trace in enumerate(traces):
        prompt_value = v0.get(trace.problem_id)
        if trace.verdict not in (CORRECT, INCORRECT) or not spans[i]:
            counts["undecided"] += 1
        elif prompt_value is None or not in_band(prompt_value.value, section):
            counts["outside_band"] += 1
        else:
            counts["labelled"] += 1
            logps = _step_logps(trace, spans[i], sample)
            tasks[i] = Task(problems_by_id[trace.problem_id], trace.verdict, prompt_value, spans[i], logps)
    branching = "branches" in labeler.reads
    if branching:
        tasks = {
            i: replace(task, samples=s) for (i, task), s in zip(tasks.items(), _samples(traces, tasks), strict=True)
        }

    labeler.start(list(tasks.values()))
    paths = (
        [_Path(traces[i].token_ids, [s.end for s in task.steps]) for i, task in tasks.items()] if branching else None
    )
    stream = _Stream(problems_by_id, tokenizer, section, engine, verify, sample, on_tokens, context, paths)
    prefixes = _merge_prefixes([(traces[i], task.steps) for i, task in tasks.items()])
    asked = 0
    while asks := labeler.ask():
        asked += sum(a.count for a in asks)
        labeler.tell(stream.answer(asks, prefixes))

    counts["no_room"] = len(stream.no_room)
    task_of = {i: task for task, i in enumerate(tasks)}
    steps: list[Step] = []
    for i, trace in enumerate(traces):
        steps += _step_rows(trace, spans[i], labeler, task_of.get(i), section)
    kept = stream.rollouts
    return LabelResult(steps, kept, stream.generated_tokens, asked, asked - stream.paid_for, counts)


@dataclass(frozen=True, slots=True)
class _Path:
    """A trace's tokens and where its steps end."""

    token_ids: list[int]
    ends: list[int]

    def left_by(self, token_ids: list[int], step_index: int) -> int:
        """The last step of this trace that a continuation of its prefix up to `step_index` follows whole."""
        at = start = self.ends[step_index] if step_index >= 0 else 0
        for index, end in enumerate(self.ends[step_index + 1 :], start=step_index + 1):
            if token_ids[at - start : end - start] != self.token_ids[at:end]:
                return index - 1
            at = end
        return len(self.ends) - 1


def _step_logps(trace: Trace, spans: list[Span], sample: SampleSection) -> list[float] | None:
    drawn = trace.sampling
    alike = (drawn.temperature, drawn.top_p, drawn.top_k) == (sample.temperature, sample.top_p, sample.top_k)
    if trace.logprobs is None or not alike:
        return None
    return [math.fsum(trace.logprobs[s.start : s.end]) for s in spans]


def _samples(traces: Sequence[Trace], tasks: Mapping[int, Task]) -> list[tuple[Branch, ...]]:
    """For each task, the outcomes of its problem's other traces by where they leave it. Of a trace that the
    policy did not write nothing is known but V_0."""
    by_problem: dict[str, list[int]] = {}
    for i, trace in enumerate(traces):
        if trace.logprobs is not None and trace.verdict is not None and trace.verdict_reason not in VERIFIER_FAILED:
            by_problem.setdefault(trace.problem_id, []).append(i)
    found: list[tuple[Branch, ...]] = []
    for i, task in tasks.items():
        trace = traces[i]
        if trace.logprobs is None:
            found.append((Branch(-1, task.v0.n, task.v0.successes),) if task.v0.n else ())
            continue
        path = _Path(trace.token_ids, [s.end for s in task.steps])
        others = (traces[j] for j in by_problem[trace.problem_id] if j != i)
        found.append(_branches((path.left_by(o.token_ids, -1), o.verdict == CORRECT) for o in others))
    return found


def _branches(samples: Iterable[tuple[int, bool]]) -> tuple[Branch, ...]:
    """(left, right) of each sample, counted."""
    counted: dict[int, tuple[int, int]] = {}
    for left, right in samples:
        n, successes = counted.get(left, (0, 0))
        counted[left] = (n + 1, successes + right)
    return tuple(Branch(left, n, successes) for left, (n, successes) in sorted(counted.items()))


def _merge_prefixes(tasks: Sequence[tuple[Trace, list[Span]]]) -> list[list[_Prefix]]:
    """For each task its prefixes, the prompt first (so the prefix of step i is at i + 1); equal ones
    are one object."""
    by_key: dict[str, _Prefix] = {}
    out: list[list[_Prefix]] = []
    for task, (trace, spans) in enumerate(tasks):
        digest = blake2b(trace.problem_id.encode(), digest_size=16)
        digest.update(array("q", [len(trace.prompt_token_ids), *trace.prompt_token_ids]).tobytes())
        mine: list[_Prefix] = []
        for step_index, (start, end) in enumerate([(0, 0), *((s.start, s.end) for s in spans)], start=-1):
            digest.update(array("q", trace.token_ids[start:end]).tobytes())
            key = digest.copy().hexdigest()
            prefix = by_key.setdefault(key, _Prefix(key, trace, step_index, end))
            prefix.members.append((task, step_index))
            mine.append(prefix)
        out.append(mine)
    return out


class _Stream:
    """Asks in, outcomes out: draws rollouts, judges them, keeps them."""

    def __init__(
        self,
        problems: Mapping[str, Problem],
        tokenizer: PreTrainedTokenizerBase,
        section: LabelSection,
        engine: Engine | None,
        verify: Verify,
        sample: SampleSection,
        on_tokens: Callable[[int], None] | None,
        context: int | None,
        paths: Sequence[_Path] | None,
    ):
        self.paths = paths
        """The tasks' traces, for a labeler that reads branches."""
        self.problems, self.tokenizer, self.section, self.sample = problems, tokenizer, section, sample
        self.engine, self.verify, self.on_tokens, self.context = engine, verify, on_tokens, context
        self.rollouts: list[Rollout] = []
        self.generated_tokens = 0
        self.paid_for = 0
        """Rollouts that were drawn, or would have been had there been room."""
        self.no_room: set[str] = set()
        self._verdicts: dict[tuple[str, bytes, str], Verdict] = {}

    def answer(self, asks: Sequence[Ask], prefixes: list[list[_Prefix]]) -> list[Outcome]:
        wanted: dict[str, tuple[_Prefix, int]] = {}
        for ask in asks:
            prefix = prefixes[ask.trace][ask.step_index + 1]
            before = wanted[prefix.key][1] if prefix.key in wanted else 0
            wanted[prefix.key] = (prefix, max(before, ask.count))
        self.paid_for += sum(count for _, count in wanted.values())
        nothing: _Drawn = ([], 0)
        results = {key: nothing for key in wanted}
        drawable = []
        for prefix, count in wanted.values():
            if self._room(prefix) > 0:
                drawable.append((prefix, count))
            else:
                self.no_room.add(prefix.key)
        if drawable:
            if self.engine is None:
                raise ValueError("this labeler asks for rollouts: it needs an engine")
            drawn = self.engine.generate([self._request(p, count) for p, count in drawable], self.on_tokens)
            for at in range(0, len(drawable), _JUDGE_AT_ONCE):
                part = [p for p, _ in drawable[at : at + _JUDGE_AT_ONCE]]
                results.update(self._judge(part, drawn[at : at + _JUDGE_AT_ONCE]))
        return [o for key, (prefix, _) in wanted.items() for o in self._outcomes(prefix, *results[key])]

    def _outcomes(self, prefix: _Prefix, judged: list[tuple[list[int], bool]], tokens: int) -> Iterator[Outcome]:
        n, successes = len(judged), sum(right for _, right in judged)
        for task, i in prefix.members:
            branches: tuple[Branch, ...] = ()
            if self.paths is not None:
                path = self.paths[task]
                branches = _branches((path.left_by(ids, i), right) for ids, right in judged)
            yield Outcome(task, i, n, successes, tokens, branches)

    def _room(self, prefix: _Prefix) -> int:
        room = self.section.max_tokens or self.sample.max_tokens - prefix.end
        if self.context is None:
            return room
        return min(room, self.context - len(prefix.trace.prompt_token_ids) - prefix.end)

    def _request(self, prefix: _Prefix, count: int) -> Request:
        seed_parts: list[object] = [self.section.seed, prefix.trace.problem_id, prefix.key]
        if prefix.drawn:  # asked again: new rollouts, not the same ones
            seed_parts.append(prefix.drawn)
        return Request(
            prompt_token_ids=prefix.trace.prompt_token_ids + prefix.trace.token_ids[: prefix.end],
            n=count,
            seed=stable_seed(*seed_parts),
            max_tokens=self._room(prefix),
            temperature=self.sample.temperature,
            top_p=self.sample.top_p,
            top_k=self.sample.top_k,
            stop=tuple(self.sample.stop),
        )

    def _judge(self, prefixes: Sequence[_Prefix], drawn: Sequence[list[Completion]]) -> dict[str, _Drawn]:
        """The judged rollouts by prefix key. Each distinct response to a problem is judged once."""
        keyed: list[list[tuple[str, bytes, str]]] = []
        new: dict[tuple[str, bytes, str], tuple[_Prefix, list[int]]] = {}
        stop = self.sample.stop
        for prefix, completions in zip(prefixes, drawn, strict=True):
            head = prefix.trace.token_ids[: prefix.end]
            begun = blake2b(array("q", head).tobytes(), digest_size=16)
            if stop:  # where the text is cut depends on where the prefix ends
                begun.update(array("q", [prefix.end]).tobytes())
            keys = []
            for completion in completions:
                digest = begun.copy()
                digest.update(array("q", completion.token_ids).tobytes())
                key = (prefix.trace.problem_id, digest.digest(), completion.finish_reason)
                keys.append(key)
                if key not in self._verdicts and key not in new:
                    new[key] = (prefix, head + completion.token_ids)
            keyed.append(keys)
        texts = _decode_all([ids for _, ids in new.values()], self.tokenizer)
        begins: dict[str, str] = {}
        if stop:
            heads = [p.trace.token_ids[: p.end] for p in prefixes]
            begins = dict(zip([p.key for p in prefixes], _decode_all(heads, self.tokenizer), strict=True))
        for (key, (prefix, _)), text in zip(new.items(), texts, strict=True):
            cut = _first_stop(text, begins[prefix.key], stop) if stop else None
            ended = key[2] if cut is None else "stop"
            self._verdicts[key] = self.verify(text[:cut], self.problems[key[0]].gold, ended)

        results: dict[str, _Drawn] = {}
        for prefix, completions, keys in zip(prefixes, drawn, keyed, strict=True):
            verdicts = [self._verdicts[key] for key in keys]
            judged = [
                (completion.token_ids, verdict.value == CORRECT)
                for completion, verdict in zip(completions, verdicts, strict=True)
                if verdict.reason not in VERIFIER_FAILED
            ]
            results[prefix.key] = judged, sum(len(c.token_ids) for c in completions)
            self._keep(prefix, completions, verdicts)
        return results

    def _keep(self, prefix: _Prefix, completions: list[Completion], verdicts: list[Verdict]) -> None:
        trace = prefix.trace
        group = stable_id(trace.policy, trace.round, prefix.key)
        for i, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True), start=prefix.drawn):
            self.generated_tokens += len(completion.token_ids)
            self.rollouts.append(
                Rollout(
                    rollout_id=f"{group}-{i}",
                    problem_id=trace.problem_id,
                    trace_id=trace.trace_id,
                    step_index=prefix.step_index,
                    token_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    verdict=verdict.value,
                )
            )
        prefix.drawn += len(completions)


def _first_stop(text: str, begin: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string starts in `text` that ends after `begin`, the prefix's text. It may start
    inside the prefix: the policy, writing on its own, would have been stopped there too."""
    known = len(begin.rstrip("\ufffd"))  # half a character at the prefix's end may decode to several of these
    hits = [at for s in stop if (at := text.find(s, max(0, known - len(s) + 1))) >= 0]
    return min(hits, default=None)


def _decode_all(sequences: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What `tokenizer.decode(..., skip_special_tokens=True)` says of each."""
    from transformers import PreTrainedTokenizerFast

    plain = isinstance(tokenizer, PreTrainedTokenizerFast) and not tokenizer.clean_up_tokenization_spaces
    if plain and type(tokenizer)._decode is PreTrainedTokenizerFast._decode:
        # Straight to the Rust decoder: transformers looks at every token id in Python first, which
        # was a quarter of the driver's time.
        decode = tokenizer.backend_tokenizer.decode
        return [decode(ids, skip_special_tokens=True) for ids in sequences]
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in sequences]


def _step_rows(
    trace: Trace, spans: list[Span], labeler: Labeler, task: int | None, section: LabelSection
) -> list[Step]:
    values: list[Estimate | None] = [None] * len(spans)
    advantages: list[Difference | None] = [None] * len(spans)
    labels = ["unlabelled"] * len(spans)
    if task is not None and trace.verdict is not None:
        values, advantages = labeler.values(task), labeler.advantages(task)
        labels = label_steps(values, advantages, trace.verdict, section)
    rows = []
    for i, span in enumerate(spans):
        v, a = values[i] or _UNKNOWN, advantages[i] or _NO_DIFFERENCE
        rows.append(
            Step(
                trace_id=trace.trace_id,
                step_index=i,
                start=span.start,
                end=span.end,
                text=span.text,
                n=v.n,
                successes=v.successes,
                value=v.value,
                value_low=v.low,
                value_high=v.high,
                advantage=a.value,
                advantage_low=a.low,
                advantage_high=a.high,
                label=labels[i],
                labeler=labeler.name,
            )
        )
    return rows
