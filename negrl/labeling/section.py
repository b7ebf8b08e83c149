"""The recipe's `label` section: what each step is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from negrl.labelers import LABELERS, Labeler
from negrl.options import Options, PickedSection, readers_of
from negrl.steps.section import CreditSection, SplitSection
from negrl.steps.splitters import SPLITTERS


class LabelSection(PickedSection, SplitSection, CreditSection):
    """The common keys. The options of the labeler and of the splitter stand beside them, and only those."""

    labeler: str = "adaptive"
    """adaptive, fixed, bisect, first_zero, belief, prm, arithmetic, consensus, oracle, none (split into steps
    only), or one of a plugin."""
    prompt_rollouts: int = Field(8, ge=1)
    """Of imported traces only: rollouts from every prompt, for V_0."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Strings that end a rollout, besides `sample.stop`: what the policy writes once its answer is settled. They stay
    in the text that is judged, so they may be part of the answer, as a closing brace is."""
    max_tokens: int | None = Field(None, ge=1)
    """Of a rollout. Default: what sample.max_tokens leaves after the prefix."""
    # Left out of a dump where it is not set: dumps are part of the stages' keys.
    sibling_rounds: int = Field(1, ge=1, exclude_if=lambda v: v == 1)
    """Rounds whose traces of a problem count as siblings of each other, the newest so many: they are evidence about V_0
    and about the steps. 1: this round's only. More lets a round have few samples of each problem."""
    confidence: float = Field(0.9, gt=0.5, lt=1)
    shard_size: int = Field(64, ge=1)
    """Problems per shard."""
    seed: int = 0

    @classmethod
    def pick(cls, data: Mapping[str, Any]) -> list[type[Options]]:
        names = _with_parts(data.get("labeler", cls.model_fields["labeler"].default), data)
        splitter = SPLITTERS.get_or_refuse(data.get("split", cls.model_fields["split"].default), "split")
        return [*(LABELERS[name].options for name in names), splitter.options]

    @classmethod
    def every_option(cls) -> dict[str, list[str]]:
        return readers_of([*LABELERS.values(), *SPLITTERS.values()])

    @model_validator(mode="after")
    def _enough_rollouts(self) -> Self:
        best_of, k = getattr(self, "best_of", 1), getattr(self, "k", None)
        if k is not None and k < best_of:
            raise ValueError(f"k: {k} rollouts can't show the best of {best_of}; set k to more")
        return self

    @property
    def labelers(self) -> list[str]:
        """The labelers at work: the one, and its parts where it combines others."""
        return _with_parts(self.labeler, self.model_dump())

    @property
    def makes_values(self) -> bool:
        return LABELERS[self.labeler].makes_values

    @property
    def whole_round(self) -> bool:
        """Does a labeler at work want all traces of a round at once?"""
        return any(LABELERS[name].whole_round for name in self.labelers)

    def with_labeler(self, name: str, **options: Any) -> LabelSection:
        """The same common keys with another labeler, at its defaults but for `options`."""
        kept = {*LabelSection.model_fields, *SPLITTERS[self.split].options.model_fields}
        return LabelSection.model_validate({**self.model_dump(include=kept), "labeler": name, **options})

    def values_key(self, labeler: Labeler, imported: bool) -> dict[str, Any]:
        """The settings that the steps and their values depend on, and no others: rollouts are dear.

        Args:
            labeler: the one that this section opens.
            imported: the traces are not the policy's own.
        """
        read = {"labeler", "split", "min_chars", "max_steps"}
        for name in self.labelers:
            read |= set(LABELERS[name].reads)
        if self.whole_round:
            read -= {"shard_size"}
        if self.makes_values:
            read |= {"value_band", "confidence"}
        if "rollouts" in labeler.needs:
            read |= {"max_tokens", "stop"}
        if {"rollouts", "beliefs"} & labeler.needs:
            read |= {"seed", "prompt_rollouts"} if imported else {"seed"}
        return {**self.model_dump(include=read), **self.picked_options()}


def _with_parts(name: Any, data: Mapping[str, Any]) -> list[str]:
    parts = [part for part in LABELERS.get_or_refuse(name, "labeler").parts(data) if part in LABELERS and part != name]
    return [name, *parts]
