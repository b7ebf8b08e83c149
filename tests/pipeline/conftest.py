"""One tiny whole run, shared by the tests of the pipeline."""

from collections.abc import Callable

import pytest

from tests.pipeline.helpers import Ran, run_tiny


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Ran]:
    return run_tiny


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The whole run, uninterrupted."""
    return run_tiny(tmp_path_factory.mktemp("first") / "run")
