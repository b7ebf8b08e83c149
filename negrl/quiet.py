"""The libraries' warnings, progress bars and info lines, kept off the screen of a run."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, progress bars or info lines of the libraries, unless NEGRL_DEBUG is set."""
    if os.environ.get("NEGRL_DEBUG"):
        yield
        return
    import datasets
    from transformers.utils import logging as transformers_logging

    names = ("trl", "accelerate", "datasets", "torch.distributed", "huggingface_hub")
    levels = {name: logging.getLogger(name).level for name in names}
    verbosity = transformers_logging.get_verbosity()
    bars = datasets.utils.are_progress_bars_disabled()
    tqdm = os.environ.get("TQDM_DISABLE")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.utils.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
        if not bars:
            datasets.utils.enable_progress_bars()
        if tqdm is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = tqdm
