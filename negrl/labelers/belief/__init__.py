"""Beliefs instead of rollouts (after GRPO-VPS, arXiv:2604.20659): log p(gold answer | prefix) says how near the
policy is to the right answer, for one forward pass a step.

It is no value yet: how much a belief means depends on the model and on the problems. So it is calibrated on
the traces at hand. A trace's verdict is an unbiased sample of the value of each of its own prefixes, so a
logistic regression of the verdicts on what is known at a prefix gives values:

    logit V = logit V_0 + w . features(log p(gold | prefix), V_0, share of the steps done)

V_0 comes from the problem's *other* traces, and a ridge pulls w to 0: with no data, V stays at V_0. Values are
cross-fitted by problem: no trace's verdict has a part in its own values (but the last step's, which it is).
Of traces that the policy did not write the verdicts speak of their writer, and so do the values.

With `calibrated: false` the beliefs are the values, as in GRPO-VPS: V = p(gold answer | prefix), before the first step,
too, and A is the change of belief. Only the last step's value is the verdict.
"""

from __future__ import annotations

from pydantic import Field

from negrl.labelers.base import BeliefOptions, Labeler, LabelerSpec, Opening


class BeliefLabelerOptions(BeliefOptions):
    # Left out of a dump where it is true: dumps are part of the stages' keys.
    calibrated: bool = Field(True, exclude_if=lambda value: value)
    """Fit the values to the verdicts of the traces. false: the policy's probability of the gold answer is the value
    (GRPO-VPS, arXiv:2604.20659), without an interval."""


def _open(opening: Opening) -> Labeler:
    from negrl.labelers.belief.labeler import BeliefLabeler  # loads numpy

    settings = opening.settings
    return BeliefLabeler(settings.confidence, settings.best_of, settings.calibrated)


# Calibrated on what it sees and cheap to redo, so better on all traces at once.
LABELER = LabelerSpec("belief", _open, BeliefLabelerOptions, whole_round=True)
