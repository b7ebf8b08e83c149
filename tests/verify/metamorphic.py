r"""Right answers, changed so that they are wrong, and rewritten so that they stay right; no list of answers needed.

A value is made first, exactly; then the gold answer is written, and an answer from it: a rewriting (never incorrect)
or a change (never correct). The "real" kinds take solutions of GSM8K, SVAMP (both MIT) and ProcessBench's GSM8K part
(Apache-2.0) without their last line, from excerpts.jsonl, and put an answer at their end.

`python tests/verify/metamorphic.py [cases] [seed]` prints the counts by kind; under the PYTHONPATH of another checkout
it counts there.
"""

from __future__ import annotations

import functools
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

UNITS = [
    ("cm", r"\text{ cm}", "centimeters"),
    ("km", r"\text{ km}", "kilometers"),
    ("kg", r"\text{ kg}", "kilograms"),
    ("hours", r"\text{ hours}", "hours"),
    ("minutes", r"\text{ min}", "minutes"),
    ("apples", r"\text{ apples}", "apples"),
    ("books", r" \text{books}", "books"),
    ("miles", r"\text{ miles}", "miles"),
]
CURRENCIES = [(r"\$", "dollars"), ("€", "euros"), ("£", "pounds"), ("¥", "yen")]
CHANGING = re.findall(
    r"[^;]+",
    "tenths;thousandths;gross;lakh;crore;quadrillion;halves;reciprocal;squared;dozenths;"
    "in binary;(wrong);unless;percentage points;basis points;minus 1;or less;(not);base 7;modulo 5",
)
LATER = [
    "\n#### {}",
    ", but the answer is {}.",
    ". Wait, actually it is {}.",
    ". No, that's wrong, it is {}.",
    "\nThe final answer is {}.",
    "\nA: {}",
    ". Correction: {}.",
    ". Hence it is {}.",
    "\n{}",
    " or {}",
    ". I made a mistake; {}.",
    ". So the result is {}.",
    " = {}",
    ". It turns out to be {}.",
    ". Answer: {}",
]
MARKS = [r"So \boxed{{{}}}", "Work.\n#### {}", "Hence the answer is ${}$", r"$$x=\boxed{{{}}}$$"]
EXPRESSIONS = [  # equal in pairs, unlike from row to row
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"\frac{\pi}{2}", r"0.5\pi"),
    ("x^2-1", "(x-1)(x+1)"),
    ("2x+3", "3+2x"),
    (r"\frac{x}{2}", r"\frac12 x"),
    (r"3\sqrt{5}", r"\sqrt{45}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    ("2^{10}x", "1024x"),
    (r"e^{2x}", r"(e^x)^2"),
    (r"6\pi", r"2\pi\cdot 3"),
    ("n(n+1)", "n^2+n"),
    (r"a+b", "b+a"),
    (r"\frac{a}{b}", "a/b"),
    ("x^3", r"x\cdot x^2"),
    (r"\ln 4", r"2\ln 2"),
    ("5i", r"\sqrt{-25}"),
    (r"1+\sqrt{7}", r"\sqrt{7}+1"),
]


@dataclass(frozen=True)
class Case:
    kind: str
    gold: str
    response: str
    right: bool


def number(rng: random.Random) -> Fraction:
    kind = rng.randrange(5)
    if kind < 2:
        return Fraction(rng.randrange(2, 10 ** rng.randrange(1, 8)))
    if kind == 2:
        return Fraction(rng.randrange(1, 100000), 10 ** rng.randrange(1, 4))
    if kind == 3:
        return Fraction(rng.randrange(1, 60), rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 11, 12]))
    return Fraction(rng.randrange(1, 999)) * Fraction(10) ** rng.randrange(-14, 9)


def write(value: Fraction) -> str:
    """One plain way."""
    if value.denominator == 1:
        return str(value.numerator)
    places = next((n for n in range(20) if 10**n % value.denominator == 0), None)
    if places is None:
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return f"{float(value):.{places}f}" if places < 12 else scientific(value)


def scientific(value: Fraction) -> str:
    exponent, size = 0, abs(value)
    while size >= 10:
        size, exponent = size / 10, exponent + 1
    while size < 1:
        size, exponent = size * 10, exponent - 1
    digits = str(size.numerator) if size.denominator == 1 else f"{float(size):.10f}".rstrip("0")
    return rf"{'-' if value < 0 else ''}{digits} \times 10^{{{exponent}}}"


def decimal(value: Fraction) -> bool:
    return any(10**n % value.denominator == 0 for n in range(20))


def rewritten(value: Fraction, rng: random.Random) -> str:
    """Another way to write the same."""
    ways = [
        write(value),
        f" {write(value)} ",
        f"x = {write(value)}",
        f"{{{write(value)}}}",
        rf"\left({write(value)}\right)",
        rf"\displaystyle {write(value)}",
    ]
    sign, size = ("-" if value < 0 else ""), abs(value)
    if value.denominator == 1 and size >= 1000:
        grouped = f"{size.numerator:,}"
        ways += [sign + grouped] + [
            sign + grouped.replace(",", by) for by in (" ", r"\,", "{,}", "\u00a0", "\u202f", r"\;", r",\!", "~")
        ]
    if value.denominator > 1:
        n, d = size.numerator, size.denominator
        ways += [
            rf"{sign}\dfrac{{{n}}}{{{d}}}",
            rf"{sign}\tfrac{{{n}}}{{{d}}}",
            f"{sign}{n}/{d}",
            rf"{sign}\frac {{{n}}} {{{d}}}",
            rf"{sign}\frac{{{2 * n}}}{{{2 * d}}}",
        ]
        if n < 10 and d < 10:
            ways += [rf"{sign}\frac{n}{d}", rf"{sign}\frac {n} {d}"]
        if n > d:
            ways += [rf"{sign}{n // d}\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}"]
    if decimal(value) and len(str(size.numerator)) < 12:
        ways += [
            scientific(value),
            scientific(value).replace(r"\times", r"\cdot"),
            scientific(value).replace(r" \times ", r"\times"),
        ]
    return rng.choice(ways)


def changed(value: Fraction, rng: random.Random) -> str:
    """The text of another number: a digit, the exponent or the sign is different."""
    while True:
        text = write(value) if rng.random() < 0.7 or not decimal(value) else scientific(value)
        way = rng.randrange(5)
        spots = [i for i, c in enumerate(text) if c.isdigit()]
        if way == 0:  # a digit
            at = rng.choice(spots)
            text = text[:at] + rng.choice([c for c in "0123456789" if c != text[at]]) + text[at + 1 :]
        elif way == 1:  # the sign
            text = text[1:] if text.startswith("-") else "-" + text
        elif way == 2:  # the exponent
            text = (
                rf"{text} \times 10^{{{rng.choice([-3, -1, 1, 3])}}}"
                if "10^" not in text
                else re.sub(r"(?<=\^\{)-?", lambda m: m[0] + rng.choice("124"), text, count=1)
            )
        elif way == 3:  # a digit more
            at = rng.choice(spots)
            text = text[:at] + rng.choice("123456789") + text[at:]
        else:  # a space between two digits
            pairs = [i for i in spots if i + 1 in spots]
            if not pairs or "frac" in text:
                continue
            at = rng.choice(pairs) + 1
            if len(text) - at == 3 or "." in text or len(text) > 6:
                continue
            return text[:at] + rng.choice([" ", r"\ ", "\u00a0", r"\quad ", "\u2003", r"\;"]) + text[at:]
        try:
            found = value_of(text)
        except ValueError:  # no number any more
            continue
        if found is not None and found not in (value, value * 100, value / 100):
            return text


def value_of(text: str) -> Fraction | None:
    """The value of what `write`, `scientific` and `changed` make; nothing of the house's in it."""
    sign = -1 if text.startswith("-") else 1
    text, power = text.lstrip("-"), 0
    while r" \times 10^{" in text:
        text, _, exponent = text.rpartition(r" \times 10^{")
        power += int(exponent.rstrip("}"))
    if text.startswith(r"\frac{"):
        top, _, bottom = text[6:-1].partition("}{")
        if not int(bottom):
            return None
        size = Fraction(int(top), int(bottom))
    else:
        size = Fraction(text)
    return sign * size * Fraction(10) ** power


def respond(answer: str, rng: random.Random) -> str:
    mark = rng.choice(MARKS[:2] if "$" in answer or "\n" in answer else MARKS)
    return mark.format(answer)


def make(rng: random.Random) -> Case:
    kind = rng.choices(list(_KINDS), [1 if kind in _SLOW else 5 for kind in _KINDS])[0]
    gold, response, right = _KINDS[kind](rng)
    return Case(kind, gold, response, right)


Made = tuple[str, str, bool]


def _rewrite(rng: random.Random) -> Made:
    value = number(rng) * rng.choice([1, 1, -1])
    return write(value), respond(rewritten(value, rng), rng), True


def _digit(rng: random.Random) -> Made:
    value = number(rng) * rng.choice([1, 1, -1])
    return write(value), respond(changed(value, rng), rng), False


def _word(rng: random.Random) -> Made:
    text = write(number(rng))
    return text, respond(f"{text} {rng.choice(CHANGING)}", rng), False


def _unit(rng: random.Random) -> Made:
    text, (one, other) = write(number(rng)), rng.sample(UNITS, 2)
    return text + one[1], respond(text + (other[1] if rng.random() < 0.5 else " " + other[2]), rng), False


def _same_unit(rng: random.Random) -> Made:
    text, unit = write(number(rng)), rng.choice(UNITS)
    return (
        text + unit[1],
        respond(text + rng.choice(["", " " + unit[0], unit[1], " " + unit[2], f" ({unit[0]})"]), rng),
        True,
    )


def _currency(rng: random.Random) -> Made:
    text, (one, other) = str(rng.randrange(2, 9999)), rng.sample(CURRENCIES, 2)
    wrong = rng.choice([other[0] + text, f"{text} {other[1]}", f"{text} cents"])
    return one[0] + text, respond(wrong, rng), False


def _same_currency(rng: random.Random) -> Made:
    value, one = rng.randrange(2, 99999), rng.choice(CURRENCIES)
    return (
        f"{one[0]}{value}",
        respond(rng.choice([f"{value}", f"{value:,}", f"{one[0]}{value:,}", f"{value} {one[1]}"]), rng),
        True,
    )


def _tuple(rng: random.Random) -> Made:
    items = _items(rng)
    way, inner = rng.randrange(6), ", ".join(map(write, items))
    if way == 0:
        return f"({inner})", respond(f"({', '.join(map(write, items[1:] + items[:1]))})", rng), False
    if way == 1:
        return f"({inner})", respond(rf"\{{{inner}\}}", rng), False
    if way == 2:
        return rf"\{{{inner}\}}", respond(f"({inner})", rng), False
    if way == 3:
        at = rng.randrange(len(items))
        texts = [changed(item, rng) if i == at else write(item) for i, item in enumerate(items)]
        return f"({inner})", respond(f"({', '.join(texts)})", rng), False
    if way == 4:
        at = rng.randrange(len(items))
        texts = [write(item + 1) if i == at else write(item) for i, item in enumerate(items)]
        return rf"\{{{inner}\}}", respond(rf"\{{{', '.join(texts)}\}}", rng), False
    return (
        f"[{write(items[0])},{write(items[1])})",
        respond(rng.choice(["({},{}]", "({},{})", "[{},{}]"]).format(*map(write, items[:2])), rng),
        False,
    )


def _items(rng: random.Random) -> list[Fraction]:
    items: list[Fraction] = []
    while len(items) < rng.choice([2, 2, 3]):
        value = Fraction(rng.randrange(-99, 99), rng.choice([1, 1, 1, 2, 4]))
        if value and value not in items:
            items.append(value)
    return sorted(items)


def _order(rng: random.Random) -> Made:
    items = _items(rng)
    texts = [
        rewritten(item, rng).replace("x = ", "").strip() if abs(item) < 1000 else write(item)
        for item in rng.sample(items, len(items))
    ]
    return (
        rf"\{{{', '.join(map(write, items))}\}}",
        respond(rng.choice([r"\{{{}\}}", "{}"]).format(", ".join(texts)), rng),
        True,
    )


def _interval(rng: random.Random) -> Made:
    a, b = (write(item) for item in _items(rng)[:2])
    return (
        f"({a},{b}]",
        respond(rng.choice(["({}, {}]", r"\left({},{}\right]", "( {} , {} ]", "{} < x \\le {}"]).format(a, b), rng),
        True,
    )


def _expression(rng: random.Random) -> Made:
    one, other = rng.choice(EXPRESSIONS)
    return one, respond(other, rng), True


def _other_expression(rng: random.Random) -> Made:
    one, other = rng.sample(EXPRESSIONS, 2)
    way = rng.randrange(3)
    if way == 0:
        return one[0], respond(rng.choice(other), rng), False
    text = one[rng.randrange(2)]
    if way == 1:
        return one[0], respond(rng.choice([f"-({text})", f"{text}+1", f"2({text})"]), rng), False
    return (
        one[0],
        respond(
            rng.choice(["{}'", r"\phantom{{{}}}", r"\overline{{{}}}", "({})^T", "44={}", "{}=1=2"]).format(text), rng
        ),
        False,
    )


def _later(rng: random.Random) -> Made:
    value = Fraction(rng.randrange(2, 9999))
    other = value + rng.choice([1, 2, 10])
    text, later = write(value), rng.choice(LATER).format(write(other))
    return (
        text,
        (rf"So \boxed{{{text}}}" if rng.random() < 0.7 or later[:2] == " =" else f"Hence the answer is ${text}$")
        + later,
        False,
    )


def _not_said(rng: random.Random) -> Made:
    text = write(Fraction(rng.randrange(2, 9999)))
    around = rng.choice(
        [
            "<think>{}</think>",
            "<THINK>{}</THINK>",
            "<thinking>{}</thinking>",
            "```\n{}\n```",
            "<!-- {} -->",
            "% {}",
            "~~{}~~",
            "If the answer is {} then stop.",
            "Put it in {}",
            "The answer is not {}",
            "\\begin{{verbatim}}{}\\end{{verbatim}}",
            "\\verb|{}|",
            "The wrong answer is {}.",
            "{} thousand",
            "-{}",
            "2\\cdot{}",
        ]
    )
    return text, around.format(rf"\boxed{{{text}}}"), False


def _small(rng: random.Random) -> Made:
    exponent = rng.randrange(-40, -6)
    a, b = rng.sample(range(11, 99), 2)
    return (
        rf"{a / 10} \times 10^{{{exponent}}}",
        respond(
            rng.choice(
                [f"{b / 10}e{exponent}", rf"{b / 10}\times10^{{{exponent}}}", rf"{a / 10}\times10^{{{exponent - 1}}}"]
            ),
            rng,
        ),
        False,
    )


def _chain(rng: random.Random) -> Made:
    a, b = rng.randrange(2, 500), rng.randrange(2, 500)
    right = rng.random() < 0.4
    if right:
        return (
            str(a + b),
            respond(
                rng.choice(["{a}+{b}={c}", "x={a}+{b}={c}", "x={c}", "f(2)={c}", "{c}=x"]).format(a=a, b=b, c=a + b),
                rng,
            ),
            True,
        )
    return (
        str(a + b),
        respond(
            rng.choice(["{a}+{b}={d}={c}", "x={d}={c}", "{d}={c}", "{a}+{b}={d}", "x={c}={d}", "{d}={d}={c}"]).format(
                a=a, b=b, c=a + b, d=a + b + 1
            ),
            rng,
        ),
        False,
    )


ENDS = ["\n#### {}", "\nSo \\boxed{{{}}}", "\nA: {}", "\nThe answer is {}.", "\n**Final answer:** \\(\\boxed{{{}}}\\)"]


@functools.cache
def excerpts() -> list[dict[str, str]]:
    """Real solutions without the line of their answer, and the gold answer."""
    lines = Path(__file__).with_name("excerpts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _real(rng: random.Random) -> Made:
    row = rng.choice(excerpts())
    value = Fraction(row["gold"])
    answer = rng.choice([write(value), write(value), rewritten(value, rng)])
    return row["gold"], row["solution"] + rng.choice(ENDS).format(answer), True


def _real_changed(rng: random.Random) -> Made:
    row = rng.choice(excerpts())
    return row["gold"], row["solution"] + rng.choice(ENDS).format(changed(Fraction(row["gold"]), rng)), False


def _real_later(rng: random.Random) -> Made:
    row = rng.choice(excerpts())
    value = Fraction(row["gold"])
    later = rng.choice(LATER).format(write(value + rng.choice([1, 2, 10])))
    return row["gold"], row["solution"] + rf"\nSo \boxed{{{write(value)}}}" + later, False


_KINDS: dict[str, Callable[[random.Random], Made]] = {
    "rewritten number": _rewrite,
    "changed digit, sign, exponent or space": _digit,
    "word after it": _word,
    "other unit": _unit,
    "same unit": _same_unit,
    "other currency": _currency,
    "same currency": _same_currency,
    "tuple, set or interval changed": _tuple,
    "set in another order": _order,
    "interval rewritten": _interval,
    "equivalent expression": _expression,
    "other or marked expression": _other_expression,
    "another final answer": _later,
    "mark that does not count": _not_said,
    "small magnitude": _small,
    "chain": _chain,
    "real solution, answer rewritten": _real,
    "real solution, answer changed": _real_changed,
    "real solution, another final answer": _real_later,
}


_SLOW = frozenset(
    ["set in another order", "interval rewritten", "equivalent expression", "other or marked expression", "chain"]
)
"""These take math-verify: fewer of them."""


def cases(count: int, seed: int) -> list[Case]:
    rng = random.Random(seed)
    return [make(rng) for _ in range(count)]


def bad(case: Case, verdict: str) -> bool:
    """A wrong answer that is called correct, or a right one that is called incorrect."""
    return verdict == ("incorrect" if case.right else "correct")


def main(count: int = 10_000, seed: int = 0) -> None:
    from negrl.recipe import VerifySection
    from negrl.verify import Verifier

    made = cases(count, seed)
    found = Verifier(VerifySection(workers=2)).verify_all([(c.response, c.gold, "stop") for c in made])
    counts = Counter((c.kind, c.right, v.value) for c, v in zip(made, found, strict=True))
    print("| kind | right | cases | correct | incorrect | undecided |\n|---|---|---|---|---|---|")
    for kind, right in sorted({(c.kind, c.right) for c in made}):
        said = [counts[kind, right, value] for value in ("correct", "incorrect", "undecided")]
        print(f"| {kind} | {'yes' if right else 'no'} | {sum(said)} | {' | '.join(map(str, said))} |")
    wrong = [(c, v) for c, v in zip(made, found, strict=True) if bad(c, v.value)]
    print(f"\n{len(made)} cases, {len(wrong)} false verdicts")
    for case, verdict in wrong[: 0 if len(sys.argv) < 4 else int(sys.argv[3])]:
        print(case, verdict.value, verdict.reason, repr(verdict.answer))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
