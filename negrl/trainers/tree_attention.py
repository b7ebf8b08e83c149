"""Attention in which every node of a token tree sees exactly its ancestors, in three equivalent ways:

    dense      many small trees: one boolean mask (R, 1, C, C) through torch's SDPA
    cascade    CPU: each unbranched run against itself, then all its descendants against it; the parts are combined
               by their log-sum-exps, so no work is done that a mask would discard
    flex       GPU: FlexAttention, with a block mask made from the ends of the subtrees

`enable` puts a dispatcher in front of the model's own attention; it acts only in a forward pass that is given a tree.
What a model family does before and after attention is left alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_triton_available

from negrl.trainers.tree import SMALL_TREE, TokenTree, build_tree

OURS = "negrl_tree_"
BLOCK = 128
"""Block size of queries and keys in FlexAttention."""
FALLS_THROUGH = ("sdpa", "flex_attention")
"""Attention implementations that tree attention can replace."""
EXACT, ROUNDED = 1e-4, 0.05
"""The most that `differs` may find: in float32 on a CPU; elsewhere, where products may be in TF32 or bfloat16."""


def tree_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, tree: TokenTree, mask: Any, scaling: float | None
) -> tuple[Tensor, None]:
    """In transformers' form: query (R, heads, C, D), key and value with as many or fewer heads; returns
    (R, C, heads, D). `mask` is what `attention_mask` made for this tree."""
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # which knows SDPA but neither of the others
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, mask, scaling=scaling)
    if not isinstance(mask, Tensor):
        return ALL_ATTENTION_FUNCTIONS["flex_attention"](module, query, key, value, mask, scaling=scaling)
    if key.shape[1] != query.shape[1]:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    out = _Cascade.apply(query, key, value, tree.segments, scaling)
    return out.transpose(1, 2).contiguous(), None


def attention_mask(tree: TokenTree) -> Any:
    """The `attention_mask` for a transformers model, which uses a 4D tensor or a block mask as it is."""
    kind = tree.ends.device.type
    if tree.segments and kind == "cpu":
        return tree.ends.new_zeros(1, 1, 1, 1)  # 4D, so that no mask is made: the cascade reads the segments
    if tree.segments and kind == "cuda" and is_triton_available() and tree.ends.shape[1] % BLOCK == 0:
        return block_mask(tree.ends)
    return dense_mask(tree.ends)


def dense_mask(ends: Tensor) -> Tensor:
    """(R, C) ends of subtrees -> (R, 1, C, C) bool: [r, 0, i, j] where node i sees node j."""
    place = torch.arange(ends.shape[1], device=ends.device)
    return ((place <= place[:, None]) & (place[:, None] < ends[:, None, :]))[:, None]


def block_mask(ends: Tensor, block: int = BLOCK) -> Any:
    """(R, C) ends of subtrees -> the FlexAttention BlockMask of `dense_mask`, C a multiple of `block`.

    Computed on blocks: before the diagonal, some node of key block K is an ancestor of some node of query block Q if
    the largest end in K is beyond the first node of Q, and all are ancestors of all if the smallest reaches Q's end.
    """
    from torch.nn.attention.flex_attention import BlockMask

    blocks = ends.view(ends.shape[0], -1, block)
    first = torch.arange(blocks.shape[1], device=ends.device) * block
    before = first[:, None] > first
    full = before & (blocks.amin(-1)[:, None, :] >= (first + block)[:, None])
    some = (before & (blocks.amax(-1)[:, None, :] > first[:, None])) | torch.eye(
        len(first), dtype=torch.bool, device=ends.device
    )

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[row, key])

    def listed(where: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.argsort(where.int(), dim=-1, descending=True, stable=True)
        return where.sum(-1, dtype=torch.int32)[:, None], order.int()[:, None].contiguous()

    return BlockMask.from_kv_blocks(
        *listed(some & ~full), *listed(full), BLOCK_SIZE=block, mask_mod=sees, seq_lengths=(ends.shape[1],) * 2
    )


_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _Cascade(torch.autograd.Function):
    """Softmax over a union of key sets from the softmaxes over each set: out = sum_s exp(lse_s - lse) out_s with
    lse = logsumexp_s lse_s. Backward needs only the flash backward of each part with the joint out and lse (as in
    ring attention)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: tuple[tuple[int, int, int], ...], scale: Any
    ) -> Tensor:
        batch, heads, length, dim = query.shape
        out = query.new_empty(batch, length, heads, dim, dtype=torch.float32).transpose(1, 2)
        lse = query.new_empty(batch, heads, length, dtype=torch.float32)
        for start, end, _ in segments:
            q, k, v = (x[:, :, start:end] for x in (query, key, value))
            out[:, :, start:end], lse[:, :, start:end] = _forward(q, k, v, 0.0, True, scale=scale)
        for start, end, stop in segments:
            if stop > end:
                part, part_lse = _forward(
                    query[:, :, end:stop], key[:, :, start:end], value[:, :, start:end], 0.0, False, scale=scale
                )
                so_far = lse[:, :, end:stop]
                out[:, :, end:stop].lerp_(part.float(), torch.sigmoid(part_lse - so_far)[..., None])
                so_far.copy_(torch.logaddexp(so_far, part_lse))
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.segments, ctx.scale = segments, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        query, key, value, out, lse = ctx.saved_tensors
        # Summed in float32, because a shared key gets a part from every branch.
        grads = [x.new_zeros(x.transpose(1, 2).shape, dtype=torch.float32).transpose(1, 2) for x in (query, key, value)]
        for start, end, stop in ctx.segments:
            for (a, b), causal in (((start, end), True), ((end, stop), False)):
                if a == b:
                    continue
                parts = _backward(
                    *(grad[:, :, a:b], query[:, :, a:b], key[:, :, start:end], value[:, :, start:end]),
                    *(out[:, :, a:b], lse[:, :, a:b], 0.0, causal),
                    scale=ctx.scale,
                )
                for total, part, (x, y) in zip(grads, parts, ((a, b), (start, end), (start, end)), strict=True):
                    total[:, :, x:y] += part
        return *(g.to(query.dtype) for g in grads), None, None


def why_not(model: Any) -> str | None:
    """Why prefixes can't be shared in this model, in a few words, or None, as far as its config tells."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    if kinds != {"full_attention"}:
        return f"it has layers of type {', '.join(sorted(kinds - {'full_attention'}))}"
    if not hasattr(config, "layer_types") and getattr(config, "sliding_window", None) is not None:
        return f"it attends in a sliding window of {config.sliding_window}"
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention can't be exchanged in transformers"
    if config._attn_implementation.removeprefix(OURS) not in FALLS_THROUGH:
        return f"its attention is {config._attn_implementation}, not {' or '.join(FALLS_THROUGH)}"
    if (getattr(config, "attention_dropout", 0.0) or 0.0) > 0:
        return "it has attention dropout"
    if getattr(config, "output_router_logits", False):
        return "its router loss counts every token of every row"
    return None


def enable(model: Any, probe: bool = True) -> str | None:
    """Let a causal LM run on a tree if a forward pass is given one (`prefix_tree`): its attention follows the tree, and
    its backbone passes on only the hidden states of the pairs, (1, P, hidden).

    Args:
        probe: verify by running a few tokens both ways. Not possible while weights are sharded.

    Returns:
        Why it cannot be done (the model is then unchanged), or None.
    """
    reason = why_not(model)
    original = model.config.get_text_config()._attn_implementation
    if reason or original.startswith(OURS):
        return reason
    _register(original)
    model.config._attn_implementation = OURS + original
    try:
        found = differs(model) if probe else 0.0
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = f"it fails on a tree: {str(error).splitlines()[0]}"
    else:
        weight = next(model.parameters())
        if not found < (EXACT if weight.dtype == torch.float32 and weight.device.type == "cpu" else ROUNDED):
            reason = f"its hidden states on a tree differ by {found:.1g} of their size"
    if reason:
        model.config._attn_implementation = original
        return reason
    model.base_model.register_forward_hook(_hand_on_pairs, with_kwargs=True)
    return None


def _register(original: str) -> None:
    """OURS + original: tree attention if there is a tree, else the original attention."""

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        tree = kwargs.pop("prefix_tree", None)
        if tree is None:
            return ALL_ATTENTION_FUNCTIONS[original](module, query, key, value, mask, **kwargs)
        return tree_attention(module, query, key, value, tree, mask, kwargs.get("scaling"))

    AttentionInterface.register(OURS + original, attend)
    AttentionMaskInterface.register(OURS + original, AttentionMaskInterface()[original])


def _hand_on_pairs(backbone: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    tree = kwargs.get("prefix_tree")
    if tree is not None:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[tree.pair_nodes][None]
    return output


def differs(model: Any) -> float:
    """Largest difference between the last hidden states of three rows with shared prefixes, on a tree and one by one,
    as a share of the largest value. It shows rounding errors, or that the model does not fit a tree."""
    top = model.config.get_text_config().vocab_size
    rows = [[(i * 7 + 3) % top for i in (*range(6), *tail)] for tail in ((11, 12, 13), (11, 14, 15, 16), (17, 18))]
    device = next(model.parameters()).device
    was_training = model.training
    worst = largest = 0.0
    model.eval()
    with torch.no_grad():
        alone = [model.base_model(torch.tensor([row], device=device), use_cache=False) for row in rows]
        for dense_up_to in (0, SMALL_TREE):
            tree = build_tree(rows, rows, dense_up_to=dense_up_to, multiple=multiple(device)).to(device)
            shared = model.base_model(**model_inputs(tree)).last_hidden_state.flatten(0, 1)[tree.pair_nodes]
            for row, index, expected in zip(rows, tree.index, alone, strict=True):
                hidden = expected.last_hidden_state[0, :-1]
                worst = max(worst, float((shared[index[: len(row) - 1]] - hidden).abs().max()))
                largest = max(largest, float(hidden.abs().max()))
    model.train(was_training)
    return worst / largest


def model_inputs(tree: TokenTree) -> dict[str, Any]:
    """The arguments of a forward pass on the tree, which is on the device of the model."""
    return {
        "input_ids": tree.input_ids,
        "position_ids": tree.position_ids,
        "attention_mask": attention_mask(tree),
        "prefix_tree": tree,
        "use_cache": False,
    }


def multiple(device: torch.device) -> int:
    """Sequence lengths should be a multiple of this on the device."""
    return BLOCK if device.type == "cuda" else 1
