"""What a text has worked out so far: its facts, whatever the words around them.

`3 + $4 = $7`, `She has 4+3=7 eggs` and `<<3+4=7>>` state the same fact. Two prefixes of one problem with the same set
of facts are in the same *state*: their authors know the same things, mostly, and may go on alike.

A fact that is missed would make unequal prefixes equal, so what can't be read counts by its words: a line with an
equation that is not a plain sum is a fact as it stands, and so is a number that neither the problem nor an earlier
fact has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from negrl.records import Problem
from negrl.steps.equation_sums import OPERATIONS
from negrl.steps.equation_tokens import Token, tokenize
from negrl.steps.equations import MAX_CHARACTERS, sums

State = frozenset[str]
_CALCULATOR = re.compile(r"(=[ $]{0,4})(<<[^<>\n]{0,200}>>)")
"""GSM8K's notes, which say again what stands before them: 3 + 4 = <<3+4=7>>7."""


@dataclass(frozen=True, slots=True)
class Fact:
    """`key` is equal for equal facts; the text has stated it by its character `end`."""

    end: int
    key: str


def read_facts(text: str, given: str = "") -> list[Fact]:
    """The facts of a response, in order. The time is linear in the length of the text.

    Args:
        given: the problem: its numbers are no news.
    """
    if len(text) > MAX_CHARACTERS:
        return [Fact(end, line) for end, line in _lines(text)]
    text = _CALCULATOR.sub(lambda match: match[1] + " " * len(match[2]), text)
    tokens = tokenize(text)
    facts: list[Fact] = []
    read: set[int] = set()  # indices of tokens that are part of a sum
    known = {_number(t): 0 for t in tokenize(given[:MAX_CHARACTERS]) if t.kind == "number"}  # and from where on
    for found in sums(tokens):
        result = str((found.right.low + found.right.high) / 2)
        facts.append(Fact(tokens[found.stop - 1].end, f"{_left_side(tokens[found.start : found.at])}={result}"))
        read.update(range(found.start, found.stop))
        known.setdefault(result, text.rfind("\n", 0, tokens[found.start].start) + 1)
    unread = {t.start for i, t in enumerate(tokens) if t.kind in ("equal", "approx") and i not in read}
    facts += [Fact(end, line) for end, line in _lines(text) if any(at in unread for at in range(end - len(line), end))]
    for i, token in enumerate(tokens):
        if token.kind == "number" and i not in read and known.get(_number(token), token.end) >= token.end:
            known[_number(token)] = 0
            facts.append(Fact(token.end, _number(token)))
    return sorted(facts, key=lambda fact: fact.end)


def facts_in_words(problem: Problem, text: str) -> list[Fact]:
    """The facts of a response to a problem, by its words alone."""
    return read_facts(text, problem.prompt)


def states(facts: Sequence[Fact], ends: Iterable[int]) -> list[State]:
    """What is known at each of the characters `ends` (ascending)."""
    found: list[State] = []
    state: State = frozenset()
    at = 0
    for end in ends:
        new = at
        while new < len(facts) and facts[new].end <= end:
            new += 1
        if new > at:
            state |= {fact.key for fact in facts[at:new]}
        at = new
        found.append(state)
    return found


def passed(facts: Sequence[Fact]) -> dict[State, None]:
    """Every state that a text goes through, in order, the empty one first."""
    return dict.fromkeys([frozenset(), *states(facts, (fact.end for fact in facts))])


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(where it ends, the line) of each line that says something."""
    cuts = [-1, *(i for i, c in enumerate(text) if c == "\n"), len(text)]
    for before, end in pairwise(cuts):
        if text[before + 1 : end].strip():
            yield end, text[before + 1 : end]


def _left_side(tokens: Sequence[Token]) -> str:
    """A sum without its words; the operands in order where the order is all the same."""
    kept = [t for t in tokens if t.kind in ("number", "percent", "(", ")", "frac") or t.kind in OPERATIONS]
    operators = {t.kind for t in kept if t.kind != "number"}
    parts = [_number(t) if t.kind == "number" else t.kind for t in kept]
    if len(operators) == 1 and operators <= {"+", "*"}:
        sign = operators.pop()
        return f" {sign} ".join(sorted(part for part in parts if part != sign))
    return " ".join(parts)


def _number(token: Token) -> str:
    return str(Fraction(token.low + token.high) / 2)
