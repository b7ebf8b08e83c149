"""Hostile text: answered within the limit, memory bounded, no worker lost, nothing executed."""

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from negrl.recipe import VerifySection
from negrl.verify import Verifier
from negrl.verify.equivalence import compare_math
from negrl.verify.extract import EXTRACTORS, extract
from negrl.verify.pool import Failure, Pool, _pools, shared_pool
from tests.verify.hostile import ANSWERS, GOLDS, LARGE, RESPONSES, SENTINEL, SMALL

pytestmark = pytest.mark.slow

SECTION = VerifySection(timeout=0.5, memory_mb=512, workers=2)
SLACK = 15.0
"""Seconds beyond the limit that one answer may take on a machine that does much else."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    for other in list(_pools):  # of tests that ran before: their workers are not to be counted
        other.close()
    pool = shared_pool(SECTION)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def _nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that could run the texts starts in an empty folder, which stays empty."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir())


def usual(pool: Pool) -> None:
    """Afterwards all is as before: two workers that judge an honest pair."""
    deadline = time.monotonic() + 30
    while (said := pool.run(compare_math, "40+3", "43")) == Failure.TIMEOUT and time.monotonic() < deadline:
        pass  # the limit is short for a machine that does much else
    assert said == (True, None)
    while len(workers()) != SECTION.workers and time.monotonic() < deadline:
        time.sleep(0.1)  # a killed one may be in replacement
    assert len(workers()) == SECTION.workers
    assert all(p.memory_info().rss < (SECTION.memory_mb + 256) << 20 for p in workers())


def workers() -> list[psutil.Process]:
    """The children of the fork server."""
    server = [p for p in psutil.Process().children(recursive=True) if "forkserver" in " ".join(p.cmdline())]
    return [p for p in server if any(q.pid == p.ppid() for q in server)]


def test_there_are_enough() -> None:
    assert len(ANSWERS) >= 150 and len(set(ANSWERS.values())) == len(ANSWERS)
    assert max(map(len, ANSWERS.values())) >= 10**6


def test_as_answers_and_as_golds(pool: Pool) -> None:
    items = [(rf"\boxed{{{text}}}", "43", "stop") for text in ANSWERS.values()]
    items += [(r"\boxed{43}", text, "stop") for text in GOLDS.values()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    verdicts = Verifier(SECTION).verify_all(items)
    # Each takes its limit at most, on two workers; the time to replace workers is in the slack.
    assert time.monotonic() - started < len(items) * SECTION.timeout / SECTION.workers + SLACK
    assert not [name for name, verdict in zip(ANSWERS, verdicts, strict=False) if verdict.value == "correct"]
    assert {v.reason for v in verdicts} >= {"timeout", "unparsable", "gold_unparsable"}
    json.dumps([v.answer for v in verdicts], ensure_ascii=False).encode()  # can be stored
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 256 << 10
    usual(pool)


def test_one_by_one_within_the_limit(pool: Pool) -> None:
    verifier = Verifier(SECTION)
    for name in (
        "tower of 9, height 3",
        r"factorial 99999999!",
        r"matrix \operatorname{zeros}(12000,12000)",
        "shape noise 2",
    ):
        started = time.monotonic()
        assert verifier.verify(rf"The answer is {SMALL[name]}", "43").value != "correct"
        assert time.monotonic() - started < SECTION.timeout + SLACK, name
    usual(pool)


def test_the_pool_itself_needs_no_help_from_the_fast_way(pool: Pool) -> None:
    """Texts that are too long to be looked at, given to math-verify all the same."""
    texts = [text for i, text in enumerate(LARGE.values()) if i % 3 == 1]
    results = list(pool.map(compare_math, [(text, "43") for text in texts] + [("40+3", "43")]))
    assert results.pop() == (True, None)
    assert (True, None) not in results
    usual(pool)


@pytest.mark.parametrize("method", ["auto", *EXTRACTORS])
def test_responses_are_looked_through_in_linear_time(method: str) -> None:
    """A scan that is not linear takes hours here."""
    started = time.monotonic()
    for name, text in RESPONSES.items():
        found = extract(text, method)
        assert found is None or len(found[0]) <= 10_000, name
    assert time.monotonic() - started < 30 + SLACK


def test_whole_responses_get_verdicts(pool: Pool) -> None:
    verdicts = Verifier(SECTION).verify_all([(text, "43", "stop") for text in RESPONSES.values()])
    assert not [name for name, verdict in zip(RESPONSES, verdicts, strict=True) if verdict.value == "correct"]
    usual(pool)


def test_the_sentinel_would_be_seen(tmp_path: Path) -> None:
    """The check at the end of each test can fail: the Python of the corpus does make that file."""
    exec(SMALL[f"python open('{SENTINEL}','w').write('x')"], {})
    assert (tmp_path / SENTINEL).exists()
    (tmp_path / SENTINEL).unlink()
