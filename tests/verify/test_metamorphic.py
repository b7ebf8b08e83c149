"""10,000 right answers, changed and rewritten: no change is correct, no rewriting is incorrect."""

import pytest

from negrl.recipe import VerifySection
from negrl.verify import Verifier
from tests.verify.metamorphic import bad, cases


@pytest.mark.slow
def test_changes_are_never_correct_and_rewritings_never_incorrect() -> None:
    made = cases(10_000, seed=0)
    verdicts = Verifier(VerifySection(workers=2)).verify_all([(c.response, c.gold, "stop") for c in made])
    assert not [(c, v) for c, v in zip(made, verdicts, strict=True) if bad(c, v.value)]
    right = [v.value for c, v in zip(made, verdicts, strict=True) if c.right]
    assert right.count("correct") > 0.97 * len(right) > 1000
    wrong = [v.value for c, v in zip(made, verdicts, strict=True) if not c.right]
    assert wrong.count("incorrect") > 0.2 * len(wrong) > 1000  # not all of it is left open
