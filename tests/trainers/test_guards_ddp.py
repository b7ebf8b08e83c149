"""Guards and step normalization with two real processes (gloo) against one. Run as a script, this file is
what the two run."""

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

GUARDS = {
    "holdout": 0.25,
    "at_least": 2,
    "every": 3,
    "samples": 3,
    "max_new_tokens": 6,
    "right_drop": 0.2,
    "kl": None,
    "stale": None,
}


def train(model, out, rows_per_process):
    from negrl.methods import METHODS
    from negrl.policy import PolicySection
    from negrl.records import AdvantageRow, SftRow
    from negrl.trainers.fit import Training, fit
    from tests.trainers.helpers import advantage_rows, sft_rows

    base = {"per_device_train_batch_size": rows_per_process, "num_train_epochs": 2, "logging_steps": 1}
    signed = {"learning_rate": 1e-3, "normalize": "step", "anchor": 0.1, "guards": {**GUARDS, "keep": "best"}}
    wild = {"learning_rate": 0.5, "guards": {**GUARDS, "on_trip": "keep"}}
    for name, rows, row_type, fields in (
        ("step_advantage", advantage_rows(44), AdvantageRow, signed),
        ("sft", sft_rows(44), SftRow, wild),
    ):
        policy = PolicySection(model=str(model))
        fit(Training(METHODS[name], {**base, **fields}, policy, str(model)), rows, row_type, out / name)


def test_two_processes_see_and_decide_what_one_does(tiny, tmp_path):
    from tests import processes
    from tests.trainers.test_fit import difference, weights

    done = processes.run(__file__, tiny, tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    train(tiny, tmp_path / "one", 8)
    for name in ("step_advantage", "sft"):
        one, two = (tmp_path / n / name for n in ("one", "two"))
        facts = [json.loads((path / "fit.json").read_text()) for path in (one, two)]
        assert [f["steps"] for f in facts] == [facts[0]["steps"]] * 2
        kept = [{k: v for k, v in f["guard"].items() if k not in ("seconds", "stopped")} for f in facts]
        assert kept[0] == kept[1] and kept[0]["kept"] == "best"
        assert (facts[0]["guard"]["stopped_at"] is not None) == (name == "sft")
        logs = [[json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()] for path in (one, two)]
        for a, b in zip(*logs, strict=True):
            # The wild one is chaos after its first steps, and the same decision all the same.
            for key in {k for k in a if name != "sft" and (k.startswith("guard/") or k in ("loss", "grad_norm"))}:
                assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-4), (name, a["step"], key)
        assert difference(weights(one / "model"), weights(two / "model")) < 1e-5


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), 4)
