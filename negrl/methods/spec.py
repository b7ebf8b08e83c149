"""What a training method declares about itself. Nothing here imports torch or TRL."""

from __future__ import annotations

import ast
import functools
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from negrl.errors import nearest
from negrl.methods.guards import GuardOptions
from negrl.options import Options as ModuleOptions
from negrl.options import keyed_names

TRL_CONFIGS = {"sft": "SFTConfig", "dpo": "DPOConfig", "kto": "KTOConfig", "grpo": "GRPOConfig"}
"""`Method.config` -> TRL's class."""
NEEDS = {
    "solutions": "the reference solutions of the problems",
    "prompts": "the prompts of the problems, tokenized",
    "traces": "responses of the policy, sampled or imported, with their verdicts",
    "values": "the values, advantages and labels of the traces' steps",
    "rollouts": "the rollouts that the values were estimated from",
    "sampling": "to sample and label while it trains",
}
"""What a method may need (`Method.needs`), in words."""
_NEEDED_TOO = {"values": "traces", "rollouts": "values", "sampling": "prompts"}


def in_training(default: Any, **constraints: Any) -> Any:
    """A pydantic Field that only the trainer reads: changing it does not change the training table.

    All other options of a method are part of the key of its table. A view that reads this one gets an AttributeError.
    """
    return Field(default, json_schema_extra={"shapes_view": False}, **constraints)


def added(default: Any, **constraints: Any) -> Any:
    """A pydantic Field that is left out of the training table's key while it has its default: for an option that came
    after tables were made without it."""
    return Field(default, exclude_if=lambda value: value == default, **constraints)


class Options(ModuleOptions):
    """A method's own options, beside the TRL config's fields.

    They are part of the keys of the training table and of the training. An option that the table does not
    depend on says so with `in_training`.
    """

    guards: GuardOptions | None = Field(default_factory=GuardOptions, json_schema_extra={"shapes_view": False})
    """What is measured on held-out problems during training, and what stops it. null: nothing."""

    def trl_fields(self, given: dict[str, Any]) -> dict[str, Any]:
        """TRL config fields that these options stand for; `given` are those that the recipe itself sets.

        Raises:
            ValueError: the two contradict each other.
        """
        return {}

    def for_view(self) -> dict[str, Any]:
        """The values of the options that shape the training table, by name; without those that a dump leaves out
        (`exclude_if`), so that an option added later changes no key where it is not used."""
        shaping = {name for name in type(self).model_fields if self._shapes_view(name)}
        return {name: getattr(self, name) for name in self.model_dump(include=shaping)}

    def as_view_reads(self) -> ViewOptions:
        """These options without those that are declared with `in_training`."""
        return ViewOptions(self)

    @classmethod
    def _shapes_view(cls, name: str) -> bool:
        extra = cls.model_fields[name].json_schema_extra
        return not (isinstance(extra, dict) and extra.get("shapes_view") is False)


class ViewOptions:
    """A method's options as its view sees them: what the key of its table does not name can't be read."""

    def __init__(self, options: Options):
        self._options = options

    def __getattr__(self, name: str) -> Any:
        fields = type(self._options).model_fields
        if name in fields and not self._options._shapes_view(name):
            raise AttributeError(
                f"the view reads the option '{name}', which {type(self._options).__name__} declares with in_training: "
                "declare it with Field, so that it becomes part of the table's key"
            )
        return getattr(self._options, name)


class SharedPrefixes(Options):
    """For methods whose rows often begin alike: several responses to one prompt, or several steps after one prefix."""

    share_prefixes: bool = in_training(True)
    """Run the prefixes that rows of a micro-batch have in common only once. The rows of a problem then stay together,
    as GRPO's groups do; a batch's loss and gradient are the same with and without. false: all rows are shuffled, and
    each is run on its own."""


@dataclass(frozen=True)
class Method:
    """A training method. A module declares one as `METHOD`.

    `name`: what a recipe calls it (`train.method`).
    `view`: the table that it trains on, one of `negrl.views.VIEWS`.
    `config`: the TRL config whose fields it takes, a key of `TRL_CONFIGS`.
    `trainer`: "module:class", imported when training starts. Its arguments are those of TRL's trainer, and `options`
    (an instance of the method's `options`); a method that needs "sampling" is also given `online`
    (`negrl.trainers.online.Online`).
    `needs`: what has to be made before it can train, and what its view reads; keys of `NEEDS`.
    `columns`: what its trainer reads of the view's rows; preflight looks whether they have it.
    `options`: its own, beside the config's fields.
    `defaults`: TRL fields, with values that were measured to be safe.
    `network`: the transformers class that loads the model to train.
    `own_loss`: its trainer computes another loss than TRL's, so fields of TRL's loss are refused.
    `positive_only`: it learns from right answers alone; reports compare the others with it.

    Raises:
        ValueError: `config` or one of `needs` is unknown, or `needs` lacks what another of them builds on.
    """

    name: str
    view: str
    config: str
    trainer: str
    needs: frozenset[str]
    options: type[Options] = Options
    defaults: dict[str, Any] = field(default_factory=dict)
    network: str = "AutoModelForCausalLM"
    own_loss: bool = False
    positive_only: bool = False
    columns: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.config not in TRL_CONFIGS:
            hint = f"{nearest(self.config, TRL_CONFIGS)}; one of {', '.join(TRL_CONFIGS)}"
            raise ValueError(f"method '{self.name}': unknown config '{self.config}'{hint}")
        for need in sorted(self.needs):
            if need not in NEEDS:
                raise ValueError(
                    f"method '{self.name}': unknown need '{need}'{nearest(need, NEEDS)}; some of {', '.join(NEEDS)}"
                )
            if (other := _NEEDED_TOO.get(need, need)) not in self.needs:
                raise ValueError(f"method '{self.name}': needs '{need}' and so '{other}', too")

    @property
    def reads_traces(self) -> bool:
        """Does it learn from stored responses of the policy? (`sft` reads the reference solutions.)"""
        return "traces" in self.needs

    @property
    def reads_values(self) -> bool:
        """Does it need step values? They are only paid for if it does."""
        return "values" in self.needs

    @property
    def online(self) -> bool:
        """Does it sample and label while it trains?"""
        return "sampling" in self.needs

    @property
    def makes_policy(self) -> bool:
        """Can the model that it trains write text, and so be evaluated?"""
        return self.network == "AutoModelForCausalLM"

    def split(self, fields: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
        """The recipe's fields, divided into this method's options and TRL config fields.

        Raises:
            ValueError: an option has a wrong value, or contradicts a TRL field.
        """
        own = {k: v for k, v in fields.items() if k in self.options.model_fields}
        trl = {k: v for k, v in fields.items() if k not in own}
        given = self.options(**own)
        return given, {**self.defaults, **trl, **given.trl_fields(trl)}

    def keyed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Those of the recipe's fields that belong in a training's key: all but `unkeyed` options."""
        left_out = self.options.model_fields.keys() - keyed_names(self.options)
        return {name: value for name, value in fields.items() if name not in left_out}

    def known_fields(self) -> frozenset[str]:
        """Names of its options and of the fields of its TRL config."""
        return trl_fields(self.config) | frozenset(self.options.model_fields)

    def check_fields(self, fields: dict[str, Any], others: tuple[str, ...] = ()) -> None:
        """Check fields of a recipe's train section.

        Args:
            others: keys of the section that are no fields, for the hint.

        Raises:
            ValueError: a field is neither an option of the method nor a field of its TRL config, an option has a wrong
                value, or contradicts a TRL field.
        """
        known = self.known_fields()
        for name in fields:
            if name not in known:
                raise ValueError(
                    f"unknown field '{name}' for method {self.name}{nearest(name, [*known, *others])}: "
                    f"it is no option of {self.name} and no field of trl's {TRL_CONFIGS[self.config]}"
                )
        self.split(fields)


@functools.cache
def trl_fields(config: str) -> frozenset[str]:
    """Field names of one of TRL's configs and its bases, read from the installed source
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
    # The pipeline decides where a stage writes, not the recipe.
    return frozenset(n for n in names if not n.startswith("_")) - {"output_dir", "resume_from_checkpoint"}
