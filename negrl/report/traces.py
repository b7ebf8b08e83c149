"""Traces as the JSON that the pager of the page reads: text from models is data, never markup."""

from __future__ import annotations

import json
import math
from typing import Any

from negrl.records import Step
from negrl.report.data import TraceView, finite


def hover(step: Step) -> str:
    """A step's counts: `V 0.25 (2/8) [0.07, 0.59] · A -0.63 [-0.90, -0.20] · labeler fixed`."""
    if not math.isfinite(step.value):
        return "not labelled"
    counts = f" ({step.successes}/{step.n})" if step.n else ""
    parts = [f"V {step.value:.2f}{counts}{_interval(step.value_low, step.value_high)}"]
    if math.isfinite(step.advantage):
        parts.append(f"A {step.advantage:+.2f}{_interval(step.advantage_low, step.advantage_high)}")
    return " · ".join([*parts, f"label {step.label}", f"labeler {step.labeler}"])


def _interval(low: float, high: float) -> str:
    return f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) and math.isfinite(high) else ""


def trace_json(trace: TraceView) -> dict[str, Any]:
    """One trace as a record for the pager. `v0`, the value of the prompt, is V_1 - A_1."""
    first = trace.steps[0] if trace.steps else None
    labels = {s.label for s in trace.steps}
    return {
        "problem": trace.problem,
        "prompt": trace.prompt,
        "gold": trace.gold,
        "id": trace.trace_id,
        "verdict": trace.verdict,
        "reason": trace.verdict_reason,
        "answer": trace.answer,
        "policy": trace.policy,
        "text": trace.text,
        "pit": "pit" in labels,
        "spurious": "spurious" in labels,
        "v0": min(1.0, max(0.0, first.value - first.advantage)) if first and _known(first) else None,
        "steps": [
            {
                "text": s.text,
                "label": s.label,
                "v": s.value,
                "low": s.value_low,
                "high": s.value_high,
                "a": s.advantage,
                "gain": f"{s.advantage:+.2f}" if math.isfinite(s.advantage) else "",
                "hover": hover(s),
            }
            for s in trace.steps
        ],
    }


def _known(step: Step) -> bool:
    return math.isfinite(step.value) and math.isfinite(step.advantage)


def json_block(traces: list[TraceView]) -> str:
    """The content of a `<script type="application/json">`: ASCII only, with `<`, `>` and `&` escaped, so that no text
    can end the block, open a comment or start a tag. Parses back to the same data."""
    text = json.dumps(finite([trace_json(t) for t in traces]), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
