"""From judged samples to an evaluation's numbers: pass@1, pass@k, maj@k, rates, per level and subject.

Every number has an interval from a bootstrap over problems (metrics.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from negrl.evaluate.metrics import bootstrap_interval, pass_at_k, summarise
from negrl.evaluate.prompts import Task
from negrl.evaluate.samples import Judged
from negrl.evaluate.settings import EvalSettings
from negrl.records import CORRECT, INCORRECT, UNDECIDED
from negrl.verify.equivalence import compare_plain


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """The outcome of one problem. `maj` is the chance that the majority vote of all n samples is right (strictly
    between 0 and 1 only in a tie); `answers` are the most frequent answers with their counts."""

    problem_id: str
    question: str
    gold: str
    level: str | None
    subject: str | None
    n: int
    correct: int
    incorrect: int
    undecided: int
    truncated: int
    no_answer: int
    tokens: int
    maj: float
    answers: list[tuple[str, int]]

    @property
    def rate(self) -> float:
        return self.correct / self.n


def powers(n: int) -> list[int]:
    """1, 2, 4, ... up to n."""
    return [1 << i for i in range(n.bit_length())]


def votes(samples: Sequence[Judged]) -> list[int | None]:
    """What each sample votes for: 0 is the right answer, other numbers are other answers, None is no vote.

    Right samples form one group, however they are written. Wrong samples form one group if `compare_plain` says
    that they mean the same; those that only math-verify could recognize as equal count separately.
    """
    seen: list[str] = []
    groups: dict[str, int] = {}
    cast: list[int | None] = []
    for sample in samples:
        if sample.verdict == CORRECT:
            cast.append(0)
        elif sample.answer is None:
            cast.append(None)
        else:
            if sample.answer not in groups:
                same = (i for i, other in enumerate(seen) if _same(sample.answer, other))
                groups[sample.answer] = next(same, len(seen))
                if groups[sample.answer] == len(seen):
                    seen.append(sample.answer)
            cast.append(groups[sample.answer] + 1)
    return cast


def _same(one: str, other: str) -> bool:
    outcome = compare_plain(one, other)
    return outcome is not None and outcome[0] is True


def majority(cast: Sequence[int | None]) -> float:
    """The chance that the most frequent vote is for 0, with ties broken at random. 0 if there are no votes."""
    counts = Counter(vote for vote in cast if vote is not None)
    most = max(counts.values(), default=0)
    tied = [vote for vote, count in counts.items() if count == most]
    return 1 / len(tied) if 0 in tied else 0.0


def maj_at_k(cast: Sequence[int | None], k: int) -> float:
    """Mean of `majority` over the disjoint groups of `k` consecutive samples: an unbiased estimate of maj@k.

    Raises:
        ValueError: fewer than k votes.
    """
    groups = [cast[i : i + k] for i in range(0, len(cast) - k + 1, k)]
    if not groups:
        raise ValueError(f"maj@{k} of {len(cast)} samples")
    return sum(majority(group) for group in groups) / len(groups)


def score(task: Task, judged: Sequence[Judged], generated: int, settings: EvalSettings) -> dict[str, Any]:
    """The numbers, ready for JSON; `problems` holds a `ProblemScore` for each.

    Raises:
        ValueError: the number of judged samples differs from that of generated ones, or between problems.
    """
    summary = summarise(
        [(j.problem_id, j.verdict, j.verdict_reason, None) for j in judged],
        generated, settings.confidence, settings.bootstrap,
    )  # fmt: skip
    groups: dict[str, list[Judged]] = {problem.problem_id: [] for problem in task.problems}
    for sample in judged:
        groups[sample.problem_id].append(sample)
    n = min(len(group) for group in groups.values())
    if not n or any(len(group) != len({s.sample_index for s in group}) for group in groups.values()):
        raise ValueError("a problem has no sample, or one sample twice")
    cast = {key: votes(sorted(group, key=lambda s: s.sample_index)) for key, group in groups.items()}
    problems = [
        _problem_score(row.level, row.subject, task.known[p.problem_id], groups[p.problem_id], cast[p.problem_id])
        for p, row in zip(task.problems, task.rows, strict=True)
    ]

    def measured(of: Callable[[ProblemScore], float]) -> dict[str, float]:
        return with_interval([of(p) for p in problems], settings)

    metrics = {f"pass@{k}": measured(lambda p, k=k: pass_at_k(p.n, p.correct, k)) for k in powers(n)}  # type: ignore[misc]
    for k in sorted({k for k in [*powers(n), n] if k > 2}):  # maj@2 is pass@1: ties are random
        metrics[f"maj@{k}"] = measured(lambda p, k=k: maj_at_k(cast[p.problem_id], k))  # type: ignore[misc]
    lengths = sorted(j.tokens for j in judged)
    return {
        "metrics": metrics,
        "rates": {
            "truncated": summary.truncated_rate,
            "undecided": summary.undecided_rate,
            "no_answer": summary.no_answer_rate,
        },
        "counts": {
            "problems": len(problems),
            "generated": generated,
            "scored": len(judged),
            **{v: sum(j.verdict == v for j in judged) for v in (CORRECT, INCORRECT, UNDECIDED)},
            "reasons": dict(Counter(j.verdict_reason for j in judged if j.verdict_reason).most_common()),
            "methods": dict(Counter(j.method for j in judged if j.method).most_common()),
        },
        "tokens_per_sample": {"mean": round(sum(lengths) / len(lengths), 1), "median": lengths[len(lengths) // 2]},
        "by_level": _by([(p.level, p) for p in problems], settings),
        "by_subject": _by([(p.subject, p) for p in problems], settings),
        "problems": problems,
    }


def with_interval(values: Sequence[float], settings: EvalSettings) -> dict[str, float]:
    low, high = bootstrap_interval(values, settings.confidence, settings.bootstrap)
    return {"value": sum(values) / len(values), "low": low, "high": high}


def as_row(problem: ProblemScore) -> dict[str, Any]:
    return asdict(problem)


def _by(pairs: Sequence[tuple[str | None, ProblemScore]], settings: EvalSettings) -> dict[str, Any]:
    """pass@1 of each group, with its number of problems; {} if the data has no such column."""
    names = sorted({name for name, _ in pairs if name is not None})
    out = {}
    for name in names:
        rates = [p.rate for other, p in pairs if other == name]
        out[name] = {"problems": len(rates), **with_interval(rates, settings)}
    return out


def _problem_score(
    level: str | None, subject: str | None, question: str, group: Sequence[Judged], cast: Sequence[int | None]
) -> ProblemScore:
    answers = Counter(s.answer for s in group if s.answer is not None)
    return ProblemScore(
        problem_id=group[0].problem_id,
        question=question,
        gold=group[0].gold,
        level=level,
        subject=subject,
        n=len(group),
        correct=sum(s.verdict == CORRECT for s in group),
        incorrect=sum(s.verdict == INCORRECT for s in group),
        undecided=sum(s.verdict == UNDECIDED for s in group),
        truncated=sum(s.verdict_reason == "truncated" for s in group),
        no_answer=sum(s.verdict_reason == "no_answer" for s in group),
        tokens=sum(s.tokens for s in group),
        maj=majority(cast),
        answers=[(a[:200], count) for a, count in answers.most_common(3)],
    )
