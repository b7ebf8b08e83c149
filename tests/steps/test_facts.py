"""Facts: equal whatever the words, unequal whenever something else was worked out."""

import pytest

from negrl.steps.equations import MAX_CHARACTERS
from negrl.steps.facts import passed, read_facts, states

PROBLEM = "Ana has 12 apples and 7 pears. She is 9."


def keys(text: str) -> list[str]:
    return [fact.key for fact in read_facts(text, PROBLEM)]


@pytest.mark.parametrize(
    "text",
    [
        "Ana has 12 + 7 = 19 fruits.",
        "In all that is 12+7=19.",
        "7 + 12 = 19, so she has 19 fruits.",
        "Ana has 19 fruits, since 12 + 7 = 19.",
        "She has 12 apples + 7 pears = 19 fruits",
        "She has 12 + 7 = <<12+7=19>>19 fruits.",
        "$12 + $7 = $19",
        "So \\(12 + 7 = 19\\).",
    ],
)
def test_words_do_not_matter(text: str) -> None:
    assert keys(text) == ["12 + 7=19"]


@pytest.mark.parametrize(
    "text",
    [
        "12 + 7 = 20",
        "12 + 9 = 19",
        "12 + 9 = 21",
        "12 - 7 = 19",
        "12 + 7 + 0 = 19",
        "12 + x = 19",
        "Let n = 19 apples.",
    ],
)
def test_what_is_said_to_equal_what_does_matter(text: str) -> None:
    assert keys(text) != keys("12 + 7 = 19")


def test_the_order_matters_only_where_it_does() -> None:
    assert keys("3 * 4 * 5 = 60") == keys("5 * 3 * 4 = 60")
    assert keys("12 - 7 = 5") != keys("7 - 12 = 5") and keys("12 + 7 * 2 = 26") != keys("7 + 12 * 2 = 26")


def test_what_is_no_equation_counts_by_its_numbers_and_what_is_unread_by_its_words() -> None:
    assert keys("Half of 12 is 6.") == ["6"]  # 12 is given
    assert keys("So she has 12 apples. She is 9.") == []
    assert keys("x = 12") != keys("y = 12") != []


def test_a_state_is_known_from_its_prefix_alone() -> None:
    text = "So 19 then.\nNext: 12 + 7 = 19.\nThat is 19."
    facts = read_facts(text, PROBLEM)
    for end in (11, len(text) - 11, len(text)):
        assert states(facts, [end]) == states(read_facts(text[:end], PROBLEM), [end])


def test_states_are_sets_so_the_order_of_the_facts_does_not_matter() -> None:
    one, other = "12 + 7 = 19\n12 * 2 = 24\n24 - 19 = 5", "12 * 2 = 24\n12 + 7 = 19\n24 - 19 = 5"
    first, second = (read_facts(text, PROBLEM) for text in (one, other))
    at = [states(facts, [11, 23, 35]) for facts in (first, second)]
    assert at[0][0] != at[1][0] and at[0][1:] == at[1][1:]
    assert list(passed(first)) == [frozenset(), *at[0]]


def test_text_that_is_too_long_counts_by_its_lines() -> None:
    long = "12 + 7 = 19\n" * (MAX_CHARACTERS // 12 + 1)
    assert {fact.key for fact in read_facts(long)} == {"12 + 7 = 19"}
