"""Token trees: what they hold, and that nothing but time changes when a model runs on them."""

import random

import numpy as np
import pytest
import torch

from negrl.trainers import compat
from negrl.trainers.batches import pad
from negrl.trainers.compat import add_small_head, score
from negrl.trainers.tree import TokenTree, build_tree, tree_of
from negrl.trainers.tree_attention import block_mask, dense_mask, enable, why_not

VOCABULARY = 40


def model(family, layers=2, heads=(4, 2), **extra):
    """A random model that is far from uniform, so that a wrong context shows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=8,
        max_position_embeddings=512,
        **extra,
    )
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return made


def rows(seed=0, problems=3, branches=5, prompt=12, length=30):
    """Rows that branch at random places of one another, some equal, one a prefix of another, one silent."""
    rng = random.Random(seed)
    out = []
    for _ in range(problems):
        start = [rng.randrange(VOCABULARY) for _ in range(prompt)]
        family = [start + [rng.randrange(VOCABULARY) for _ in range(rng.randint(5, length))]]
        while len(family) < branches:
            other = rng.choice(family)
            at = rng.randint(prompt - 3, len(other))
            family.append(other[:at] + [rng.randrange(VOCABULARY) for _ in range(rng.randint(4, length))])
        family.append(list(family[0]))
        family.append(family[1][:-2])
        out += [(ids, [-100] * min(prompt, len(ids) - 1) + ids[min(prompt, len(ids) - 1) :]) for ids in family]
    out.append((out[0][0], [-100] * len(out[0][0])))
    rng.shuffle(out)
    return [list(x) for x in zip(*out, strict=True)]


def batch(ids, labels, **options):
    padded = {
        "input_ids": pad(ids, 0, np.int64),
        "attention_mask": pad([[1] * len(r) for r in ids], 0, np.int64),
        "labels": pad(labels, -100, np.int64),
    }
    return padded, {**padded, "prefix_tree": build_tree(ids, labels, **options)}


def ready(network):
    """As TokenRows prepares it."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(network, outputs=("log_probs", "entropy", "is_top1", "mean_logits"))
    add_small_head(network)
    assert enable(network) is None
    network.can_share_prefixes = True


def scored(network, inputs):
    """Scores and the gradients of a loss that reads every log p with another weight, and the entropy."""
    network.zero_grad()
    scores = score(network, inputs)
    weights = torch.linspace(-1, 2, scores.log_probs.numel()).view_as(scores.log_probs)
    ((weights * scores.log_probs).sum() + (scores.log_probs**2).sum() / 5).backward()
    return scores, {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def assert_same(network, plain, shared):
    expected, by_row = scored(network, plain)
    found, on_tree = scored(network, shared)
    torch.testing.assert_close(found.log_probs, expected.log_probs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.entropy, expected.entropy, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.mask, expected.mask)
    assert (found.top1 == expected.top1).float().mean() > 0.99  # ties may fall either way
    assert by_row.keys() == on_tree.keys() and by_row
    for name, gradient in by_row.items():
        largest = float(gradient.abs().max())
        assert float((on_tree[name] - gradient).abs().max()) <= 1e-4 * largest, name
        assert largest > 0, name


@pytest.mark.parametrize("dense_up_to", [0, 10, 40, 256])
@pytest.mark.parametrize("seed", range(4))
def test_every_pair_sees_its_row_and_nothing_else(seed, dense_up_to):
    ids, labels = rows(seed)
    tree = build_tree(ids, labels, dense_up_to=dense_up_to, width=90)
    sees = dense_mask(tree.ends)[:, 0]
    columns = tree.input_ids.shape[1]
    for row, label, index in zip(ids, labels, tree.index, strict=True):
        assert len(index) == 89 and (index[len(row) - 1 :] == len(tree.targets)).all()
        for t in range(len(row) - 1):
            if label[t + 1] == -100:
                assert index[t] == len(tree.targets)
                continue
            sequence, place = divmod(int(tree.pair_nodes[index[t]]), columns)
            seen = sees[sequence, place]
            assert tree.input_ids[sequence, seen].tolist() == row[: t + 1]
            assert tree.position_ids[sequence, seen].tolist() == list(range(t + 1))
            assert tree.targets[index[t]] == row[t + 1]
    # No node and no pair stands twice, and no row's last token is run.
    heads = [r[:-1] for r, label in zip(ids, labels, strict=True) if label[-1] != -100]
    assert tree.nodes == len({tuple(h[: t + 1]) for h in heads for t in range(len(h))})
    pairs = {tuple(r[: t + 1]) for r, label in zip(ids, labels, strict=True) for t in range(1, len(r)) if label[t] >= 0}
    assert len(tree.targets) == len(pairs) and tree.tokens == sum(map(len, heads))


def test_segments_tile_the_nodes_and_end_where_something_branches():
    ids = [[1, 2, 3, 4, 0], [1, 2, 5, 6, 7, 0], [1, 2, 5, 6, 8, 0], [9, 9, 0]]
    assert not build_tree(ids, ids).segments  # small: one mask
    tree = build_tree(ids, ids, dense_up_to=0)
    assert tree.input_ids[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert tree.segments == ((0, 2, 8), (2, 4, 4), (4, 6, 8), (6, 7, 7), (7, 8, 8), (8, 10, 10))
    assert tree.ends[0].tolist() == [8, 8, 4, 4, 8, 8, 7, 8, 10, 10]


def test_small_trees_are_packed_several_to_a_sequence():
    ids, labels = rows(problems=8, branches=3, length=10)
    tree = build_tree(ids, labels, dense_up_to=100)
    assert not tree.segments and tree.input_ids.shape[0] < 8
    assert tree.input_ids.shape[1] <= 100 and tree.input_ids.numel() < 1.5 * tree.nodes


def test_a_batch_of_fillers_still_reaches_every_parameter():
    ids, _ = rows()
    silent = [[-100] * len(r) for r in ids]
    network = model("llama")
    ready(network)
    scores, gradients = scored(network, batch(ids, silent)[1])
    assert not scores.mask.any() and (scores.log_probs == 0).all()
    assert len(gradients) == len(list(network.parameters()))
    assert all((g == 0).all() for g in gradients.values())


@pytest.mark.parametrize("dense_up_to", [0, 256], ids=["cascade", "dense"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("head", ["small", "fused"])
def test_scores_and_gradients_are_those_of_the_rows(family, dense_up_to, head, monkeypatch):
    if head == "fused":
        monkeypatch.setattr(compat, "SMALL_LOGITS", 0)
    network = model(family)
    ready(network)
    ids, labels = rows(seed=3)
    plain, shared = batch(ids, labels, dense_up_to=dense_up_to)
    assert bool(shared["prefix_tree"].segments) == (dense_up_to == 0)
    assert_same(network, plain, shared)


@pytest.mark.parametrize("dense_up_to", [0, 256], ids=["cascade", "dense"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_with_gradient_checkpointing(dense_up_to, reentrant):
    network = model("qwen2")
    ready(network)
    network.gradient_checkpointing_enable({"use_reentrant": reentrant})
    network.enable_input_require_grads()
    network.train()
    assert_same(network, *batch(*rows(seed=4), dense_up_to=dense_up_to))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_with_lora(family, checkpointing):
    from peft import LoraConfig, get_peft_model

    base = model(family)
    ready(base)
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
        base.enable_input_require_grads()
    network = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    network.train()
    assert_same(network, *batch(*rows(seed=5), dense_up_to=0))


def test_under_bfloat16_the_two_agree_as_far_as_rounding_lets_them():
    network = model("qwen2")
    ready(network)
    plain, shared = batch(*rows(seed=6), dense_up_to=0)
    exact = score(network, plain).log_probs
    with torch.autocast("cpu", torch.bfloat16):
        by_row, on_tree = score(network, plain).log_probs, score(network, shared).log_probs
    noise = float((by_row.float() - exact).abs().mean())
    assert 0 < float((on_tree.float() - exact).abs().mean()) < 1.5 * noise


def test_a_batch_without_a_tree_goes_as_before():
    plain, _ = batch(*rows())
    before, after = model("llama"), model("llama")
    ready(after)
    labels = plain.pop("labels")
    same = after(**plain).logits
    torch.testing.assert_close(same, before(**plain).logits, rtol=0, atol=0)
    assert labels.shape == same.shape[:2]
    assert "negrl" not in after.config.to_json_string()


def test_models_that_a_tree_does_not_fit_are_refused_in_a_sentence():
    sliding = model("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert enable(sliding) == "it has layers of type sliding_attention"
    mistral = model("mistral", sliding_window=4)
    assert enable(mistral) == "it attends in a sliding window of 4"
    assert enable(model("llama", attention_dropout=0.1)) == "it has attention dropout"
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
    falcon = AutoConfig.for_model("falcon", **small, num_attention_heads=4, alibi=True)
    config = AutoConfig.for_model("mamba", **small)
    for other in (falcon, config):
        network = AutoModelForCausalLM.from_config(other)
        kept = network.config._attn_implementation
        assert enable(network) and network.config._attn_implementation == kept


def test_the_probe_finds_a_model_that_sees_more_than_its_row(monkeypatch):
    """One whose config says nothing of it: here its attention is made to see every earlier token."""
    from negrl.trainers import tree_attention

    network = model("llama")
    assert why_not(network) is None
    everything = lambda ends: torch.ones(ends.shape[1], ends.shape[1], dtype=torch.bool).tril()[None, None]  # noqa: E731
    monkeypatch.setattr(tree_attention, "dense_mask", everything)
    assert "hidden states on a tree differ" in enable(network)
    assert network.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("seed", range(3))
def test_the_block_mask_is_the_dense_mask(seed):
    ids, labels = rows(seed, problems=4, branches=9)
    ends = build_tree(ids, labels, dense_up_to=0, multiple=16).ends
    mask = block_mask(ends, block=16)
    blocks = ends.shape[1] // 16
    cells = dense_mask(ends)[0, 0].view(blocks, 16, blocks, 16)
    some, every = cells.any(3).any(1), cells.all(3).all(1)
    assert torch.equal(mask.to_dense()[0, 0].bool(), some)
    full = torch.zeros_like(every)
    for i in range(blocks):
        full[i, mask.full_kv_indices[0, 0, i, : mask.full_kv_num_blocks[0, 0, i]].long()] = True
    assert torch.equal(full, every) and not some.all()
    place = torch.arange(ends.shape[1])
    seen = mask.mask_mod(torch.tensor(0), torch.tensor(0), place[:, None], place)
    assert torch.equal(seen, dense_mask(ends)[0, 0])


def test_trees_are_only_made_where_something_is_shared():
    ids, labels = rows()
    assert isinstance(tree_of(ids, labels, (len(ids), 60), 1)["prefix_tree"], TokenTree)
    different = [[i, *r] for i, r in enumerate(ids)]
    assert tree_of(different, [[-100, *x] for x in labels], (len(ids), 60), 1) == {}


def test_flex_attention_sees_what_the_other_two_see(monkeypatch):
    """Forward only and not compiled: torch has no backward for it on a CPU."""
    import transformers.integrations.flex_attention as integration
    from torch.nn.attention.flex_attention import flex_attention

    from negrl.trainers import tree_attention

    network = model("qwen2")
    ready(network)
    ids, labels = rows(seed=3)
    plain, shared = batch(ids, labels, dense_up_to=0, multiple=tree_attention.BLOCK)
    monkeypatch.setattr(tree_attention, "attention_mask", lambda tree: block_mask(tree.ends))
    eager = lambda query, key, value, training=False, **options: flex_attention(query, key, value, **options)  # noqa: E731
    monkeypatch.setattr(integration, "compile_friendly_flex_attention", eager)
    with torch.no_grad():
        torch.testing.assert_close(score(network, shared).log_probs, score(network, plain).log_probs)
