"""The reference solutions of the problems (a teacher's or a person's): what `sft` trains on."""

from __future__ import annotations

from negrl.methods import Options
from negrl.records import SftRow
from negrl.views.inputs import View, ViewInputs, in_order, sft_row


def build(inputs: ViewInputs, options: Options) -> View[SftRow]:
    """One row for each solution that fits `max_length`: a cut solution would teach to stop early."""
    fitting = [s for s in in_order(inputs.solutions) if inputs.fits(s.prompt_token_ids, s.token_ids)]
    refused = len(inputs.solutions) - len(fitting)
    return View([sft_row(s) for s in fitting], {"rows": len(fitting), "refused_no_room": refused})
