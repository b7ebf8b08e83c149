"""No false answer is correct, and no right one is incorrect: the tables of false_answers.py."""

import pytest

from negrl.recipe import VerifySection
from negrl.verify import Verifier
from negrl.verify.equivalence import compare_plain
from negrl.verify.extract import find
from tests.verify import inventions
from tests.verify.false_answers import FALSE, RESPONSES, RIGHT, RIGHT_RESPONSES


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier(VerifySection())


def test_without_math_verify_none_is_correct_either() -> None:
    said = {(gold, answer): compare_plain(answer, gold) for pairs in FALSE.values() for gold, answer in pairs}
    for text in (text for texts in RESPONSES.values() for text in texts):
        found = find(text, "auto", True)
        said["43", text] = compare_plain(found.answer, "43") if found.answer and not found.reason else (None, None)
    assert not [pair for pair, outcome in said.items() if outcome == (True, None)]
    assert sum(outcome is not None for outcome in said.values()) > 0.8 * len(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", FALSE)
def test_false_answers_are_never_correct(name: str, verifier: Verifier) -> None:
    pairs = FALSE[name]
    assert len(set(pairs)) == len(pairs) >= 20
    verdicts = verifier.verify_all([(rf"\boxed{{{answer}}}", gold, "stop") for gold, answer in pairs])
    assert not [(pair, v) for pair, v in zip(pairs, verdicts, strict=True) if v.value == "correct"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("conclusion", [False, True])
def test_an_answer_that_is_not_the_last_word_is_never_correct(name: str, conclusion: bool) -> None:
    texts = RESPONSES[name]
    assert len(set(texts)) == len(texts) >= 20
    verdicts = Verifier(VerifySection(conclusion=conclusion)).verify_all([(text, "43", "stop") for text in texts])
    assert not [(text, v) for text, v in zip(texts, verdicts, strict=True) if v.value == "correct"]


@pytest.mark.slow
def test_invented_answers_are_never_correct(verifier: Verifier) -> None:
    pairs = [pair for pairs in inventions.PAIRS.values() for pair in pairs]
    verdicts = verifier.verify_all([(rf"\boxed{{{answer}}}", gold, "stop") for gold, answer in pairs])
    assert not [(pair, v) for pair, v in zip(pairs, verdicts, strict=True) if v.value == "correct"]


@pytest.mark.slow
@pytest.mark.parametrize("conclusion", [False, True])
def test_invented_responses_are_never_correct(conclusion: bool) -> None:
    texts = [text for texts in inventions.RESPONSES.values() for text in texts]
    verdicts = Verifier(VerifySection(conclusion=conclusion)).verify_all([(text, "43", "stop") for text in texts])
    assert not [(text, v) for text, v in zip(texts, verdicts, strict=True) if v.value == "correct"]


def test_what_follows_a_right_answer_may_say_more(verifier: Verifier) -> None:
    texts = [
        r"\boxed{43} values, since 40 + 3 = 43 and 44 is even.",
        r"There are \boxed{43}$ more than in $2007$.",
        r"\boxed{43}. Note that the primes below are 2, 3, 5 and 7.",
        r"$n = \boxed{43}$, which is less than 44.",
        r"If $a = 1$, we get \[x = \boxed{43}.\]",
        "\\boxed{43}. [asy]\nadd(p); label(44); // 44\n[/asy]",
        r"He said that he took 3, so \boxed{43} are left.",
        r"Putting this answer within the requested format: \boxed{43}",
        r"\boxed{43} percent of the region is shaded.",
        r"\boxed{43}. To see that there are actually 43, count them.",
    ]
    verdicts = verifier.verify_all([(text, "43", "stop") for text in texts])
    assert not [(text, v) for text, v in zip(texts, verdicts, strict=True) if v.value != "correct"]


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [("0.5%", "0.5", "undecided"), ("0.5", "0.5%", "undecided"), ("1", "1%", "undecided"), ("0.5%", "0.005", "correct"),
     ("50%", "0.5", "correct"), ("50", "50%", "correct"), ("0.5%", "0.6", "incorrect")],
)  # fmt: skip
def test_small_percentages(gold: str, answer: str, value: str, verifier: Verifier) -> None:
    assert verifier.verify(rf"\boxed{{{answer}}}", gold).value == value


@pytest.mark.slow
def test_right_answers_stay_correct(verifier: Verifier) -> None:
    verdicts = verifier.verify_all([(rf"\boxed{{{answer}}}", gold, "stop") for gold, answer in RIGHT])
    assert not [(pair, v) for pair, v in zip(RIGHT, verdicts, strict=True) if v.value != "correct"]


def test_right_responses_stay_correct(verifier: Verifier) -> None:
    verdicts = verifier.verify_all([(text, "43", "stop") for text in RIGHT_RESPONSES])
    assert not [(text, v) for text, v in zip(RIGHT_RESPONSES, verdicts, strict=True) if v.value != "correct"]


@pytest.mark.slow
def test_two_different_final_answers_are_a_conflict(verifier: Verifier) -> None:
    for text in ("\\boxed{43}\n#### 44", r"\boxed{43}, but the answer is 44.", r"\boxed{43}. No, that's wrong."):
        assert verifier.verify(text, "43").reason == "conflict"
    assert verifier.verify(r"\boxed{44=43}", "43").reason == "conflict"


@pytest.mark.slow
def test_unevaluated_answers_may_be_accepted() -> None:
    verifier = Verifier(VerifySection(unevaluated="accept"))
    assert verifier.verify(r"\boxed{\binom{5}{2}}", "10").value == "correct"
    assert Verifier(VerifySection()).verify(r"\boxed{\binom{5}{2}}", "10").reason == "unevaluated"
    assert VerifySection().key() != VerifySection(unevaluated="accept").key()
    assert VerifySection().key() != VerifySection(conclusion=True).key()
