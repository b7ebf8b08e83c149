"""LoRA and QLoRA through peft: which modules get adapters, and a merged model at the end.

The frozen weights are held in `policy.dtype` (in 4 bits where the recipe says so), the adapters in float32: AdamW's
small steps vanish in bfloat16 weights. A new adapter changes nothing, so the start policy is the model with its
adapters switched off; DPO and KTO use that as their reference.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from negrl.errors import InputError, nearest
from negrl.policy import LoraSection, PolicySection
from negrl.trainers.distributed import barrier, is_main


def check_settings(policy: PolicySection, given: dict[str, Any]) -> None:
    """Check that this machine and these train fields allow it.

    Raises:
        InputError: 4 bits without bitsandbytes or without a GPU, or a reference model that follows the policy.
    """
    if policy.lora is not None and given.get("sync_ref_model"):
        raise InputError("train.sync_ref_model: not with policy.lora, whose reference is the model without adapters")
    if not policy.load_in_4bit:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("policy.load_in_4bit: needs `pip install bitsandbytes`; or leave it out (plain LoRA)")
    if not torch.cuda.is_available():
        raise InputError("policy.load_in_4bit: needs an NVIDIA GPU, and there is none here; leave it out (plain LoRA)")


def frozen_settings(policy: PolicySection) -> dict[str, Any]:
    """For `from_pretrained`: how to hold the frozen weights beside which adapters are trained."""
    if not policy.load_in_4bit:
        return {"dtype": getattr(torch, policy.dtype)}
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {
        "dtype": torch.bfloat16,
        "quantization_config": quantization,
        "device_map": {"": torch.cuda.current_device()},
    }


def attach(network: Any, policy: PolicySection, seed: int, by_trl: bool) -> tuple[Any, dict[str, Any]]:
    """Put adapters on `network`, the same on every process for a given seed.

    Args:
        by_trl: the trainer is one of TRL's, which attaches them itself (and so knows that its reference is the
            model without them).

    Returns:
        The model for the trainer, and further arguments for it.

    Raises:
        InputError: the recipe names a module that the model does not have, or one that can't have an adapter.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    section = policy.lora
    assert section is not None
    _check_targets(network, section)
    # By their full names: peft applies "norm" to every module whose name ends with it ("input_layernorm").
    saved = [name for given in section.modules_to_save or () for name in _find(network, given, "modules_to_save")]
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM if by_trl else TaskType.TOKEN_CLS,
        r=section.r,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.target_modules if by_trl else _targets(network, section),
        modules_to_save=saved or None,
        use_rslora=section.use_rslora,
    )
    if by_trl:
        return network, {"peft_config": config}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = get_peft_model(network, config)
    model.enable_input_require_grads()
    return model, {}


def hold_in_float32(model: Any) -> None:
    """The adapters, that is (TRL makes those on 4-bit weights bfloat16). Call it before there is an optimizer."""
    for parameter in model.parameters():
        if parameter.requires_grad and not hasattr(parameter, "ds_tensor"):
            parameter.data = parameter.data.float()


def save(trainer: Any, out: Path, policy: PolicySection, load: Callable[[], Any]) -> None:
    """Write `out/adapter` as peft does, and the start policy with the adapter merged into it as `out/model`: merged
    in float32, then rounded to `policy.dtype`. Each is complete or not there.

    Args:
        load: returns the start policy's weights, none of them in 4 bits. Called only on rank 0.
    """
    if trainer.is_fsdp_enabled:  # gather the shards into one state dict
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    adapter, whole = out / ".adapter.tmp", out / ".model.tmp"
    if is_main():
        for folder in (adapter, whole):
            shutil.rmtree(folder, ignore_errors=True)
    barrier()
    trainer.save_model(str(adapter))
    barrier()
    if is_main():
        (adapter / "training_args.bin").unlink(missing_ok=True)  # a pickle, with this machine's paths
        merge(load(), adapter).to(getattr(torch, policy.dtype)).save_pretrained(whole)
        trainer.processing_class.save_pretrained(whole)
        for temporary, final in ((adapter, out / "adapter"), (whole, out / "model")):
            shutil.rmtree(final, ignore_errors=True)
            temporary.replace(final)
    barrier()


def merge(network: Any, adapter: Path) -> Any:
    """`network` in float32 with the adapter merged into its weights."""
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(network.float(), str(adapter))
    return model.merge_and_unload()


def _targets(network: Any, section: LoraSection) -> str | list[str]:
    """The modules to adapt in a model without an LM head: peft does not tell its head from other linear modules."""
    if section.target_modules != "all-linear":
        return section.target_modules
    linear = [name for name, module in network.base_model.named_modules() if isinstance(module, torch.nn.Linear)]
    return sorted({name.split(".")[-1] for name in linear})


def _check_targets(network: Any, section: LoraSection) -> None:
    """Check every name: peft is satisfied when one name of a list exists."""
    wanted = section.target_modules
    if isinstance(wanted, list):
        for name in wanted:
            _find(network, name, "target_modules")
    elif wanted != "all-linear":
        modules = dict(network.named_modules())
        matched = [name for name in modules if re.fullmatch(wanted, name)]
        if not matched:
            example = next((f", as in '{n}'" for n, m in modules.items() if isinstance(m, torch.nn.Linear)), "")
            raise InputError(f"policy.lora.target_modules: no module's whole name matches '{wanted}'{example}")
        _refuse_head(network, matched, "target_modules")


def _find(network: Any, name: str, field: str) -> list[str]:
    """Full names of the modules whose last parts are `name`."""
    modules = [module for module, _ in network.named_modules()]
    matched = [module for module in modules if module == name or module.endswith(f".{name}")]
    if not matched:
        known = {module.split(".")[-1] for module in modules if module}
        raise InputError(f"policy.lora.{field}: the model has no module '{name}'{nearest(name, known)}")
    _refuse_head(network, matched, field)
    return matched


def _refuse_head(network: Any, names: list[str], field: str) -> None:
    """The loss reads the head's weight directly and would miss an adapter; and a trained copy of a tied matrix would
    separate it from its twin."""
    head, tied = network.get_output_embeddings(), network.config.get_text_config().tie_word_embeddings
    refused = [head] if field == "target_modules" else []
    refused += [head, network.get_input_embeddings()] if tied else []
    modules = dict(network.named_modules())
    for name in names:
        if any(modules[name] is module for module in refused if module is not None):
            raise InputError(
                f"policy.lora.{field}: '{name}' can't have an adapter here: the loss reads its weight itself"
            )
