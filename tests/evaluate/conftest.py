"""A tiny real model that writes nonsense, and a tiny benchmark run."""

from pathlib import Path

import pytest

from negrl.policy import BuildSection, build_model, build_tokenizer

TEXTS = [
    "Question: Ann has 3 apples and buys 4 more. How many?\nAnswer:\n3+4=7\n#### 7\n\nProblem: x^2=9. Solution:\n"
] * 5


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "tiny"
    section = BuildSection(
        tokenizer="bpe", vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=4096,
    )  # fmt: skip
    build_model(section, build_tokenizer(section, TEXTS), folder)
    return folder
