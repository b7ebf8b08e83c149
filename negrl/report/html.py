"""The page: one self-contained `index.html` that loads nothing and runs only its own script.

Everything that a model or a user wrote is either escaped by jinja2 or kept in a JSON block that the script shows
through `textContent`. The Content-Security-Policy allows the one inline style and the one inline script by their
hashes, images from data URIs, and no network access.
"""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from negrl.report.data import ArmReport, RunReport, finding, visible
from negrl.report.table import cells, headers
from negrl.report.traces import json_block

ALT = {
    "results.png": "pass@1 and the share of right answers with a wrong step, per arm; the table has the numbers",
    "training.png": "loss, log probabilities and gradient norm over the optimizer steps, per arm",
    "guards.png": "log probabilities, entropy and KL on held-out traces over the optimizer steps, per arm",
    "advantages.png": "histograms of the advantages of steps in right and in wrong answers",
}


def render(report: RunReport, plots: dict[str, bytes]) -> str:
    """The whole page. `plots`: file name -> PNG bytes; the traces are embedded as JSON."""
    environment = Environment(
        loader=PackageLoader("negrl.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_source(environment, name) for name in ("report.css", "report.js"))
    evaluated = [a for a in [*report.arms, *report.reference] if a.summary]
    return environment.get_template("report.html.j2").render(
        report=report,
        finding=finding(report),
        style=style,
        script=script,
        policy=(
            f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
            f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
        ),
        headers=headers(report),
        rows=[_row(a) for a in report.arms],
        reference_rows=[_row(a, reference=True) for a in report.reference],
        evaluated=bool(evaluated),
        best=max((a.summary.pass_at_1 for a in report.arms if a.summary), default=None),
        problems=max((a.summary.problems for a in evaluated if a.summary), default=0),
        samples=max((a.summary.samples for a in evaluated if a.summary), default=0),
        labels=[(key, _number(value)) for key, value in report.label.items()],
        figures={name: _figure(name, png) for name, png in plots.items()},
        labelled=any(math.isfinite(s.value) for t in report.traces for s in t.steps),
        trace_json=Markup(json_block(report.traces)),
    )


def _row(arm: ArmReport, reference: bool = False) -> dict[str, Any]:
    s = arm.summary
    return {
        "cells": cells(arm, reference),
        "rows": f"{arm.rows:,}" if arm.rows else "–",
        "method": visible(arm.method),
        "value": s.pass_at_1 if s else None,
        "undecided": f"{s.undecided_rate:.1%}" if s else "–",
    }


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def _figure(name: str, png: bytes) -> dict[str, Any]:
    """A PNG as a data URI. Its size (from its header, halved because plots are drawn for dense screens) keeps the page
    from jumping while images decode."""
    return {
        "uri": "data:image/png;base64," + base64.b64encode(png).decode(),
        "width": int.from_bytes(png[16:20], "big") // 2,
        "height": int.from_bytes(png[20:24], "big") // 2,
        "alt": ALT[name],
    }


def _source(environment: Environment, name: str) -> Markup:
    """A file of the template folder, unchanged but with LF line ends: the hash must match what the browser sees."""
    assert environment.loader is not None
    text = environment.loader.get_source(environment, name)[0]
    return Markup(text.replace("\r\n", "\n"))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
