"""The tiny model that most of the trainers' tests train."""

from pathlib import Path

import pytest

from tests.trainers.helpers import build


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")
