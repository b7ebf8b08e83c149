"""Killed at any point, the run goes on where it was and ends in the same place."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import negrl.store
from negrl.records import Trace
from negrl.store import Store
from tests import processes
from tests.pipeline.helpers import TINY, Ran

pytestmark = pytest.mark.slow


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on kills: every number but the seconds, and the traces themselves."""
    results = json.loads((folder / "report" / "results.json").read_text())
    arms = {name: {k: v for k, v in arm.items() if k != "seconds"} for name, arm in results["arms"].items()}
    store = Store(folder / "stages")
    lineage = json.loads((folder / "stages.json").read_text())
    texts = {}
    for title, entry in lineage.items():
        if title.endswith("evaluate"):
            stage = store.stage(*Path(entry["folder"]).name.split("-"))
            texts[title] = sorted(t.text for t in stage.read("traces", Trace))
    return {"arms": arms, "texts": texts}


def test_stopped_before_every_write(
    first: Ran, tiny: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies right before its n-th write, is started again, dies before the next n-th, ..."""
    real, every = negrl.store.write_atomic, 9
    writes = deaths = 0

    def dying(path: Path, data: bytes) -> None:
        nonlocal writes, deaths
        writes += 1
        if writes % every == 0:
            deaths += 1
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(negrl.store, "write_atomic", dying)
    for _ in range(40):
        try:
            tiny(tmp_path / "run")
            break
        except KeyboardInterrupt:
            continue
    assert deaths >= 5
    assert outcome(tmp_path / "run") == outcome(first.folder)


def test_a_shard_size_changed_on_the_way(
    first: Ran, tiny: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of the killed run are kept by their number: what they hold must stay what it was."""
    real, written = negrl.store.write_atomic, []

    def dying(path: Path, data: bytes) -> None:
        written.append(path.name)
        if written.count("traces-00001.parquet") == 1 and path.name == "traces-00002.parquet":
            raise KeyboardInterrupt
        real(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(negrl.store, "write_atomic", dying)
        with pytest.raises(KeyboardInterrupt):
            tiny(tmp_path / "run")
    tiny(tmp_path / "run", "sample.shard_size=2", "label.shard_size=3", "evaluate.shard_size=5")
    assert outcome(tmp_path / "run") == outcome(first.folder)


def wait(folder: Path, shows: str, running: Callable[[], bool]) -> None:
    """Until the store of a run shows a file that matches."""
    deadline = time.monotonic() + 120
    while not list((folder / "stages").glob(shows)):
        assert running(), "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"no {shows}"
        time.sleep(0.02)


def test_ctrl_c_says_that_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "negrl", "run", str(TINY), f"output_dir={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait(tmp_path, "base-*/checkpoints", lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    # Python itself dies of the signal when it struck inside an exec(); a shell calls both 130
    assert process.returncode in (130, -signal.SIGINT)
    assert stderr.strip() == "negrl: stopped; the same command continues from here"


def test_sigkill(first: Ran, tmp_path: Path) -> None:
    """A real process, killed in the middle of its base model's training, then in what follows."""
    folder = tmp_path / "run"
    command = ("-m", "negrl", "run", TINY, f"output_dir={folder}")
    for shows in ("base-*/checkpoints", "value-*/steps-00000.parquet"):
        process = processes.start(*command)
        wait(folder, shows, process.is_alive)
        process.kill()
        process.join()
    done = processes.run(*command)
    assert done.returncode == 0, done.stderr
    assert "reused" in done.stdout
    assert outcome(folder) == outcome(first.folder)
