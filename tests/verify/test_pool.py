"""The pool: limits, failures that cost nobody else, and every kind of program that it has to work in."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from negrl.errors import InputError
from negrl.recipe import VerifySection
from negrl.verify.pool import Failure, Pool, shared_pool
from tests.verify import jobs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(workers=2, timeout=1.0, memory_mb=256)
    yield pool
    pool.close()


def workers(pool: Pool) -> set[str]:
    return set(pool.map(jobs.worker_pid, [("",)] * 40))


def descendants(pid: int | None = None) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_results_come_in_order(pool: Pool) -> None:
    texts = [f"{i}-" for i in range(500)]
    assert list(pool.map(jobs.double, ((t,) for t in texts))) == [t * 2 for t in texts]
    assert pool.run(jobs.double, "\ud800") == "\ud800" * 2
    assert list(pool.map(jobs.double, [])) == []


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("hold_the_lock", Failure.TIMEOUT),
        ("ignore_sigterm", Failure.TIMEOUT),
        ("leave", Failure.TIMEOUT),
        ("take_memory", Failure.MEMORY),
        ("swallow_memory_error", Failure.MEMORY),
        ("crash", Failure.CRASHED),
    ],
)
def test_a_breach_costs_its_item_alone(pool: Pool, name: str, failure: Failure) -> None:
    names = ["double"] * 9 + [name] + ["double"] * 22
    started = time.monotonic()
    assert list(pool.map(jobs.by_name, [(n,) for n in names])) == [failure if n == name else "abab" for n in names]
    assert time.monotonic() - started < 30
    assert len(workers(pool)) == 2, "the lost worker is replaced"


def test_every_item_has_its_own_limit(pool: Pool) -> None:
    """Ten slow but honest items travel together: each keeps within the limit, all of them do not."""
    assert list(pool.map(jobs.nap, [(0.4,)] * 10)) == [0.4] * 10
    assert pool.run(jobs.nap, 1.8) == Failure.TIMEOUT


def test_an_error_of_the_function_is_raised(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        pool.run(jobs.fail, "")
    assert pool.run(jobs.double, "x") == "xx"


def test_workers_start_once_and_the_time_that_takes_is_not_counted() -> None:
    pool = Pool(workers=2, timeout=0.4)  # less than the start takes
    try:
        assert pool.run(jobs.double, "x") == "xx"
        first = workers(pool)
        assert len(first) == 2 and workers(pool) == first
    finally:
        pool.close()


def test_close_ends_everything_and_a_later_call_starts_again() -> None:
    before = {p.pid for p in descendants()}
    pool = Pool()
    pool.close()
    assert pool.run(jobs.double, "x") == "xx"
    started = [p for p in descendants() if p.pid not in before]
    assert started
    pool.close()
    pool.close()
    assert not psutil.wait_procs(started, 10)[1]
    assert pool.run(jobs.double, "y") == "yy"
    pool.close()


@pytest.mark.parametrize("victim", ["guard", "worker"])
def test_a_killed_process_is_replaced(victim: str) -> None:
    pool = Pool(workers=1, timeout=3)
    try:
        pid = int(pool.run(jobs.worker_pid, ""))
        if victim == "guard":
            pid = next(p.pid for p in psutil.Process(pid).parents() if "negrl.verify.guard" in " ".join(p.cmdline()))
        os.kill(pid, signal.SIGKILL)
        results = list(pool.map(jobs.double, [("x",)] * 50))
        assert results == ["xx"] * 50
    finally:
        pool.close()


def test_several_threads_share_a_pool(pool: Pool) -> None:
    def work(i: int) -> list[object]:
        return list(pool.map(jobs.by_name, [("crash" if i == 3 and j == 5 else "double",) for j in range(40)]))

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(work, range(8)))
    expected = [["abab"] * 40 for _ in range(8)]
    expected[3][5] = Failure.CRASHED
    assert results == expected


def test_asyncio(pool: Pool) -> None:
    async def main() -> list[str]:
        inside = pool.run(jobs.double, "a")
        return [inside, *await asyncio.gather(*(asyncio.to_thread(pool.run, jobs.double, str(i)) for i in range(20)))]

    assert asyncio.run(main()) == ["aa"] + [str(i) * 2 for i in range(20)]


def test_one_pool_per_setting() -> None:
    section = VerifySection(timeout=7, workers=1)
    assert shared_pool(section) is shared_pool(section.model_copy())
    assert shared_pool(section) is not shared_pool(VerifySection(timeout=8, workers=1))


VERIFY = """
from negrl.verify import Verifier
from negrl.errors import InputError
from negrl.recipe import VerifySection
def main():
    verifier = Verifier(VerifySection(timeout=2))
    print([verifier.verify(rf"\\boxed{{{a}}}", "5").value for a in ("2+3", "2+4", "9^{9^{9^{9}}}")])
"""
SAID = "['correct', 'incorrect', 'undecided']\n"
PROGRAMS = {
    "script without a main guard": VERIFY + "main()",
    "thread": VERIFY + "import threading; t = threading.Thread(target=main); t.start(); t.join()",
    "daemon process": VERIFY
    + "import multiprocessing as m\np = m.get_context('fork').Process(target=main, daemon=True); p.start(); p.join()",
    "fork after use": VERIFY
    + "import os, contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): main()\n"
    + "pid = os.fork()\nif not pid:\n    main()\nelse:\n    os.waitpid(pid, 0)\n",
}


def run(args: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=env, timeout=100, **kwargs)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", [*PROGRAMS, "-c", "stdin"])
def test_every_kind_of_program(kind: str, tmp_path: Path) -> None:
    program = PROGRAMS.get(kind, VERIFY + "main()")
    (tmp_path / "numbers.py").write_text("raise SystemExit('the working folder is not on the path')")
    if kind == "-c":
        done = run(["-P", "-c", program], cwd=tmp_path)
    elif kind == "stdin":
        done = run(["-P", "-"], input=program, cwd=tmp_path)
    else:
        (tmp_path / "program.py").write_text(program)
        done = run(["-P", "program.py"], cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (SAID, "", 0)


BUSY = textwrap.dedent("""
    import threading, time
    from negrl.verify.pool import Pool
    from tests.verify import jobs
    pool = Pool(workers=2, timeout=100)
    pool.run(jobs.double, "x")
    busy = lambda: list(pool.map(jobs.hold_the_lock, [("",)] * 2))
    print("started", flush=True)
""")
WAITS = {
    "main thread waits": BUSY + "busy()",
    "another thread waits": BUSY + "threading.Thread(target=busy, daemon=True).start(); time.sleep(1000)",
}


@pytest.mark.parametrize(
    ("program", "end"),
    [
        ("main thread waits", signal.SIGINT),
        ("another thread waits", signal.SIGINT),
        ("main thread waits", signal.SIGTERM),
        ("another thread waits", signal.SIGKILL),
    ],
)
def test_workers_end_with_the_program(program: str, end: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS[program]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout and process.stdout.readline() == "started\n"
        time.sleep(0.5)
        children = descendants(process.pid)
        assert len(children) >= 4  # guard, fork server, two workers
        if end == signal.SIGINT:
            os.killpg(process.pid, end)  # Ctrl-C goes to all that the terminal runs
        else:
            process.send_signal(end)
        _, errors = process.communicate(timeout=30)
        assert not psutil.wait_procs(children, 15)[1], "a process outlives the program"
    finally:
        process.kill()
    if end == signal.SIGINT:
        assert errors.count("Traceback") == 1 and errors.endswith("KeyboardInterrupt\n"), "the program's own alone"
    else:
        assert errors == ""


def test_nothing_but_a_reader_runs_in_the_program() -> None:
    """In a program of its own: other tests' modules have loaded pebble here."""
    code = (
        "import sys, threading\nfrom negrl.verify.pool import Pool\nfrom tests.verify import jobs\n"
        "pool = Pool(workers=1, timeout=20)\npool.run(jobs.double, 'x')\n"
        "print({t.name for t in threading.enumerate() if t.name.startswith('negrl')} <= {'negrl-pool'})\n"
        "print('pebble' in sys.modules)\npool.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "False"]


def test_workers_that_do_not_start_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("negrl.verify.pool._COMMAND", "raise SystemExit('no memory for a worker')")
    with pytest.raises(InputError, match=r"^the verifier's worker processes do not start: no memory for a worker$"):
        Pool(1, 5.0, 256).run(abs, -1)
    monkeypatch.setattr("negrl.verify.pool._COMMAND", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(InputError, match=r"do not start \(killed by signal 9\); they printed nothing$"):
        Pool(1, 5.0, 256).run(abs, -1)


def test_an_item_that_ends_the_guard_costs_itself_alone() -> None:
    pool = Pool(workers=1, timeout=5)
    names = ["double"] * 2 + ["end_the_guard"] * 2 + ["double"] * 2
    try:
        found = list(pool.map(jobs.by_name, [(name,) for name in names]))
    finally:
        pool.close()
    assert found == [Failure.CRASHED if name == "end_the_guard" else "abab" for name in names]


def test_workers_that_end_again_and_again_say_why() -> None:
    """Whatever is sent to them: then each item's verdict would be `crashed`, and nobody would know why."""
    pool = Pool(workers=1, timeout=5)
    said = r"^the verifier's worker processes end again and again \(killed by signal 9\): no memory left$"
    try:
        with pytest.raises(InputError, match=said):
            list(pool.map(jobs.end_the_guard, [("",)] * 20))
        assert pool.run(jobs.double, "x") == "xx"
    finally:
        pool.close()
