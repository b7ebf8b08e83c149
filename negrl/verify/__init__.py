"""Is the answer right? `correct`, `incorrect` or `undecided` with its reason.

A response is looked through for its answer (extract.py), and the answer compared with the gold one
(equivalence.py). What can't be settled is undecided, which never becomes a negative. math-verify and
sympy load when the first pair needs them, not before.
"""

from __future__ import annotations

import threading

from negrl.recipe import VerifySection
from negrl.records import CORRECT, INCORRECT, UNDECIDED, Verdict
from negrl.verify.equivalence import TIMEOUT, UNPARSABLE, equivalent
from negrl.verify.extract import extract, gold_answer

NO_ANSWER, TRUNCATED = "no_answer", "truncated"
_NO_ANSWER = Verdict(UNDECIDED, NO_ANSWER)
_TRUNCATED = Verdict(UNDECIDED, TRUNCATED)
_CACHE_ROWS, _CACHE_CHARS = 1 << 18, 1000


class Verifier:
    """Judges responses. Equivalence is worked out once per (gold, answer, method).

    The deadline of a check works in the main thread only; see equivalence.py for what happens elsewhere.
    """

    def __init__(self, section: VerifySection):
        self.section = section
        self._cache: dict[tuple[str, str, str], Verdict] = {}

    def verify(self, text: str, gold: str, finish_reason: str = "stop") -> Verdict:
        """The verdict on one response.

        Args:
            text: the response; hostile.
            gold: the right answer, or a reference solution that marks it (boxed, ####, A:).
            finish_reason: "length" means cut off: undecided/truncated, whatever the text says.
        """
        if finish_reason == "length":
            return _TRUNCATED
        found = extract(text, self.section.extract)
        if found is None:
            return _NO_ANSWER
        key = (gold, *found)
        verdict = self._cache.get(key)
        if verdict is None:
            verdict = self._compare(*key)
            # Off the main thread a timeout says nothing about the pair; huge answers do not come twice.
            about_pair = verdict.reason != TIMEOUT or threading.current_thread() is threading.main_thread()
            if about_pair and len(found[0]) <= _CACHE_CHARS:
                if len(self._cache) >= _CACHE_ROWS:
                    self._cache.clear()
                self._cache[key] = verdict
        return verdict

    def _compare(self, gold: str, answer: str, method: str) -> Verdict:
        same, reason = equivalent(answer, gold_answer(gold), self.section.timeout)
        if method == "boxes" and same is False:
            same, reason = None, UNPARSABLE  # which of the boxes is meant? MATH's golds keep the last one only
        value = UNDECIDED if same is None else CORRECT if same else INCORRECT
        storable = answer.encode("utf-8", "replace").decode()  # JSON can carry half a surrogate pair
        return Verdict(value, reason, storable, method)
