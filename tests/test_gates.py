"""A recipe from a stranger can't read the environment and can't write outside runs/."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from negrl.bench.sweep.load import load_bench
from negrl.errors import InputError
from negrl.pipeline import _check_folder
from negrl.recipe import load_recipe

GOOD = """
name: t
policy: {model: org/name}
problems: {source: chain, train: 4, evaluate: 4}
train: {method: sft, learning_rate: 1e-6}
"""


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEGRL_SECRET", "hunter2")


def message(folder: Path, text: str, *overrides: str) -> str:
    path = folder / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(path, overrides)
    said = str(caught.value)
    assert "\n" not in said and "hunter2" not in said
    return said


@pytest.mark.parametrize(
    ("value", "resolver"),
    [
        ("${oc.env:NEGRL_SECRET}", "oc.env"),
        ("${oc.env:NEGRL_SECRET,none}", "oc.env"),
        ("${ oc.env : NEGRL_SECRET }", "oc.env"),
        ("x ${oc.env:NEGRL_SECRET} y", "oc.env"),
        ("${seed} ${oc.env:NEGRL_SECRET}", "oc.env"),
        ("${oc.decode:${oc.env:NEGRL_SECRET}}", "oc.decode"),
        ("${oc.create:{a:1}}", "oc.create"),
        ("${oc.select:seed}", "oc.select"),
        ("${oc.select:name,${oc.env:NEGRL_SECRET}}", "oc.select"),
        ("${oc.deprecated:seed}", "oc.deprecated"),
        ("${oc.dict.keys:sample}", "oc.dict.keys"),
        ("${oc.dict.values:sample}", "oc.dict.values"),
        ("${${name}.env:NEGRL_SECRET}", "${name}.env"),
        ("${sample.${oc.env:NEGRL_SECRET}}", "oc.env"),
        ("${sample[${oc.env:NEGRL_SECRET}]}", "oc.env"),
        (r"\\${oc.env:NEGRL_SECRET}", "oc.env"),
        ("${mine:1}", "mine"),
        ("${nobody:1}", "nobody"),
    ],
)
def test_resolvers_are_off(tmp_path: Path, value: str, resolver: str) -> None:
    OmegaConf.register_resolver("mine", lambda x: "hunter2", replace=True)
    try:
        expected = f": resolvers (here '{resolver}') are off"
        assert f"policy.system_prompt{expected}" in message(
            tmp_path, GOOD.replace("{model: org/name}", f"{{model: org/name, system_prompt: '{value}'}}")
        )
        assert f"policy.system_prompt{expected}" in message(tmp_path, GOOD, f"policy.system_prompt='{value}'")
        assert f"plugins[1]{expected}" in message(tmp_path, GOOD + f"plugins: [a, '{value}']\n")
        assert f"sample{expected}" in message(tmp_path, GOOD + f"sample: '{value}'\n", "sample.n=2")
    finally:
        OmegaConf.clear_resolver("mine")


def test_a_resolver_hidden_in_an_escape_of_an_override(tmp_path: Path) -> None:
    override = 'policy.system_prompt="\\x24{oc.env:NEGRL_SECRET}"'
    assert "resolvers (here 'oc.env') are off" in message(tmp_path, GOOD, override)


def test_resolvers_are_off_in_bench_files(tmp_path: Path) -> None:
    below, path = tmp_path / "below.yaml", tmp_path / "b.yaml"
    below.write_text("recipe: {name: '${oc.env:NEGRL_SECRET}'}\nbench: {seeds: [0]}\n")
    path.write_text("extends: below.yaml\nrecipe: {name: t}\n")
    with pytest.raises(InputError, match=r"below.yaml: recipe.name: resolvers \(here 'oc.env'\) are off"):
        load_bench(path)


def test_keys_still_stand_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "seed: 7\nsample: {n: '${seed}'}\n")
    recipe = load_recipe(path, ["policy.system_prompt='${name}-${sample.n}'", "evaluate.n=${sample.n}"])
    assert (recipe.sample.n, recipe.policy.system_prompt) == (7, "t-7")
    assert recipe.evaluate is not None and recipe.evaluate.n == 7
    # Escaped, it is text.
    path.write_text(GOOD.replace("{model: org/name}", "{model: org/name, system_prompt: '\\${oc.env:NEGRL_SECRET}'}"))
    assert load_recipe(path).policy.system_prompt == "${oc.env:NEGRL_SECRET}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (name, "name: ")
        for name in (
            '""', '" "', '"."', '".."', '" .. "', '"../x"', '"a/../../x"', '"/etc/x"', '"a/b"', '"a/"', '"a\\\\b"',
            '"..\\\\x"', '"a\\0b"', '"a\\nb"', '"\\e[31mred"', '"a\\u202Eb"', '"a\\u200Bb"', '"a\\x7Fb"', '"a\\u0085b"',
            "x" * 129, "é" * 65,
        )
    ],
)  # fmt: skip
def test_a_name_stays_in_runs(tmp_path: Path, name: str, words: str) -> None:
    assert words in message(tmp_path, GOOD.replace("name: t", f"name: {name}"))


@pytest.mark.parametrize("name", ["t", "a.b", "..a", "gsm8k 7B, lr=1e-6", "é" * 64, "x" * 128, "日本"])
def test_plain_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace("name: t", f'name: "{name}"'))
    assert load_recipe(path).output_dir == f"runs/{name}"


@pytest.mark.parametrize("key", ["output_dir", "store", "policy.model", "policy.system_prompt", "plugins"])
def test_no_nul_anywhere(tmp_path: Path, key: str) -> None:
    value = '["a\\0b"]' if key == "plugins" else '"a\\0b"'
    assert f"{key}{'[0]' if key == 'plugins' else ''}: has a NUL character" in message(tmp_path, GOOD, f"{key}={value}")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (None, "", None),
        ("recipe.yaml", "name: t\nseed: 5\n", None),
        ("recipe.yaml", "name: other\n", "holds the run of another recipe, 'other'"),
        ("recipe.yaml", 'name: "\\e[31m"\n', r"holds the run of another recipe, '\\x1b\[31m'"),
        ("recipe.yaml", "seed: 5\n", "holds the run of another recipe, 'None'"),
        ("recipe.yaml", "[broken", None),
        ("bench.yaml", "recipe: {}\n", "holds a bench"),
    ],
)
def test_a_folder_belongs_to_one_recipe(tmp_path: Path, file: str | None, content: str, words: str | None) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path, [f"output_dir={tmp_path / 'out'}"])
    (tmp_path / "out").mkdir()
    if file is not None:
        (tmp_path / "out" / file).write_text(content)
    if words is None:
        _check_folder(recipe, force=False)
    else:
        with pytest.raises(InputError, match=words):
            _check_folder(recipe, force=False)
    _check_folder(recipe, force=True)
