"""A disk that is full while torch or safetensors writes: one line, whatever words they have for it."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from negrl.errors import InputError
from negrl.trainers.saving import writing


def save_checkpoint(state: dict, path: Path) -> None:
    torch.save(state, path)


def save_weights(state: dict, path: Path) -> None:
    save_file(state, path)


@pytest.mark.parametrize("save", [save_checkpoint, save_weights])
def test_a_file_that_can_not_grow(save, tmp_path: Path) -> None:
    state = {f"layer {i}": torch.ones(40) for i in range(4)}
    save(state, tmp_path / "whole")
    size = (tmp_path / "whole").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(0, size - 64, size // 12):  # torch.save doesn't notice that the last few bytes are missing
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(InputError, match=r"cannot be written: .*; what is finished is kept"), writing(tmp_path):
                save(state, tmp_path / "part")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_words_of_a_full_tmpfs_and_of_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unexpected pos 10880"), writing(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 10880 vs 10772")
    with pytest.raises(RuntimeError, match="mat1 and mat2"), writing(tmp_path):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")
