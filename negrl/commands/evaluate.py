"""`negrl evaluate MODEL --benchmark ...`, `negrl evaluate compare A B` and `negrl evaluate benchmarks`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from negrl.errors import InputError
from negrl.evaluate.results import export_samples
from negrl.plugins import load_plugins
from negrl.terminal import safe


class _RunByDefault(TyperGroup):
    """`negrl evaluate X ...` is `negrl evaluate run X ...` unless X is a command of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="evaluate",
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Math benchmarks: negrl evaluate MODEL --benchmark gsm8k (its options: negrl evaluate run --help), "
    "negrl evaluate compare A B.",
)


class _NamesInHelp(TyperCommand):
    """Puts the names that there are into the help, when it is asked for: finding them takes a moment."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from negrl.engines import ENGINES
        from negrl.evaluate.benchmarks import BENCHMARKS

        names = {"<engines>": ", ".join(ENGINES), "<benchmarks>": ", ".join(BENCHMARKS)}
        for param in self.params:
            if text := getattr(param, "help", None):
                param.help = re.sub("<engines>|<benchmarks>", lambda m: names[m[0]], text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Benchmarks = Annotated[
    str, typer.Option("--benchmark", "-b", help="gsm8k, or several: gsm8k,math500. There are <benchmarks>.")
]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", help="A Python module with benchmarks or engines; repeatable.")
]


@app.command(cls=_NamesInHelp)
def run(
    benchmark: Benchmarks,
    model_given: Annotated[str | None, typer.Argument(metavar="MODEL", help="A model folder or a hub id.")] = None,
    model: Annotated[str | None, typer.Option(help="The same, as an option.")] = None,
    n: Annotated[int, typer.Option(help="Samples per problem.")] = 4,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.6,
    top_p: Annotated[float, typer.Option()] = 0.95,
    top_k: Annotated[int, typer.Option(help="0 is off.")] = 0,
    max_tokens: Annotated[int, typer.Option(help="Maximum length of one response.")] = 2048,
    seed: Annotated[int, typer.Option()] = 0,
    limit: Annotated[int | None, typer.Option(help="Use only this many problems, from the first.")] = None,
    few_shot: Annotated[int, typer.Option(help="Number of worked examples in the prompt.")] = 0,
    chat_template: Annotated[bool, typer.Option(help="Use the tokenizer's chat template.")] = False,
    system_prompt: Annotated[str | None, typer.Option(help="System prompt; with --chat-template.")] = None,
    template: Annotated[str | None, typer.Option(help="Your own prompt; contains {prompt}.")] = None,
    extract: Annotated[str | None, typer.Option(help="How to find the answer: auto, boxed, hash, ...")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A further string that ends a response; repeatable.")] = None,
    engine: Annotated[str, typer.Option(help="One of <engines>.")] = "transformers",
    option: Annotated[
        list[str] | None, typer.Option(help="key=value for the engine (vllm: for vllm.LLM); repeatable.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option()] = Dtype.float32,
    batch_size: Annotated[int | None, typer.Option(help="Sequences at once (transformers). Default: 512.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, cpu, ... Default: cuda if available.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a model on the hub.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the benchmark files. Default: the hub.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results. Default: runs/evaluate/<model>.")] = None,
    responses: Annotated[Path | None, typer.Option(help="Score a file of responses: JSON lines or Parquet.")] = None,
    response: Annotated[str, typer.Option(help="Column with the responses; may be a dotted path.")] = "response",
    problem_key: Annotated[str | None, typer.Option(help="Column with problem ids or questions.")] = None,
    finish_reason: Annotated[str | None, typer.Option(help='Column that says "length" if it was cut off.')] = None,
    shard_size: Annotated[int, typer.Option(help="Problems per shard: the most that a kill can lose.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes for the checks that need math-verify.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds for one check.")] = 5.0,
    bootstrap: Annotated[int, typer.Option(help="Resamples per interval.")] = 2000,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    plugin: Plugins = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another evaluation's results in --out.")] = False,
) -> None:
    """Run a model on benchmarks and score pass@1, pass@k and maj@k with intervals. After a kill, the same command
    continues."""
    import pydantic

    from negrl.evaluate.benchmarks import pick
    from negrl.evaluate.settings import EvalSettings
    from negrl.options import first_error

    if plugin:
        load_plugins(plugin)
    if model and model_given:
        raise InputError("the model is given twice")
    if responses is None and not (model or model_given):
        raise InputError("give a model: negrl evaluate MODEL --benchmark gsm8k (or --responses FILE)")
    chosen = pick(benchmark)
    if responses is not None and len(chosen) > 1:
        raise InputError("--responses: one file answers one benchmark; give one --benchmark")
    try:
        settings = EvalSettings(
            n=n, temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens, seed=seed, limit=limit,
            few_shot=few_shot, chat_template=chat_template, system_prompt=system_prompt, template=template,
            extract=extract, stop=stop, dtype=dtype.value, revision=revision, engine=engine,
            batch_size=batch_size, device=device, options=_options(option or []), timeout=timeout, workers=workers,
            confidence=confidence, bootstrap=bootstrap, shard_size=shard_size,
        )  # fmt: skip
        for one in chosen:
            settings.verify(one.extract)
    except pydantic.ValidationError as error:
        raise InputError(f"--{first_error(error)}") from None
    from negrl.evaluate.responses import Columns
    from negrl.evaluate.run import Given, evaluate

    given = None
    if responses is not None:
        name = model or model_given or f"{responses.name.partition('.')[0]}-{response.replace('.', '-')}"
        given = Given(responses, Columns(response, problem_key, finish_reason), name)
    evaluate(None if given else model or model_given, chosen, settings, data, out, given, force=force)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="The baseline, an --out folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="The results to compare with A.", show_default=False)],
    benchmark: Annotated[str | None, typer.Option("--benchmark", "-b", help="Default: all that both have.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare even if settings or problems differ.")] = False,
    top: Annotated[int, typer.Option(min=0, help="How many flipped problems to list.")] = 10,
    bootstrap: Annotated[int, typer.Option(min=100, help="Resamples.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="Default: B/compare-<A's name>.")] = None,
) -> None:
    """Paired bootstrap over problems of B minus A, and the problems that flipped."""
    from rich.markup import escape
    from rich.table import Table

    from negrl.evaluate.compare import compare as compare_results
    from negrl.evaluate.compare import comparison_rows, write_comparison
    from negrl.progress import SafeConsole

    names = [name.strip() for name in benchmark.split(",")] if benchmark else None
    found = compare_results(a, b, names, force, bootstrap)
    folder = out or (b if b.is_dir() else b.parent) / f"compare-{(a if a.is_dir() else a.parent).name}"
    write_comparison(found, folder, max(top, 20))
    console = SafeConsole(highlight=False)
    head, rows = comparison_rows(found)
    table = Table(caption="in percent; brackets: paired bootstrap over problems")
    for title in head:
        table.add_column(title, justify="left" if title in ("metric", "verdict") else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for name, pair in found["benchmarks"].items():
        for why in pair["forced"]:
            console.print(escape(f"forced, although {name} differs in {safe(why)}"), soft_wrap=True)
        for title in ("gained", "lost"):
            for m in pair[title][:top]:
                line = f"{name} {title}: {m['a']:.2f} -> {m['b']:.2f}  {safe(m['question'], 70)}"
                console.print(escape(f"{line}  gold {safe(m['gold'], 20)}"), soft_wrap=True)
    console.print(escape(f"  {folder / 'compare.json'}\n  {folder / 'compare.md'}"), soft_wrap=True)


@app.command()
def export(
    results: Annotated[Path, typer.Argument(help="An --out folder.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="JSON lines, plain or .gz.", show_default=False)],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="The benchmark whose samples to write.")],
) -> None:
    """Write the samples with their verdicts as JSON lines, for other tools (and for --responses)."""

    count = export_samples(results, benchmark, file)
    print(f"{count:,} samples written to {safe(file)}")


@app.command("benchmarks")
def list_benchmarks(plugin: Plugins = None) -> None:
    """List the benchmarks: problems, license, origin."""
    from rich.table import Table

    from negrl.evaluate.benchmarks import BENCHMARKS
    from negrl.progress import SafeConsole

    if plugin:
        load_plugins(plugin)
    table = Table()
    for title in ("name", "problems", "license", "hub", "local files"):
        table.add_column(title, justify="right" if title == "problems" else "left", overflow="fold")
    for name, one in BENCHMARKS.items():
        source = one.source
        table.add_row(
            name, f"{source.problems:,}", one.license, f"{source.hub} ({source.split})", "\n".join(source.files)
        )
    SafeConsole(highlight=False).print(table)


def _options(given: list[str]) -> dict[str, Any]:
    """The engine's options. Values are read as YAML: numbers, true and false."""
    import yaml

    out: dict[str, Any] = {}
    for item in given:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise InputError(f"--option: expected key=value, got '{item}'")
        out[key] = yaml.safe_load(value)
    return out
