"""The hub's `model-index` block: what a model's page shows as its evaluation results."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def front_matter(results: dict[str, Any]) -> str:
    """YAML front matter for a model card, in the form that `huggingface_hub.ModelCard` reads. Values are in
    percent; `args` of a metric holds its interval and how it was sampled."""
    import yaml
    from huggingface_hub.repocard_data import eval_results_to_model_index

    index = eval_results_to_model_index(Path(results["model"]["name"]).name, list(_results(results)))
    block = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True)
    return f"---\n{block}---\n"


def _results(results: dict[str, Any]) -> Any:
    from huggingface_hub import EvalResult

    from negrl.evaluate.benchmarks import BENCHMARKS

    for name, entry in results["benchmarks"].items():
        benchmark, settings, data = BENCHMARKS.get(name), entry["settings"], entry["data"]
        configs = benchmark.source.configs if benchmark else ()  # of a plugin that this evaluation did without
        how = f"n={settings['n']}, T={settings['temperature']}" if settings["n"] is not None else "given responses"
        how += f", first {settings['limit']} problems" if settings["limit"] else ""
        sampling = {key: settings[key] for key in ("n", "temperature", "top_p", "max_tokens", "few_shot", "seed")}
        for metric, found in entry["metrics"].items():
            yield EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=data["hub"],
                dataset_name=entry["title"],
                dataset_config=configs[0] if len(configs) == 1 else None,
                dataset_split=data["split"],
                dataset_args={"limit": settings["limit"]} if settings["limit"] else None,
                metric_type=metric,
                metric_name=f"{metric} ({how})",
                metric_value=round(100 * found["value"], 2),
                metric_args={"low": round(100 * found["low"], 2), "high": round(100 * found["high"], 2), **sampling},
            )
