"""The command line as a person meets it: mistakes are one line and exit code 2, before torch loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
name: t
output_dir: {out}
policy: {{{policy}}}
problems: {{{problems}}}
evaluate: {evaluate}
"""


def negrl(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The real command; torch is made unimportable, so nothing heavy can have been loaded."""
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'vllm', 'ray'): raise RuntimeError(name + ' was imported')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        f"sys.argv = ['negrl', *{list(args)!r}]\n"
        "from negrl.cli import main; main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


def recipe(folder: Path, policy: str = "model: ./m", problems: str = "source: chain", evaluate: str = "null") -> str:
    path = folder / "r.yaml"
    path.write_text(RECIPE.format(out=folder / "out", policy=policy, problems=problems, evaluate=evaluate))
    return str(path)


def problems_file(folder: Path, *rows: object) -> str:
    path = folder / "p.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return f"source: jsonl, path: {path}"


BUILD = "build: {corpus: solutions, tokenizer: bpe}"


def test_help_and_version() -> None:
    assert "run" in negrl("--help").stdout
    assert negrl("--version").stdout.strip() == "0.1.0"


def test_unknown_command_and_missing_recipe(tmp_path: Path) -> None:
    assert negrl("rnu").returncode == 2
    assert "no such recipe" in refused(negrl("run", str(tmp_path / "none.yaml")))


def test_unknown_key(tmp_path: Path) -> None:
    line = refused(negrl("run", recipe(tmp_path), "sampel.n=3"))
    assert "unknown key 'sampel' (did you mean 'sample'?)" in line and "r.yaml" in line


def test_a_model_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert f"no folder '{tmp_path}/modle' (did you mean 'model'?)" in refused(
        negrl("run", recipe(tmp_path, policy=f"model: {tmp_path}/modle"))
    )
    line = refused(negrl("run", recipe(tmp_path, policy=f"model: {tmp_path}/model")))
    assert "no config.json" in line
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").write_text("")
    line = refused(negrl("run", recipe(tmp_path, policy=f"model: {tmp_path}/model")))
    assert "no *.safetensors" in line and "pytorch_model.bin" in line


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "p.jsonl"),
        ([{"prompt": "1+1?", "gold": "2"}, {"prompt": "1+2?"}], "p.jsonl:2"),
        ([{"prompt": "1+1?", "gold": "2"}, {"prompt": "1+2?", "gold": ""}], "p.jsonl:2"),
        ([{"prompt": "1+1?", "gold": "2"}, {"prompt": "1+1?", "gold": "2"}], "the same prompt on lines 1 and 2"),
        (["{not json"], "p.jsonl:1"),
        ([{"question": "1+1?", "gold": "2"}], "prompt"),
    ],
    ids=["empty", "no gold", "empty gold", "duplicate", "no json", "wrong column"],
)
def test_bad_problem_files(tmp_path: Path, rows: list[object], expected: str) -> None:
    line = refused(negrl("run", recipe(tmp_path, policy=BUILD, problems=problems_file(tmp_path, *rows))))
    assert expected in line


def test_a_missing_problem_file(tmp_path: Path) -> None:
    line = refused(negrl("run", recipe(tmp_path, policy=BUILD, problems=f"source: jsonl, path: {tmp_path}/x.jsonl")))
    assert "x.jsonl" in line


def test_what_later_stages_need_is_asked_for_first(tmp_path: Path) -> None:
    plain = problems_file(tmp_path, {"prompt": "1+1?", "gold": "2"})
    line = refused(negrl("run", recipe(tmp_path, policy=BUILD, problems=plain)))
    assert "policy.build.corpus: solutions needs reference solutions" in line
    solved = problems_file(tmp_path, {"prompt": "1+1?", "gold": "2", "how": "1+1=2"}) + ", solution: how"
    line = refused(negrl("run", recipe(tmp_path, policy=BUILD, problems=solved, evaluate="{n: 1}")))
    assert "evaluate: there are no held-out problems" in line
    world = "build: {corpus: world}"
    assert "needs problems that are a world" in refused(negrl("run", recipe(tmp_path, policy=world, problems=solved)))


def test_verify(tmp_path: Path) -> None:
    rows = [
        {"q": 1, "answer": "#### 1,000", "out": "so the answer is \\boxed{1000}"},
        {"q": 2, "answer": "#### 7", "out": "\\boxed{8}"},
        {"q": 3, "answer": "#### 7", "out": "no idea"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in rows) + "broken\n")
    out = tmp_path / "out.jsonl"
    done = negrl("verify", str(source), "--gold", "answer", "--response", "out", "--out", str(out))
    assert done.returncode == 0, done.stderr
    judged = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["verdict"] for r in judged] == ["correct", "incorrect", "undecided", "undecided"]
    assert [r.get("q") for r in judged] == [1, 2, 3, None]
    assert "in.jsonl:4" in done.stderr
    line = refused(negrl("verify", str(source), "--gold", "anser", "--response", "out", "--out", str(out)))
    assert "did you mean 'answer'" in line
