"""The language of the `ledger` world: sentences from events, and events from sentences.

An `Event` is one sentence of a story, or its question. Every kind has up to three phrasings; `say` and
`read` are inverses of each other, so a problem's prompt is all that its checker needs.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from negrl.errors import InputError

NAMES = (
    "Tom", "Ana", "Ben", "Eva", "Max", "Lily", "Sam", "Mia", "Leo", "Zoe", "Jack", "Nora", "Omar", "Ruth", "Paul",
    "Iris", "Noah", "Vera", "Hugo", "Tara", "Finn", "Lena", "Carl", "Rosa", "Adam", "Jane", "Erik", "Maya", "Luis",
    "Gina", "Ivan", "Dora", "Kofi", "Aisha", "Ravi", "Mei", "Juan", "Olga", "Yuki", "Sara", "Amir", "Nina", "Otto",
    "Elsa", "Theo", "Lucy", "Bram", "Kira", "Dean", "Faye", "Glen", "Hana", "Igor", "June", "Kurt", "Lola", "Milo",
    "Nell", "Owen", "Pia", "Rafi", "Suki", "Todd", "Una",
)  # fmt: skip
THINGS = (
    "apples", "coins", "books", "dollars", "stickers", "kg of rice", "pencils", "eggs", "marbles",
    "minutes of free time", "cards", "liters of milk", "shells", "stamps", "oranges", "buttons", "flowers",
    "meters of rope", "tickets", "stones", "beads", "kg of flour", "cookies", "balloons", "pears", "toys",
    "liters of paint", "seeds", "plates", "candles", "bricks", "keys",
)  # fmt: skip
NOT_FOR_SALE = ("dollars", "minutes of free time")

TEMPLATES: dict[str, tuple[str, ...]] = {
    # what is given
    "start": ("{who} has {k} {thing}.", "{who} starts with {k} {thing}.", "{who} is the owner of {k} {thing}."),
    "rate": (
        "Every day {who} collects {k} {thing}, for {n} days.",
        "{who} collects {k} {thing} a day and does so for {n} days.",
        "For {n} days {who} puts {k} {thing} aside each day.",
    ),
    # how one amount follows from another
    "more": (
        "{who} has {k} more {thing} than {other}.",
        "{who} has {k} {thing} more than {other}.",
        "If {other} had {k} more {thing}, {who} would have as many.",
    ),
    "fewer": (
        "{who} has {k} fewer {thing} than {other}.",
        "{who} has {k} {thing} less than {other}.",
        "If {other} had {k} fewer {thing}, {who} would have as many.",
    ),
    "times": (
        "{who} has {k} times as many {thing} as {other}.",
        "{who} owns {k} times the {thing} of {other}.",
        "For each one of the {thing} of {other}, {who} has {k}.",
    ),
    "half": (
        "{who} has half as many {thing} as {other}.",
        "{who} owns half of what {other} has in {thing}.",
        "{other} has twice the {thing} that {who} has.",
    ),
    "more_first": (
        "{who} has {k} more {thing} than {other} had at first.",
        "{who} has {k} {thing} more than {other} had in the beginning.",
        "{who} has {k} {thing} on top of what {other} began with.",
    ),
    "fewer_first": (
        "{who} has {k} fewer {thing} than {other} had at first.",
        "{who} has {k} {thing} less than {other} had in the beginning.",
        "{who} is {k} {thing} short of what {other} began with.",
    ),
    "gain": (
        "Then {who} gets {k} more {thing}.",
        "After that, {who} finds {k} {thing}.",
        "Next, {k} {thing} are given to {who}.",
    ),
    "lose": (
        "Then {who} loses {k} {thing}.",
        "After that, {who} gives away {k} {thing}.",
        "Next, {k} {thing} are taken from {who}.",
    ),
    "both": (
        "{who} has as many {thing} as {other} and {third} together.",
        "{who} owns as many {thing} as {other} and {third} do in all.",
        "The {thing} of {other} and {third} together are as many as {who} has.",
    ),
    "most": (
        "{who} has as many {thing} as {other} or {third}, whoever has more.",
        "{who} has the larger of the amounts of {thing} of {other} and {third}.",
        "Of {other} and {third}, {who} has as many {thing} as the one with more.",
    ),
    "least": (
        "{who} has as many {thing} as {other} or {third}, whoever has fewer.",
        "{who} has the smaller of the amounts of {thing} of {other} and {third}.",
        "Of {other} and {third}, {who} has as many {thing} as the one with fewer.",
    ),
    # what doesn't matter
    "age": ("{who} is {k} years old.", "{who} turned {k} last week.", "The age of {who} is {k}."),
    "also": ("{who} also has {k} {thing}.", "{who} owns {k} {thing} as well.", "{who} keeps {k} {thing} at home."),
    "away": ("The shop is {k} minutes away.", "It takes {k} minutes to the shop.", "The bus comes in {k} minutes."),
    # the question
    "ask": (
        "How many {thing} does {who} have now?",
        "What number of {thing} does {who} have in the end?",
        "Now, how many {thing} are with {who}?",
    ),
    "together": (
        "How many {thing} do {who} and {other} have together?",
        "What is the number of {thing} of {who} and {other} in all?",
        "If {who} and {other} share, how many {thing} is that?",
    ),
    "difference": (
        "How many more {thing} does {who} have than {other}?",
        "By how many {thing} is {who} ahead of {other}?",
        "How many {thing} does {other} need to catch up with {who}?",
    ),
    "sale": (
        "How many dollars does {who} get for all the {thing}, at {k} dollars each?",
        "If {who} sells all the {thing} at {k} dollars each, how many dollars is that?",
        "At {k} dollars each, what are all the {thing} of {who} worth in dollars?",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One sentence: what is said (`kind`), of whom, in comparison with whom, with which numbers."""

    kind: str
    who: str = ""
    other: str = ""
    third: str = ""
    thing: str = ""
    k: int = 0
    n: int = 0


def say(event: Event, phrasing: int = 0) -> str:
    """The sentence of an event."""
    fields = {name: getattr(event, name) for name in ("who", "other", "third", "thing", "k", "n")}
    return TEMPLATES[event.kind][phrasing].format(**fields)


def read(prompt: str) -> list[Event]:
    """The events of a story with its question, as `say` wrote them.

    Raises:
        InputError: a sentence is none of this world's.
    """
    return [_event(sentence) for sentence in re.split(r"(?<=[.?]) ", prompt.strip())]


def _event(sentence: str) -> Event:
    for kind, patterns in _patterns().items():
        for pattern in patterns:
            if match := pattern.fullmatch(sentence):
                words = {**dict.fromkeys(("who", "other", "third", "thing"), ""), **match.groupdict()}
                k, n = int(words.pop("k", 0)), int(words.pop("n", 0))
                return Event(kind, **words, k=k, n=n)
    raise InputError(f"problems.source: ledger: not a sentence of this world: {sentence!r:.80}")


@functools.cache
def _patterns() -> dict[str, list[re.Pattern[str]]]:
    person, thing, number = "|".join(NAMES), "|".join(THINGS), "[0-9]{1,6}"
    words = {"who": person, "other": person, "third": person, "thing": thing, "k": number, "n": number}
    groups = {name: f"(?P<{name}>{word})" for name, word in words.items()}
    return {
        kind: [re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: groups[m[1]], re.escape(t))) for t in templates]
        for kind, templates in TEMPLATES.items()
    }
