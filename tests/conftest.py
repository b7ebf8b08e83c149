"""Shared by all tests: where the data is, one torch thread (two cores, several processes), a SIGINT that arrives."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Under nohup, or in the background of a script, SIGINT is ignored, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout. CI has it; without it these tests skip."""
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here (it holds GSM8K and other real data)")
    return DATA
