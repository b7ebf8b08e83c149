"""Shared by all tests: real data, tokenizers, one torch thread (two cores, many processes), a SIGINT that arrives."""

import os
import signal
import sys
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from negrl.verify.pool import Pool
from tests.data import DATA, read_rows

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Under nohup, or in the background of a script, SIGINT is ignored, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

started: list[str] = []
"""Processes that were started, for the test below."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        started.append(f"{event} {arguments[:2]}")


sys.addaudithook(_watch)
_submit = Pool._submit


def _watched_submit(pool: Pool, jobs: list[bytes]) -> list[Future[Any]]:
    """Whose processes another test may have started: the pool of the verifiers is one for all."""
    started.append("the processes of a Pool")
    return _submit(pool, jobs)


Pool._submit = _watched_submit  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that starts a process, itself or by a fixture, is marked slow: `make check` stays short."""
    result = yield
    if started and not item.get_closest_marker("slow"):
        pytest.fail(f"starts a process, and is not marked slow: {started[0]}")
    return result


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout. CI has it; without it these tests skip."""
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here (it holds GSM8K and other real data)")
    return DATA


@pytest.fixture(scope="session")
def gsm8k_texts() -> list[str]:
    rows = read_rows("gsm8k_example_model_solutions.jsonl.gz")
    writers = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    return [row[writer]["solution"] for row in rows for writer in writers]


@pytest.fixture(scope="session")
def processbench_texts() -> list[str]:
    return ["\n\n".join(row["steps"]) for row in read_rows("processbench_gsm8k.jsonl.gz")]


# Tokenizers import transformers: no sooner than a test asks for one.


@pytest.fixture(scope="session")
def bpe(gsm8k_texts: list[str]) -> Any:
    from tests import made_tokenizers

    return made_tokenizers.bpe(gsm8k_texts)


@pytest.fixture(scope="session")
def spm(gsm8k_texts: list[str]) -> Any:
    from tests import made_tokenizers

    return made_tokenizers.spm(gsm8k_texts)


@pytest.fixture(scope="session")
def chars() -> Any:
    from tests import made_tokenizers

    return made_tokenizers.chars()
