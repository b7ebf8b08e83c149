"""A benchmark of one's own: `negrl evaluate run --plugin MODULE --benchmark mine`, and `negrl evaluate benchmarks`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from negrl.evaluate.benchmarks import BENCHMARKS
from negrl.evaluate.model_index import front_matter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
from negrl.evaluate.benchmarks.base import Benchmark, Row, Source


def read(row, where):
    return Row(row["q"], row["a"])


PLUS = Benchmark("plus", "Plus", "MIT", Source(2, "me/plus", "test", ("plus.jsonl",), read))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_benchmarks.py").write_text(MODULE)
    (tmp_path / "plus.jsonl").write_text('{"q": "1+1", "a": "2"}\n{"q": "2+1", "a": "3"}\n')
    (tmp_path / "said.jsonl").write_text('{"response": "So \\\\boxed{2}."}\n{"response": "So \\\\boxed{4}."}\n')
    return tmp_path


def negrl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    command = [sys.executable, "-m", "negrl", "evaluate", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_plugins_benchmark_is_asked_listed_and_told(folder: Path) -> None:
    given = ["--benchmark", "plus", "--data", ".", "--responses", "said.jsonl", "--out", "out"]
    done = negrl(folder, "run", *given, "--plugin", "my_benchmarks")
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "out" / "results.json").read_text())
    assert found["benchmarks"]["plus"]["metrics"]["pass@1"]["value"] == 0.5
    assert "plus" not in BENCHMARKS and "me/plus" in front_matter(found)  # an evaluation without the plugin keeps it
    listed = negrl(folder, "benchmarks", "--plugin", "my_benchmarks").stdout
    assert "me/plus" in listed and "openai/gsm8k" in listed


def test_a_wrong_plugin_is_one_line(folder: Path) -> None:
    (folder / "empty.py").write_text("")
    (folder / "again.py").write_text(MODULE.replace('"plus"', '"gsm8k"'))
    for plugin, message in (
        ("nowhere", "plugins: no module 'nowhere' on Python's path"),
        ("empty", "plugins: 'empty' declares nothing that negrl knows"),
        ("again", "again: a benchmark 'gsm8k' is there already, from negrl.evaluate.benchmarks.gsm8k"),
    ):
        done = negrl(folder, "run", "--benchmark", "plus", "--responses", "said.jsonl", "--plugin", plugin)
        assert done.returncode == 2 and done.stderr.startswith(f"negrl: {message}") and done.stderr.count("\n") == 1
