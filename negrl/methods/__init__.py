"""How a policy learns, one short module per method.

A method says which view it reads, which trainer runs it and what its own options and safe defaults
are. Adding one is a new module here and its name in `_MODULES`. Nothing here imports torch.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from negrl.errors import nearest
from negrl.methods.guards import GuardOptions

_MODULES = (
    *("sft", "dft", "rft", "dpo", "kto", "step_dpo", "step_advantage", "nsr", "psr_nsr", "topr"),
    *("process_reward", "step_grpo"),
)
_TRL_CONFIGS = {"sft": "SFTConfig", "dpo": "DPOConfig", "kto": "KTOConfig", "grpo": "GRPOConfig"}


class Options(pydantic.BaseModel):
    """A method's own options, beside the TRL config's fields."""

    model_config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)

    guards: GuardOptions | None = pydantic.Field(default_factory=GuardOptions)
    """What is measured on held-out problems while training, and when that stops it. null: nothing."""

    def trl_fields(self, given: dict[str, Any]) -> dict[str, Any]:
        """TRL config fields that these options stand for; `given` are those that the recipe sets itself.

        Raises:
            ValueError: the two are at odds.
        """
        return {}


@dataclass(frozen=True)
class Method:
    """`view`: the table that it reads (a module of negrl.views). `config`: the TRL config whose
    fields it takes (a key of `_TRL_CONFIGS`). `trainer`: "module:class", imported when training starts.
    `view_reads`: the options that shape the view; the others only matter in training.
    `defaults`: TRL fields with the values that were measured to be safe.
    `network`: the transformers class that loads the model to train.
    `online`: it samples and labels while it trains, so its trainer gets the whole recipe."""

    name: str
    view: str
    config: str
    trainer: str
    options: type[Options] = Options
    defaults: dict[str, Any] = field(default_factory=dict)
    view_reads: tuple[str, ...] = ()
    network: str = "AutoModelForCausalLM"
    online: bool = False

    @property
    def reads_traces(self) -> bool:
        """Does it learn from the policy's own stored traces? (`sft` reads the reference solutions.)"""
        return self.view not in ("sft", "prompts")

    @property
    def reads_values(self) -> bool:
        """Does it need step values? Only then are they paid for."""
        return self.view in ("step_preference", "advantage", "process_reward")

    @property
    def makes_policy(self) -> bool:
        """Can what it trains write text, and so be evaluated?"""
        return self.network == "AutoModelForCausalLM"

    def split(self, fields: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
        """The recipe's fields, divided into this method's options and TRL config fields.

        Raises:
            ValueError: an option has a wrong value, or is at odds with a TRL field.
        """
        own = {k: v for k, v in fields.items() if k in self.options.model_fields}
        trl = {k: v for k, v in fields.items() if k not in own}
        options = self.options(**own)
        return options, {**self.defaults, **trl, **options.trl_fields(trl)}


@functools.cache
def trl_fields(config: str) -> frozenset[str]:
    """Field names of one of trl's configs and its bases, read from the installed source
    without importing it (importing costs seconds and loads torch)."""

    def class_fields(package: str, file: str) -> set[str]:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"{package} is not installed")
        tree = ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text())
        return {
            statement.target.id
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        }

    names = class_fields("trl", f"trainer/{config}_config.py") | class_fields("trl", "trainer/base_config.py")
    names |= class_fields("transformers", "training_args.py")
    # The pipeline owns these: where a stage writes is not the recipe's to say.
    return frozenset(n for n in names if not n.startswith("_")) - {"output_dir", "resume_from_checkpoint"}


def known_fields(method: str) -> frozenset[str]:
    spec = METHODS[method]
    return trl_fields(spec.config) | frozenset(spec.options.model_fields)


def check_fields(method: str, fields: dict[str, Any]) -> None:
    """Raises ValueError for a field that neither the method nor its TRL config has."""
    known = known_fields(method)
    for name in fields:
        if name not in known:
            raise ValueError(
                f"unknown field '{name}' for method {method}{nearest(name, [*known, 'rounds', 'earlier_rounds'])}: "
                f"it is no option of {method} and no field of trl's {_TRL_CONFIGS[METHODS[method].config]}"
            )
    METHODS[method].split(fields)


METHODS: dict[str, Method] = {name: importlib.import_module(f"negrl.methods.{name}").METHOD for name in _MODULES}
