"""Load the start policy for training: its weights and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from negrl.errors import InputError
from negrl.policy import PolicySection


def load_network(
    model: str, policy: PolicySection, fields: dict[str, Any], network_class: str = "AutoModelForCausalLM"
) -> tuple[Any, Any]:
    """Float32 weights (safetensors only) and the tokenizer; with `policy.lora` the frozen weights as the recipe
    holds them. A token-classification model gets a head of one number, always with the same initial weights, and no
    dropout.

    Raises:
        InputError: the model can't be loaded.
    """
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    from negrl.trainers.lora import frozen_settings

    source: dict[str, Any] = {"trust_remote_code": policy.trust_remote_code}
    if not Path(model).is_dir():
        source["revision"] = policy.revision
    held = {"dtype": torch.float32} if policy.lora is None else frozen_settings(policy)
    settings = {**held, **(fields.get("model_init_kwargs") or {})}
    if isinstance(settings["dtype"], str) and settings["dtype"] != "auto":
        settings["dtype"] = getattr(torch, settings["dtype"])
    try:
        if network_class == "AutoModelForTokenClassification":
            config = transformers.AutoConfig.from_pretrained(model, **source)
            config.num_labels, config.classifier_dropout = 1, 0.0
            settings["config"] = config
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = getattr(transformers, network_class).from_pretrained(
                model, use_safetensors=True, **source, **settings
            )
        tokenizer = AutoTokenizer.from_pretrained(model, **source)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"policy.model: '{model}' can't be loaded: {reason}") from None
    for name, weight in network.named_parameters():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise InputError(f"policy.model: '{model}': the weights {name} are not finite")
    return network, tokenizer
