"""Draw a random story of the `ledger` world, according to its settings."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

from negrl.errors import InputError
from negrl.problems.ledger.plan import Plan, plan_of
from negrl.problems.ledger.section import LedgerProblems
from negrl.problems.ledger.text import NAMES, NOT_FOR_SALE, THINGS, Event, say
from negrl.records import stable_seed

_TRIES = 500


@dataclass(frozen=True, slots=True)
class Story:
    """The text of a problem and its plan."""

    prompt: str
    plan: Plan


@functools.lru_cache(maxsize=16)
def vocabulary(seed: int, people: int, things: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names and things that belong to a seed."""
    rng = random.Random(stable_seed("ledger-words", seed))
    return tuple(rng.sample(NAMES, people)), tuple(rng.sample(THINGS, things))


def draw(rng: random.Random, section: LedgerProblems) -> Story:
    """One story. All its steps are whole, positive and at most `section.largest`.

    Raises:
        InputError: the settings allow no story.
    """
    steps = rng.randint(*section.steps)
    for _ in range(_TRIES):
        found = _try(rng, section, steps)
        if found is not None:
            events, plan = found
            told = [say(event, rng.randrange(section.phrasings)) for event in events]
            return Story(" ".join(told) + "\n", plan)
    raise InputError(
        f"problems.relations: no story of {steps} steps in {_TRIES:,} tries; allow more relations, or raise "
        "problems.largest"
    )


def _try(rng: random.Random, section: LedgerProblems, steps: int) -> tuple[list[Event], Plan] | None:
    people, things = vocabulary(section.seed, section.people, section.things)
    free = rng.sample(people, len(people))
    thing, other_thing = rng.sample(things, 2)
    question = rng.choice(section.questions)
    rate = rng.random() < section.rates and steps > 1
    who = free.pop()
    if rate:
        events = [Event("rate", who, thing=thing, k=rng.randint(2, section.numbers), n=rng.randint(2, 5))]
    else:
        events = [Event("start", who, thing=thing, k=rng.randint(2, section.numbers))]
    owners, newest = [who], who
    done = int(rate)
    for _ in range(4 * steps):
        if done >= steps - (question != "ask"):
            break
        event = _relation(rng, section, owners, newest, free, thing, events[-1].kind in ("gain", "lose"))
        if event is None:
            continue
        so_far = plan_of([*events, event, Event("ask", event.who, thing=thing)])
        new = event.who not in owners
        if not _fits(so_far, section) or len(owners) + new > section.steps[1] + 1:
            continue
        done = len(so_far.steps)  # not always one more: what somebody had at first needs no change since
        newest = event.who
        events.append(event)
        if new:
            owners.append(free.pop())
    asked = _question(rng, section, question, owners, newest, thing)
    if asked is None:
        return None
    _distract(rng, section, events, owners, free, thing, other_thing)
    plan = plan_of([*events, asked])
    return ([*events, asked], plan) if len(plan.steps) == steps and _fits(plan, section) else None


def _fits(plan: Plan, section: LedgerProblems) -> bool:
    return all(v.denominator == 1 and 1 <= v <= section.largest for v in plan.values())


def _relation(rng: random.Random, section: LedgerProblems, owners: list[str], newest: str, free: list[str],
              thing: str, changed: bool) -> Event | None:  # fmt: skip
    """What happens next, to the newest amount or based on it. `changed`: the amount is not what it was at first."""
    kind, k = rng.choice(section.relations), rng.randint(2, section.numbers)
    if kind in ("more_first", "fewer_first") and not changed:
        return None
    if kind in ("gain", "lose"):
        return Event(kind, newest, thing=thing, k=k)
    if kind in ("both", "most", "least"):
        others = [p for p in owners if p != newest]
        return Event(kind, free[-1], newest, rng.choice(others), thing) if others else None
    if kind in ("times", "half"):
        k = 0 if kind == "half" else rng.randint(2, 5)
    return Event(kind, free[-1], newest, thing=thing, k=k)


def _question(rng: random.Random, section: LedgerProblems, kind: str, owners: list[str], newest: str,
              thing: str) -> Event | None:  # fmt: skip
    if kind == "ask":
        return Event(kind, newest, thing=thing)
    if kind == "sale":
        return None if thing in NOT_FOR_SALE else Event(kind, newest, thing=thing, k=rng.randint(2, 9))
    others = [p for p in owners if p != newest]
    if not others:
        return None
    pair = [newest, rng.choice(others)]
    rng.shuffle(pair)  # a difference of the wrong sign is drawn again
    return Event(kind, pair[0], pair[1], thing=thing)


def _distract(rng: random.Random, section: LedgerProblems, events: list[Event], owners: list[str], free: list[str],
              thing: str, other_thing: str) -> None:  # fmt: skip
    """Put sentences that don't matter anywhere after the first."""
    aged: set[str] = set()
    for _ in range(rng.randint(*section.distractors)):
        kind, k = rng.choice(("age", "also", "away", "start")), rng.randint(2, section.numbers)
        who = free.pop() if kind == "start" else rng.choice(owners)
        if kind == "away" or f"{kind} {who}" in aged:
            event = Event("away", k=k)
        elif kind == "age":
            event = Event(kind, who, k=k)
        else:
            event = Event(kind, who, thing=other_thing if kind == "also" else thing, k=k)
        aged.add(f"{kind} {who}")
        events.insert(rng.randint(1, len(events)), event)
