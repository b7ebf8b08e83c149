"""Beliefs instead of rollouts (after GRPO-VPS, arXiv:2604.20659): log p(gold answer | prefix) says how near the
policy is to the right answer, for one forward pass a step.

It is no value yet: how much a belief means depends on the model and on the problems. So it is calibrated on
the traces at hand. A trace's verdict is an unbiased sample of the value of each of its own prefixes, so a
logistic regression of the verdicts on what is known at a prefix gives values:

    logit V = logit V_0 + w . features(log p(gold | prefix), V_0, share of the steps done)

V_0 comes from the problem's *other* traces, and a ridge pulls w to 0: with no data, V stays at V_0. Values are
cross-fitted by problem: no trace's verdict has a part in its own values (but the last step's, which it is).
Of traces that the policy did not write the verdicts speak of their writer, and so do the values.
"""

from __future__ import annotations

from negrl.labelers.base import BeliefOptions, Labeler, LabelerSpec, Opening


def _open(opening: Opening) -> Labeler:
    from negrl.labelers.belief.labeler import BeliefLabeler  # loads numpy

    return BeliefLabeler(opening.settings.confidence, opening.settings.best_of)


# Calibrated on what it sees and cheap to redo, so better on all traces at once.
LABELER = LabelerSpec("belief", _open, BeliefOptions, whole_round=True)
