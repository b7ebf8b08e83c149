"""The same policy in a larger body: more width, more layers, the same function.

A bench wants a larger model that writes what the small one writes, so that only the cost of a forward pass
changes. New channels, heads and MLP units have zero weights, new layers add nothing to the residual stream,
and the norms' weights make up for the zeros that they average over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from negrl.errors import InputError
from negrl.quiet import quiet


def grow(model: str, folder: Path, hidden_size: int | None = None, layers: int | None = None) -> int:
    """Write the Llama `model`, grown to `hidden_size` and `layers` (default: its own), with its tokenizer, to
    `folder`.

    Returns:
        The number of parameters.

    Raises:
        InputError: the model is no Llama, or is not smaller, or its heads don't divide `hidden_size`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    with quiet():
        small: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(model)
    old = small.config
    if not isinstance(old, LlamaConfig):
        raise InputError(f"policy.model: only Llama models can be grown, not '{old.model_type}'")
    width = old.hidden_size // old.num_attention_heads
    hidden_size, layers = hidden_size or old.hidden_size, layers or old.num_hidden_layers
    if hidden_size < old.hidden_size or layers < old.num_hidden_layers or hidden_size % width:
        raise InputError(
            f"policy: can't grow hidden size {old.hidden_size} and {old.num_hidden_layers} layers to {hidden_size} "
            f"and {layers}; expected no less, and a multiple of the head size {width}"
        )
    factor = hidden_size / old.hidden_size
    config = LlamaConfig(**{
        **old.to_dict(), "hidden_size": hidden_size, "num_hidden_layers": layers, "head_dim": width,
        "num_attention_heads": hidden_size // width, "num_key_value_heads": hidden_size // width,
        "intermediate_size": round(old.intermediate_size * factor),
        "rms_norm_eps": old.rms_norm_eps / factor,
    })  # fmt: skip
    if old.num_key_value_heads != old.num_attention_heads:
        raise InputError("policy: models with grouped attention heads can't be grown")
    large: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.zero_()
        target = dict(large.named_parameters())
        for name, value in small.named_parameters():
            corner = tuple(slice(0, extent) for extent in value.shape)
            # RMSNorm divides by the root of a mean that now has factor times as many terms.
            target[name][corner] = value / factor**0.5 if value.ndim == 1 else value
    with quiet():
        large.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in large.parameters())
