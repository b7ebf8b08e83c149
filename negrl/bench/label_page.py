"""The words and tables of `negrl bench label-cost`: for the screen, and a page for a sceptical reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrl.bench.label_report import LabelCost, Measured, Overhead, PolicyCost, pooled, ratio_lines, ratios
from negrl.labelers.adaptive import AdaptiveOptions
from negrl.progress import thousands

if TYPE_CHECKING:
    from rich.table import Table

    from negrl.bench.label_metrics import Ratio

DEFAULT_ROLLOUTS = AdaptiveOptions().max_rollouts

GOALS = {"fixed K=16": 6.0, "bisect K=8": 2.0}
"""Tokens of the peer over those of adaptive at equal RMSE or pit F1, at least."""
COVERAGE = (0.85, 0.95)
OUTSIDE = 0.05
"""Share of the wall time outside the engine, at most."""
HEADS = (
    "labeler", "tokens a trace", "RMSE of A", "pit F1", "spurious F1", "by sign alone", "intervals cover A",
    "mean width",
)  # fmt: skip
SHORT = ("labeler", "tokens", "RMSE", "pit F1", "spurious", "by sign", "covers", "width")
_NO_INTERVALS = {"oracle"}
"""Exact, but of another writer's value."""


def screen(found: LabelCost, policy: PolicyCost) -> Table:
    """A rich table of one policy, without intervals."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{policy.name}: {policy.accuracy:.0%} right, {policy.traces:,} traces of {policy.problems} problems"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(title), title_justify="left")
    for i, head in enumerate(SHORT):
        table.add_column(head, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for one in _ordered(policy):
        table.add_row(*(Text(c) for c in _cells(found, one, bounds=False)))
    return table


def markdown(found: LabelCost, policy: PolicyCost) -> str:
    """The same as Markdown, with the bootstrap intervals."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---" + "|---:" * (len(HEADS) - 1) + "|"]
    lines += ["| " + " | ".join(_cells(found, one, bounds=True)) + " |" for one in _ordered(policy)]
    return "\n".join(lines)


def _ordered(policy: PolicyCost) -> list[Measured]:
    order = ["fixed", "bisect", "first_zero", "belief", "oracle", "adaptive", "blind"]
    return sorted(policy.measured, key=lambda m: (order.index(m.labeler), m.budget))


def _cells(found: LabelCost, one: Measured, bounds: bool) -> list[str]:
    def cell(name: str, digits: int, percent: bool = False) -> str:
        value, (low, high) = one.at(name), found.bounds(one, name) if bounds else (0.0, 0.0)
        if value != value:
            return "–"
        if percent:
            return f"{value:.0%}" + (f" [{100 * low:.0f}, {100 * high:.0f}]" if bounds else "")
        text = f"{value:,.{digits}f}"
        return f"{text} [{low:,.{digits}f}, {high:,.{digits}f}]" if bounds and one.at("tokens") else text

    cells = [one.name, cell("tokens", 1), cell("rmse", 3), cell("pit_f1", 3)]
    cells += [cell("spurious_f1", 3), cell("bad_f1", 3)]
    return [*cells, *(["–", "–"] if one.labeler in _NO_INTERVALS else [cell("coverage", 0, True), cell("width", 2)])]


PAGE = """# What step labels cost

`{command}`

Hardware: {hardware}, torch threads: {threads}; {packages}.
Seeds: recipe {seed}, samples {sample_seed}, rollouts {label_seed}.

{ratios}

At its default budget (at most {default} rollouts a trace) `adaptive` takes, for all policies together, {share:.2f} of
the tokens of `fixed` K=16, at an RMSE of {rmse:.3f} against {peer_rmse:.3f}. Why so little is enough, and something is
known without any rollout (`adaptive 0`): it reads what the peers leave unread, namely what the other {others} sampled
traces of a problem came to, where each left the path of the one that is labelled, and the sampler's log p of its steps.
Those were paid for when the traces were sampled. With one trace of a problem, or with somebody else's traces, there is
less to go by.

Brackets here and below: {confidence:.0%} intervals, bootstrap over problems ({bootstrap:,} resamples, the same for
all labelers; traces of a problem share prefixes, so they are no independent draws). Between two measured budgets of
`adaptive` (or `blind`), log tokens is interpolated against log RMSE or against F1; nothing is extrapolated ("at least":
its smallest budget was as good already).

![tokens against error]({stem}.png)

{tables}

All columns with their intervals are in [{stem}.csv]({stem}.csv), the policies pooled too.

## What is measured

- **Traces**: every policy writes {n} responses at temperature 1 to the same {held_out} held-out problems of the world
  `chain`. Those with a verdict, of problems with V_0 in [{low:g}, {high:g}] (judged by the {n} samples), are labelled,
  in one call per labeler (a run cuts them into calls of {shard_size} problems). All labelers get the same traces, and
  equal prefixes are shared alike.
- **tokens a trace**: all rollout tokens that a labeler asked for, over the traces that it labelled. V_0 comes from the
  {n} sampled traces and is free for all of them: that helps `fixed` below K={n} and holds it back above (`rmse_later`
  in the CSV is without the first step). `adaptive` and `belief` also read what the other sampled traces came to.
  `belief` and `oracle` write no token; `belief` costs a forward pass a step.
- **Rollouts** are real ones of the transformers engine. One that two labelers ask for (same prefix, seed and number)
  is drawn once and charged to both.
- **RMSE of A**: over all steps, against the true advantage. A step that a labeler leaves without an advantage counts
  as 0, "no effect"; so it does for most steps of `bisect` and `first_zero`, which look for one step only.
- **pit F1**: wrong traces; a labeler names one step or none. **spurious F1**: steps of right traces. The truth is
  `credit.label_steps` on the true values, dead zone {dead_zone:g}; a labeler's spurious label wants its interval below
  0 too, which few rollouts a step can't give. **by sign alone**: every step of a right trace with an advantage below
  -{dead_zone:g} counts as named.
- **intervals cover A**: of the {label_confidence:.0%} intervals on advantages, over all steps that have one. The true
  advantage is known to ±{blur:.4f} on average; an interval that meets these bounds covers it (`coverage_middle` in the
  CSV: that holds their middle).

`blind` is `adaptive` without the chances of the steps (`label.step_chances: false`). In these short chains a step is
one of a few, and its chance p, read from the sampler's logprobs, says most of what there is to know: |A| <= 1 - p. In
long text a step's exact words are always unlikely and p says little: then expect of `adaptive` what `blind` does here.

The peers: `fixed` is plain differences of K rollouts at every step (Math-Shepherd, VinePPO); `bisect` the binary search
for the first error of OmegaPRM; `first_zero` Self-Explore's first step from which no rollout comes out right; `belief`
log p(gold | prefix) alone, calibrated on the verdicts; `oracle` the world's own checker, which is a perfect writer's
value rather than the policy's.

## Is the truth true?

Values are of the policy, by enumeration: every continuation with more than {prune:g} of the mass is followed to its
end, and what was dropped bounds the error. {check_prefixes} random prefixes of each policy (value between {open:g} and
{closed:g}) were held against {check_rollouts:,} rollouts each of the real engine: for a right truth the z-scores,
against the middle of the bounds, have a root mean square of about 1. Last column: the largest z of what lies beyond the
bounds.

| policy | right | traces | wrong | problems | pits | spurious | mean bound ± | largest ± | z, rms | largest | beyond |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{policies}

## The driver's own time

Labels made live by the transformers engine, nothing replayed, for {timed} traces: the share of the wall time that is
not the engine's (labeler, bookkeeping, judging, storing the rows). The larger model computes the same function, with
zero-padded weights: the same rollouts at a larger model's cost.

| labeler | parameters | rollout tokens | seconds | outside the engine | of which judging | storing |
|---|---:|---:|---:|---:|---:|---:|
{overheads}

## Where adaptive is weak

{weak}
- Spurious steps of more than the dead zone are rare here ({spurious} in all): their F1 is a rough figure.
- One world of short chains ({steps:.1f} steps a trace on average), policies of one small model, one seed. Values here
  stay flat and then jump; where they drift, a prior of rare jumps helps less.
"""


def page(found: LabelCost, rows: list[tuple[str, str, str, Ratio]], stem: str) -> str:
    """The whole document."""
    from negrl.bench.label_stages import NOT_UNCERTAIN

    settings, recipe, first = found.settings, found.recipe, found.policies[0]
    tables = [
        f"### {p.name}: {p.traces:,} traces of {p.problems} problems\n\n{markdown(found, p)}" for p in found.policies
    ]
    policies = [
        f"| {p.name} | {p.accuracy:.0%} | {p.traces:,} | {p.wrong:,} | {p.problems} | "
        f"{p.total('pit_true'):,.0f} | {p.total('spurious_true'):,.0f} | {p.truth['bound_mean']:.4f} | "
        f"{p.truth['bound_max']:.4f} | {p.check['z_rms']:.2f} | {p.check['z_max']:.1f} | {p.check['z_beyond']:.1f} |"
        for p in found.policies
    ]
    packages = (f"{name} {found.versions[name]}" for name in ("negrl", "torch", "transformers"))
    without = ratios(found, "blind")
    blind = ratio_lines(without, "blind")
    weak = [*weak_points(found, rows), *_slow(found), *weak_points(found, without, "blind")]
    weak = weak or ["By these measures, nowhere."]
    return PAGE.format(
        command=found.command, others=recipe.sample.n - 1, default=DEFAULT_ROLLOUTS, **_at_default(found),
        hardware=found.hardware, threads=recipe.threads or "default",
        packages=", ".join(packages), seed=recipe.seed, sample_seed=recipe.sample.seed, label_seed=recipe.label.seed,
        ratios="\n".join(f"- {line}." for line in [*ratio_lines(rows), *blind]), confidence=settings.confidence,
        bootstrap=settings.bootstrap, stem=stem, tables="\n\n".join(tables), n=recipe.sample.n,
        held_out=found.draws.shape[1], low=recipe.label.value_band[0], high=recipe.label.value_band[1],
        dead_zone=recipe.label.dead_zone, shard_size=recipe.label.shard_size,
        label_confidence=recipe.label.confidence, prune=settings.prune,
        check_prefixes=settings.check_prefixes, check_rollouts=settings.check_rollouts, open=NOT_UNCERTAIN,
        closed=1 - NOT_UNCERTAIN, policies="\n".join(policies), timed=found.overheads[0].traces,
        blur=sum(p.total("blur") for p in found.policies) / sum(p.total("steps") for p in found.policies),
        overheads="\n".join(_overhead(o) for o in found.overheads), steps=_steps(first),
        spurious=", ".join(f"{p.total('spurious_true'):.0f} of {p.name}" for p in found.policies),
        weak="\n".join(f"- {line}" for line in weak),
    )  # fmt: skip


def _at_default(found: LabelCost) -> dict[str, float]:
    everyone = pooled(found.policies)
    own = everyone.named(f"adaptive {DEFAULT_ROLLOUTS}")
    peer = everyone.named("fixed K=16")
    assert own is not None and peer is not None
    share = own.at("tokens") / peer.at("tokens")
    return {"share": share, "rmse": own.at("rmse"), "peer_rmse": peer.at("rmse")}


def _overhead(o: Overhead) -> str:
    return (
        f"| {o.labeler} | {thousands(o.parameters)} | {o.tokens:,} | {o.wall:.1f} | {1 - o.engine / o.wall:.1%} | "
        f"{o.verify / o.wall:.1%} | {o.store / o.wall:.1%} |"
    )


def _slow(found: LabelCost) -> list[str]:
    return [
        f"{o.labeler}: {1 - o.engine / o.wall:.0%} of the wall time is not the engine's at {thousands(o.parameters)} "
        f"parameters, above {OUTSIDE:.0%}."
        for o in found.overheads
        if o.labeler.startswith("adaptive") and 1 - o.engine / o.wall > OUTSIDE
    ]


def _steps(policy: PolicyCost) -> float:
    return policy.total("steps") / max(1.0, policy.total("traces"))


def weak_points(found: LabelCost, rows: list[tuple[str, str, str, Ratio]], kind: str = "adaptive") -> list[str]:
    """What the figures say against `kind`: goals missed, peers that end up better."""
    lines = []
    for who, peer, name, ratio in rows:
        value, goal = ratio.value or 0.0, GOALS.get(peer, 0.0)
        if value < goal:
            lines.append(f"{who}, {kind}: {value:.1f}x of {peer} at equal {name}, short of {goal:g}x.")
        elif ratio.low < goal:
            lines.append(
                f"{who}, {kind}: the interval of the {value:.1f}x over {peer} at equal {name} begins at "
                f"{ratio.low:.1f}, below {goal:g}x."
            )
    for policy in [*found.policies, pooled(found.policies)]:
        adaptive = policy.find(kind)
        covers = [c for m in adaptive if (c := m.at("coverage")) == c]
        if covers and not (COVERAGE[0] <= min(covers) and max(covers) <= COVERAGE[1]):
            lines.append(
                f"{policy.name}, {kind}: intervals at {found.recipe.label.confidence:.0%} cover A {min(covers):.0%} to "
                f"{max(covers):.0%} of the time, by budget."
            )
        for name, words in (("rmse", "RMSE"), ("pit_f1", "pit F1"), ("spurious_f1", "spurious F1")):
            if not adaptive:
                continue
            best = adaptive[-1]
            sign = -1 if name == "rmse" else 1
            better = [
                m for m in policy.measured
                if m.labeler not in ("adaptive", "blind", "oracle") and sign * m.at(name) > sign * best.at(name)
            ]  # fmt: skip
            if better:
                cheapest = min(better, key=lambda m: m.at("tokens"))
                lines.append(
                    f"{policy.name}: {cheapest.name} has a better {words} ({cheapest.at(name):.3f}, "
                    f"{cheapest.at('tokens'):,.0f} tokens) than {best.name} ({best.at(name):.3f}, "
                    f"{best.at('tokens'):,.0f} tokens)."
                )
    return lines
