"""Where the answer stands: one table per method."""

import pytest

from negrl.verify.extract import EXTRACTORS, extract, gold_answer

DEEP = "{" * 100_000 + "1" + "}" * 100_000

TABLES = {
    "boxed": [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{x = \boxed{5}}", r"x = \boxed{5}"),
        (r"$\boxed{840}$ and again $\boxed{840}$", "840"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1, 2"),
        (r"\boxed{3}, \boxed{4}, or \boxed{5}", "3, 4, 5"),
        (r"\boxed{7}. Put it in \boxed{}.", "7"),
        (r"\fbox{8}", "8"),
        (r"\boxed 12", "12"),
        (r"in \boxed{ then \boxed{5}", "5"),
        (r"\boxed{5} no, \boxed{6", None),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{}", None),
        ("no box, 5", None),
        (r"\boxed{" + DEEP + "}", DEEP),
    ],
    "hash": [("a\n#### 18", "18"), ("#### 1\n#### 1,234 ", "1,234"), ("####", None), ("18", None)],
    "answer_line": [("x\nA: 18", "18"), ("A: 1\nA: -2.5\n", "-2.5"), ("QA: 18", None), ("A:\n", None)],
    "answer_is": [
        ("So the answer is 42.", "42"),
        ("The answer is 3.5. Done", "3.5"),
        ("the answer is 1. No wait. The final answer to this is: 2", "2"),
        (r"The answer is $\frac{1}{2}$, as shown.", r"\frac{1}{2}"),
        ("The answer is:\n\n$$x+1$$", "x+1"),
        (r"Answer: \(7\)", "7"),
        ("**Answer:** 12 dollars", "12 dollars"),
        ("The answer is **73**.", "73"),
        ("The answer is $x=5$ and $y=3$.", "x=5, y=3"),
        (r"The answers are \(3\), \(4\), or \(5\), as we saw from $x$.", "3, 4, 5"),
        ("The answers are **3** and **4**", "3, 4"),
        ("**Answer: 12**", "12"),
        ("The answer is __12__.", "12"),
        ("The answer is: **12** apples", "12"),
        ("The answer is $5$, because $x$ is 2", "5"),
        ("ANSWER: $18 per day.", "$18 per day"),
        ("The answers are 3 and 4.", "3 and 4"),
        ("I can't answer that. 5", None),
    ],
    "last_number": [
        ("from 3 to 1,234.50, total", "1,234.50"),
        ("so 10-5", "5"),
        ("x = -5", "-5"),
        ("about 1/2 of $20", "$20"),
        ("it is 5.", "5"),
        ("3, ", "3"),
        ("none", None),
    ],
    "chain": [
        ("9*0=0;0+0=0;!0", "0"),
        ("1+2=3;!3\n", "3"),
        ("!1;!2", "2"),
        ("1+2=3;", None),
        ("!3;4", None),
        ("!", None),
        ("!\u0663", None),
    ],
}
CASES = [(m, text, want) for m, table in TABLES.items() for text, want in table]


@pytest.mark.parametrize(("method", "text", "want"), CASES, ids=[f"{m}-{i}" for i, (m, _, _) in enumerate(CASES)])
def test_each_method_finds_its_answer(method: str, text: str, want: str | None) -> None:
    assert EXTRACTORS[method].find(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (r"#### 1" + "\n" + r"The answer is 2. \boxed{3}", ("3", "boxed")),
        ("The answer is 2.\nA: 3\n", ("3", "answer_line")),
        ("A: 2\nThe answer is 1.\n#### 3\n", ("3", "hash")),
        ("The answer is 3.", ("3", "answer_is")),
        (r"\boxed{1} or \boxed{2}", ("1, 2", "boxes")),
        ("A: three\nB: four\nHence B.", None),  # an option, not the last line
        ("#### Step 1\nWe add.", None),  # a heading
        ("I get 5 apples", None),  # a number in prose is a guess, and guesses become negatives
        (r"The answer is 5. I will put it in \boxed{}.", None),
        (r"The answer is 5. \boxed{5", None),
    ],
)
def test_auto_takes_explicit_markers_only(text: str, want: tuple[str, str] | None) -> None:
    assert extract(text, "auto") == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        (r"<think>\boxed{1}</think> nothing", None),
        (r"\boxed{2} <think>\boxed{1}</think>", "2"),
        (r"opened by the prompt \boxed{1}</think>\boxed{2}", "2"),
        (r"opened by the prompt \boxed{1}</think> nothing", None),
        (r"\boxed{2} <think> hm, \boxed{1}", None),
        (r"<think>a</think>\boxed{1}<think>b", None),
    ],
)
def test_text_inside_think_does_not_count(text: str, want: str | None) -> None:
    found = extract(text, "boxed")
    assert (found and found[0]) == want


def test_gold_text_is_searched_for_the_same_markers() -> None:
    assert gold_answer("2+2 = <<2+2=4>>4\n#### 4") == "4"
    assert gold_answer("two lines\nA: 2,125") == "2,125"
    assert gold_answer(r"Hence $\boxed{\frac12}$.") == r"\frac12"
    assert gold_answer(" 7 ") == "7"
    assert gold_answer("the answer is 7") == "the answer is 7"
