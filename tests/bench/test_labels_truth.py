"""True values, against every continuation written out; engines around an engine; models in a larger body."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from negrl.bench.labels.grow import grow
from negrl.bench.labels.replay import ReplayEngine, TimedEngine
from negrl.bench.labels.truth import Writer, true_values
from negrl.engines import Request, open_engine
from negrl.engines.section import EngineSection
from negrl.errors import InputError
from negrl.policy import build_model, build_tokenizer, load_tokenizer
from negrl.recipe import BuildSection, PolicySection
from negrl.records import CORRECT, INCORRECT, Problem, Sampling, Trace, Verdict
from negrl.steps.split import Span

MAX_TOKENS = 4


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, scaled up: some tokens are likely, some all but impossible."""
    folder = tmp_path_factory.mktemp("model")
    section = BuildSection(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                           max_position_embeddings=32)  # fmt: skip
    build_model(section, build_tokenizer(section, ["1;?"]), folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(0, 0.6)
    model.save_pretrained(folder)
    return folder


def verify(text: str, gold: str, finish_reason: str) -> Verdict:
    return Verdict(CORRECT if finish_reason == "stop" and gold in text else INCORRECT)


def case(tokenizer, response: str, problem: Problem) -> tuple[Trace, list[Span]]:
    ids = tokenizer(response)["input_ids"] + [tokenizer.eos_token_id]
    trace = Trace("t" + response + problem.prompt, problem.problem_id, 1, 0, "p", "e", Sampling(),
                  tokenizer(problem.prompt)["input_ids"], ids, None, response, "stop",
                  verdict=CORRECT if problem.gold in response else INCORRECT)  # fmt: skip
    return trace, [Span(0, 1, response[0]), Span(1, len(ids), response[1:])]


def written_out(folder: Path, tokenizer, prompt: list[int], head: list[int], gold: str) -> float:
    """The value of a prefix from all its continuations, one forward pass over whole sequences."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    eos, vocab = tokenizer.eos_token_id, len(tokenizer)
    total = 0.0
    for length in range(MAX_TOKENS - len(head)):
        bodies = [head + list(b) for b in itertools.product([i for i in range(vocab) if i != eos], repeat=length)]
        rows = torch.tensor([prompt + body + [eos] for body in bodies])
        with torch.inference_mode():
            logps = torch.log_softmax(model(rows).logits.double(), -1)
        start = len(prompt) + len(head)
        picked = logps[:, start - 1 : -1].gather(2, rows[:, start:, None])[..., 0].sum(1).exp().tolist()
        total += sum(p for p, body in zip(picked, bodies, strict=True) if gold in tokenizer.decode(body))
    return total


@pytest.mark.slow
def test_values_are_those_of_all_continuations(model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(model_folder), PolicySection(model=str(model_folder)))
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    problems = [Problem(f"p{i}", "s", "train", "l", prompt, "1") for i, prompt in enumerate(("1?", ";;?", "11?"))]
    pairs = [case(tokenizer, text, p) for p in problems for text in ("1;", ";1", ";;", "1?")]
    traces, spans = [t for t, _ in pairs], [s for _, s in pairs]
    by_id = {p.problem_id: p for p in problems}

    found = true_values(Writer(model, tokenizer, verify, MAX_TOKENS, prune=0.0), by_id, traces, spans)
    rough = true_values(Writer(model, tokenizer, verify, MAX_TOKENS, prune=0.02), by_id, traces, spans)
    seen = set()
    for trace, bounds, loose in zip(traces, found, rough, strict=True):
        assert len(bounds) == 3
        assert bounds[2].low == bounds[2].high == (trace.verdict == CORRECT)
        for taken in (0, 1):
            head = trace.token_ids[:taken]
            expected = written_out(model_folder, tokenizer, trace.prompt_token_ids, head, "1")
            assert bounds[taken].value == pytest.approx(expected, abs=1e-5)
            assert bounds[taken].high - bounds[taken].low < 1e-9
            assert loose[taken].low - 1e-6 <= expected <= loose[taken].high + 1e-6
            seen.add(round(expected, 3))
    assert len(seen) > 4  # the model has opinions
    assert any(b.high - b.low > 0.01 for row in rough for b in row)  # and something was dropped


@pytest.mark.slow
def test_replay_gives_what_the_engine_would_draw(model_folder: Path) -> None:
    policy = PolicySection(model=str(model_folder))
    live = TimedEngine(open_engine(EngineSection(device="cpu"), str(model_folder), policy))
    replay = ReplayEngine(live)
    requests = [Request([3, 4], n=6, seed=1, max_tokens=5), Request([5], n=2, seed=1, max_tokens=5)]
    assert replay.generate(requests) == live.generate(requests)
    spent = live.seconds
    fewer = [replace(requests[0], n=3), replace(requests[0], n=4)]
    again = replay.generate(fewer)
    assert live.seconds == spent  # nothing was drawn
    assert [len(a) for a in again] == [3, 4]
    fresh = open_engine(EngineSection(device="cpu"), str(model_folder), policy).generate(fewer)
    assert [[c.token_ids for c in a] for a in again] == [[c.token_ids for c in a] for a in fresh]
    alike = replay.generate([replace(requests[0], n=n, seed=9) for n in (2, 5, 3)])  # in one call, drawn once
    assert [len(a) for a in alike] == [2, 5, 3] and alike[0] == alike[1][:2] and alike[2] == alike[1][:3]
    other = replay.generate([replace(requests[0], seed=2)])  # another seed is another rollout
    assert live.seconds > spent
    assert [c.token_ids for c in other[0]] != [c.token_ids for c in replay.generate([requests[0]])[0]]


@pytest.mark.slow
def test_a_larger_body_writes_the_same(model_folder: Path, tmp_path: Path) -> None:
    parameters = grow(str(model_folder), tmp_path / "large", hidden_size=48, layers=5)
    small = AutoModelForCausalLM.from_pretrained(model_folder)
    large = AutoModelForCausalLM.from_pretrained(tmp_path / "large")
    assert parameters == sum(p.numel() for p in large.parameters()) > 5 * sum(p.numel() for p in small.parameters())
    ids = torch.tensor([[3, 4, 5, 3, 3, 4]])
    with torch.inference_mode():
        torch.testing.assert_close(large(ids).logits, small(ids).logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="multiple of the head size 8"):
        grow(str(model_folder), tmp_path / "bad", hidden_size=50)
