"""The fast way and the slow way never disagree where both settle a pair: generated answers and golds.

`python -m tests.verify.test_ways_agree 20000` runs it on other pairs and prints how many each way settles.
"""

import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from negrl.verify.equivalence import Outcome, compare_math, compare_plain, formulas

pytestmark = pytest.mark.slow

UNITS = [
    "",
    r"\text{ cm}",
    " cm",
    " dollars",
    r"^\circ",
    " apples",
    r"\text{ cm}^2",
    " (apples)",
    r" \text{ miles per hour}",
]
DRESSES = [
    "{}",
    "${}$",
    r"\({}\)",
    "**{}**",
    "*{}*",
    r"\boxed{{{}}}",
    r"\text{{{}}}",
    "{}.",
    " {} ",
    r"\displaystyle {}",
    "({})",
]
WORDS = [
    "even",
    "odd",
    "Evelyn",
    "yes",
    "no",
    "John",
    "blue",
    "ellipse",
    "Monday",
    "twelve",
    "forty-two",
    "two hundred",
]
TERMS = ["x", "2x", r"\sqrt{2}", r"\pi", "3", r"\frac{1}{2}", "n^2", "-y", "0.5", "ab", "7i", r"2\pi"]

integers = st.one_of(st.integers(-20, 20), st.integers(-(10**6), 10**6), st.integers(-(10**15), 10**15))
values = st.one_of(
    integers.map(Fraction),
    st.builds(Fraction, st.integers(-3000, 3000), st.sampled_from([2, 3, 4, 5, 6, 7, 8, 10, 12, 100, 1000])),
)


@st.composite
def written(draw: st.DrawFn, value: Fraction) -> str:
    """The value in one of the ways that people and models write it, sometimes rounded."""
    sign, size = "-" if value < 0 else draw(st.sampled_from(["", "", "", "+"])), abs(value)
    top, bottom = size.numerator, size.denominator
    forms = [
        rf"\frac{{{top}}}{{{bottom}}}",
        f"{top}/{bottom}",
        rf"\dfrac{{{top}}}{{{bottom}}}",
        f"{float(size):.8f}",
        f"{float(size):.2f}",
    ]
    if bottom == 1:
        forms += (
            [str(top)] * 6
            + [f"{top:,}"] * 3
            + [f"{top}.0", f"{top}e0", f"0{top}", f"{top:,}".replace(",", "{,}"), rf"{top} \times 10^{{0}}"]
        )
        forms += [
            f"{top:,}".replace(",", r"\,"),
            f"{top}.",
            f"{top * 100}%",
            rf"{top}\%",
            f"{top} percent",
            f"{top * 10}e-1",
        ]
        if top % 1000 == 0:
            forms += [f"{top // 1000} thousand", rf"{top // 1000} \times 10^3", f"{top // 1000}e3"]
    else:
        whole, rest = divmod(top, bottom)
        if whole:
            forms += [f"{whole} {rest}/{bottom}", rf"{whole}\frac{{{rest}}}{{{bottom}}}"]
        if bottom == 3:
            forms.append(rf"{whole}.\overline{{{rest * 3}}}")
    currency = draw(st.sampled_from(["", "", "", "", "$", r"\$"]))
    return sign + currency + draw(st.sampled_from(forms)) + draw(st.sampled_from([""] * 8 + UNITS))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """An answer and a gold that are equal, near, related (percent, powers of ten) or unrelated."""
    kind = draw(st.sampled_from(["number"] * 7 + ["words", "mixed", "terms"]))
    if kind == "words":
        texts = draw(st.sampled_from(WORDS)), draw(st.sampled_from(WORDS))
    elif kind == "terms":
        term = st.lists(st.sampled_from(TERMS), min_size=1, max_size=3)
        joint = draw(st.sampled_from(["+", ", ", " + ", " or "]))
        first = draw(term)
        second = draw(st.one_of(st.permutations(first), term))
        texts = joint.join(first), joint.join(second)
    else:
        value = draw(values)
        other = draw(
            st.one_of(
                st.just(value),
                st.just(value),
                st.just(-value),
                values,
                st.just(value * 100),
                st.just(value / 100),
                st.sampled_from([1, -1, Fraction(1, 100), Fraction(1, 10**7)]).map(lambda d: value + d),
            )
        )
        texts = draw(written(value)), draw(written(other)) if kind == "number" else draw(st.sampled_from(WORDS + TERMS))
        if draw(st.booleans()):
            texts = texts[1], texts[0]
    dress = [draw(st.sampled_from(["{}"] * 12 + DRESSES)).format(text) for text in texts]
    return dress[0], dress[1]


def both(answer: str, gold: str) -> tuple[Outcome | None, Outcome]:
    return compare_plain(answer, gold), compare_math(*formulas(answer, gold))


@settings(max_examples=800, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(pairs())
def test_the_fast_way_never_disagrees_with_the_slow_one(pair: tuple[str, str]) -> None:
    fast, slow = both(*pair)
    assert fast is None or None in (fast[0], slow[0]) or fast[0] == slow[0], (pair, fast, slow)


def main(count: int) -> None:
    seen: Counter[str] = Counter()
    disagreed: list[object] = []

    @seed(count)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pairs())
    def run(pair: tuple[str, str]) -> None:
        fast, slow = both(*pair)
        seen["pairs"] += 1
        seen["fast settles"] += fast is not None and fast[0] is not None
        seen["slow settles"] += slow[0] is not None
        if fast is not None and None not in (fast[0], slow[0]):
            seen[f"both settle: {fast[0]}"] += 1
            if fast[0] != slow[0]:
                disagreed.append((pair, fast, slow))

    run()
    print(dict(seen), f"{len(disagreed)} disagreements", *disagreed[:30], sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
