"""The recipe's train fields -> the method's options and a checked TRL config.

Defaults, weakest first: TRL's own, those below, the method's, the recipe's.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pydantic
import torch

from negrl.errors import InputError
from negrl.recipe import PolicySection
from negrl.trainers.methods import Method, Options

REFUSED = {
    "packing": "rows are trained one by one",
    "padding_free": "rows are padded",
    "eval_packing": "there is no evaluation set; evaluate is a stage of its own",
    "auto_find_batch_size": "the batch size is part of the result; set per_device_train_batch_size",
    "dataset_kwargs": "rows are token ids already",
    "load_best_model_at_end": "there is no evaluation set; evaluate is a stage of its own",
    "push_to_hub": "nothing is uploaded while training",
    "group_by_length": "it is called train_sampling_strategy: group_by_length now",
}
NOT_STEP_ADVANTAGE = ("loss_type", "label_smoothing_factor", "router_aux_loss_coef")
"""Fields of SFTConfig that the step-advantage loss does not read: accepting them would be a lie."""


def configure(
    method: Method, fields: dict[str, Any], policy: PolicySection, seed: int, folder: Path
) -> tuple[Options, Any]:
    """The method's options, and its SFTConfig or DPOConfig that writes to `folder`.

    Weights are held in float32 whatever `policy.dtype` says (AdamW steps of 1e-6 vanish in bfloat16
    weights); bfloat16 and float16 run the forward pass under autocast. Gradient checkpointing is on, as
    TRL has it, but off on a CPU, where memory is rarely what is short.

    Raises:
        InputError: a field has a wrong type or value, or means something that is not done here.
    """
    import trl

    try:
        options, given = method.split(fields)
    except pydantic.ValidationError as error:
        raise InputError(_pydantic_line(error)) from None
    config_class = {"sft": trl.SFTConfig, "dpo": trl.DPOConfig}[method.config]
    _refuse(method, given)
    values = {name: _scalar(config_class, name, value) for name, value in given.items()}
    cuda = torch.cuda.is_available()
    if policy.dtype == "float16" and not cuda:
        raise InputError("policy.dtype: float16 can't be trained on a CPU; use bfloat16 or float32")
    defaults = {
        "output_dir": str(folder),
        "seed": seed,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 10,
        "logging_nan_inf_filter": False,  # would replace a bad loss by the average of the good ones
        "save_strategy": "steps" if "save_steps" in values else "no",  # TimedCheckpoints saves
        "save_total_limit": 1,
        "max_length": None,
        "use_cpu": not cuda,
        "bf16": policy.dtype == "bfloat16",
        "fp16": policy.dtype == "float16",
        "dataloader_num_workers": 0,
        "ddp_find_unused_parameters": False,  # every parameter has a part in every loss here
        **({} if cuda else {"gradient_checkpointing": False}),
    }
    try:
        return options, config_class(**{**defaults, **values, "max_length": None})
    except (ValueError, TypeError, ImportError, KeyError) as error:
        guilty = _guilty_field(config_class, folder, values, not cuda)
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"train{guilty}: {line}") from None


def _refuse(method: Method, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value and name in REFUSED:
            raise InputError(f"train.{name}: not done here: {REFUSED[name]}")
        if method.name == "step_advantage" and name in NOT_STEP_ADVANTAGE:
            raise InputError(f"train.{name}: the step_advantage loss does not read it; leave it out")
    if given.get("eval_strategy", "no") not in ("no", False):
        raise InputError("train.eval_strategy: there is no evaluation set; evaluate is a stage of its own")
    if given.get("train_sampling_strategy") == "batch_rebalance":
        raise InputError("train.train_sampling_strategy: batch_rebalance is not done here; use group_by_length")
    if given.get("sync_ref_model") and given.get("precompute_ref_log_probs", True):
        raise InputError("train.sync_ref_model: needs precompute_ref_log_probs: false")


def _scalar(config_class: type, name: str, value: Any) -> Any:
    """`value` in the type of a number, bool or string field ("1e-6" is a string in YAML 1.1)."""
    hint = typing.get_type_hints(config_class)[name]
    kinds = set(typing.get_args(hint) or (hint,)) - {type(None)}
    if value is None or kinds - {bool, int, float, str}:
        return value
    try:
        return pydantic.TypeAdapter(hint).validate_python(value)
    except pydantic.ValidationError:
        expected = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"train.{name}: expected {expected}, got {value!r}") from None


def _guilty_field(config_class: Any, folder: Path, values: dict[str, Any], use_cpu: bool) -> str:
    """Which of the recipe's fields the config refuses on its own: ".name", or nothing."""
    for name, value in values.items():
        try:
            config_class(**{"output_dir": str(folder), "use_cpu": use_cpu, "bf16": False, name: value})
        except (ValueError, TypeError, ImportError, KeyError):
            return f".{name}"
    return ""


def _pydantic_line(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    return f"train.{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
