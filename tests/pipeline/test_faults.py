"""How scripts/faults.py judges what came out. Trials like its own, always at the same places, are in test_kill.py,
test_damage.py and test_world.py."""

import random
import re
import shutil
from pathlib import Path

import pytest

from scripts import faults
from tests.pipeline.helpers import Ran

pytestmark = pytest.mark.slow


def test_what_differs_is_seen(first: Ran, tmp_path: Path) -> None:
    """What the trials compare: one bit, one missing shard, one other number of a log or of the results."""
    want = faults.outcome(first.folder)
    files = [sorted(first.folder.glob(f"stages/{shows}"))[0].relative_to(first.folder) for shows in (
        "sample-*/traces-00001.parquet", "train-*/model/model.safetensors", "train-*/log.jsonl",
    )] + [Path("report/results.json")]  # fmt: skip
    draw = random.Random(0)
    for index, name in enumerate(files):
        folder = shutil.copytree(first.folder, tmp_path / str(index))
        assert faults.judge(folder, (0, ""), want) == (faults.SAME, "")
        whole = (folder / name).read_bytes()
        if name.suffix in (".parquet", ".safetensors"):
            place = draw.randrange(len(whole))
            (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        else:
            other = re.sub(rb'("train_loss"|"pass_at_1"): (?=\d)', rb"\1: 1", whole)
            (folder / name).write_bytes(other)
        assert faults.judge(folder, (0, ""), want)[0] == faults.DIFFERENT, name
    shutil.rmtree(folder / files[0].parent)
    assert faults.judge(folder, (0, ""), want)[0] == faults.DIFFERENT


@pytest.mark.parametrize(
    ("code", "said", "came"),
    [
        (2, "negrl: no", faults.REFUSED), (2, "noise\nnegrl: no\nnoise", faults.REFUSED), (2, "", faults.TRACEBACK),
        (2, "negrl: no\nnegrl: no", faults.TRACEBACK), (1, "negrl: no", faults.TRACEBACK), (-9, "", faults.TRACEBACK),
        (0, "Traceback (most recent call last):\n  ...", faults.TRACEBACK), (0, "negrl: odd", faults.TRACEBACK),
    ],
)  # fmt: skip
def test_how_a_run_may_end(tmp_path: Path, code: int, said: str, came: str) -> None:
    assert faults.judge(tmp_path, (code, said), {})[0] == came
