"""A policy without a model: the writer of the `ledger` world, who says every line in one of several ways.

It is sampled through the engine's contract and labeled by the same driver as a model. Its values are known exactly,
and where its habits lead does not depend on its words: so what labels make of other words can be measured apart from
what a small model makes of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from negrl.engines.base import Completion, Request
from negrl.problems.ledger.draw import Story
from negrl.problems.ledger.line import write_line
from negrl.problems.ledger.plan import Plan, Step
from negrl.problems.ledger.write import HABITS, Worked, right_line
from negrl.records import stable_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Results = dict[int, int]
"""What was written for each step of the plan that is done."""
_State = tuple[str, frozenset[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One line that may come next, in any words."""

    step: int
    worked: Worked
    chance: float


@dataclass
class ScriptedPolicy:
    """Writes the steps of a plan in any order that works, each with chance `rate` by a habit that applies, in one of
    `wordings` ways, all equally likely; then the answer."""

    habits: Sequence[str]
    rate: float
    wordings: int
    _values: dict[_State, float] = field(default_factory=dict)
    _choices: dict[_State, list[_Choice]] = field(default_factory=dict)

    def choices(self, plan: Plan, results: Results) -> list[_Choice]:
        """What may come next; nothing when all steps are done."""
        key = (plan.key, frozenset(results.items()))
        if key not in self._choices:
            self._choices[key] = self._work_out(plan, results)
        return self._choices[key]

    def _work_out(self, plan: Plan, results: Results) -> list[_Choice]:
        ready = [i for i in range(len(plan.steps)) if i not in results and self._can(plan, plan.steps[i], results)]
        return [
            _Choice(i, line, chance / len(ready))
            for i in ready
            for line, chance in self._lines(plan, plan.steps[i], results).items()
        ]

    @staticmethod
    def _can(plan: Plan, step: Step, results: Results) -> bool:
        needed = [o for o in (step.left, step.right, step.mistaken) if o is not None and o.is_step]
        return all(o.value in results for o in needed)

    def _lines(self, plan: Plan, step: Step, results: Results) -> dict[Worked, float]:
        right = right_line(plan, step, results)
        wrong = [w for name in self.habits if name in HABITS for w in HABITS[name](plan, step, results, right)]
        wrong = [w for w in wrong if w != right and w[3] >= 0]
        chances = {right: 1 - self.rate if wrong else 1.0}
        for line in wrong:
            chances[line] = chances.get(line, 0.0) + self.rate / len(wrong)
        return chances

    def value(self, plan: Plan, results: Results) -> float:
        """The chance of a right answer, exactly."""
        key = (plan.key, frozenset(results.items()))
        if key not in self._values:
            last = len(plan.steps) - 1
            if last in results:
                self._values[key] = float(results[last] == plan.values()[-1])
            else:
                after = ((c.chance, {**results, c.step: c.worked[3]}) for c in self.choices(plan, results))
                self._values[key] = math.fsum(chance * self.value(plan, done) for chance, done in after)
        return self._values[key]

    def say(self, plan: Plan, choice: _Choice, wording: int) -> str:
        """A line in one of its wordings."""
        step, (op, a, b, result) = plan.steps[choice.step], choice.worked
        return write_line(step.head, a, op, b, result, step.tail, wording) + "\n"


class ScriptedEngine:
    """The `Engine` contract on a `ScriptedPolicy`. It continues what it wrote itself, from the end of any line."""

    name = "scripted"

    def __init__(self, policy: ScriptedPolicy, stories: Sequence[Story], tokenizer: PreTrainedTokenizerBase):
        self.policy, self.tokenizer = policy, tokenizer
        self._encoded: dict[str, list[int]] = {}
        self.places: dict[tuple[int, ...], tuple[Plan, Results]] = {}
        """Prompt and response so far -> where that is."""
        for story in stories:
            self.places[tuple(self.encode(story.prompt))] = (story.plan, {})

    def encode(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return self._encoded[text]

    def value(self, token_ids: Sequence[int]) -> float:
        """The exact value of a prompt and a response so far."""
        return self.policy.value(*self.places[tuple(token_ids)])

    def generate(
        self, requests: Sequence[Request], on_tokens: Callable[[int], None] | None = None
    ) -> list[list[Completion]]:
        return [[self._write(r, random.Random(stable_seed(r.seed, i))) for i in range(r.n)] for r in requests]

    def _write(self, request: Request, rng: random.Random) -> Completion:
        so_far = list(request.prompt_token_ids)
        plan, results = self.places[tuple(so_far)]
        ids: list[int] = []
        logprobs: list[float] = []

        def write(text: str, chance: float, *ending: int) -> None:
            new = [*self.encode(text), *ending]
            ids.extend(new)
            logprobs.extend([math.log(chance), *[0.0] * (len(new) - 1)])

        while choices := self.policy.choices(plan, results):
            (choice,) = rng.choices(choices, [c.chance for c in choices])
            wording = rng.randrange(self.policy.wordings)
            write(self.policy.say(plan, choice, wording), choice.chance / self.policy.wordings)
            results = {**results, choice.step: choice.worked[3]}
            self.places[(*so_far, *ids)] = (plan, results)
        eos: Any = self.tokenizer.eos_token_id
        write(f"#### {results[len(plan.steps) - 1]}", 1.0, eos)
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        return Completion(ids, logprobs, text, "stop")

    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        raise NotImplementedError("a scripted policy believes nothing")

    def close(self) -> None:
        pass
