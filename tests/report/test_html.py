"""The page: model text is hostile and must stay text; nothing is loaded; the data reads back."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from negrl.evaluate.metrics import EvalSummary
from negrl.records import Step
from negrl.report import ArmReport, RunReport, TraceView, write_report

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]></ScRiPt ><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "{{7*7}} {% for x in range(9) %}x{% endfor %}",
    "nul \x00 bidi \u202e\u2066 separators \u2028\u2029 lone \ud800 emoji \U0001f44d",
    "&lt;b&gt; &amp;",
]


class Page(HTMLParser):
    """Collects the tags with their attributes, and the text of each element."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[tuple[str, int]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self._open.append((tag, len(self.texts)))
            self.texts.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> out of place"

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, at = self._open[-1]
            self.texts[at] = (tag, self.texts[at][1] + data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def step(i: int, text: str) -> Step:
    return Step(text, i, i, i + 1, text, 8, 2, 0.25, 0.07, 0.59, -0.63, -0.9, -0.2, "pit", text)


def hostile_report(evil: str) -> RunReport:
    scored = EvalSummary(0.5, (0.4, 0.6), 10, 40, 0.0, 0.0, 0.0, 0.1, (0.0, 0.2), 0.95)
    return RunReport(
        name=evil,
        recipe_yaml=f"name: {evil}\n",
        created=evil,
        hardware=evil,
        versions={evil: evil},
        arms=[ArmReport(evil, evil, scored, log_history=[{"step": 1, "loss": 1.0}]), ArmReport("b", "sft", scored)],
        reference=[ArmReport("start " + evil, "sft", scored)],
        label={evil: evil},
        checks=[evil],
        traces=[TraceView(evil, evil, evil, evil, evil, evil, evil, evil, [step(0, evil), step(1, evil)], evil)],
    )


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a report with "x" wherever the hostile ones have their text."""
    paths = write_report(hostile_report("x"), tmp_path_factory.mktemp("harmless"))
    return Page(paths.index_html.read_text(encoding="utf-8"))


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_stays_text(tmp_path: Path, harmless: Page, evil: str) -> None:
    html = write_report(hostile_report(evil), tmp_path).index_html.read_text(encoding="utf-8")
    page = Page(html)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [set(a) for _, a in page.tags] == [set(a) for _, a in harmless.tags]
    assert len(page.all("script")) == 2
    assert all((a["src"] or "").startswith("data:image/png;base64,") for a in page.all("img"))
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert "49 " not in "".join(page.text("h1")), "a template in the data was run"

    # A browser ends a script at "</script " already, so not even "<" may be there.
    assert not re.search("[<>&\u0080-\U0010ffff]", page.text("script")[0])
    (trace,) = json.loads(page.text("script")[0])
    assert trace["prompt"] == trace["gold"] == trace["answer"] == trace["policy"] == trace["text"] == evil
    assert [s["text"] for s in trace["steps"]] == [evil, evil]


def test_characters_that_deceive_are_written_out(tmp_path: Path) -> None:
    """Nowhere in the page is there a control or a bidi character."""
    html = write_report(hostile_report(HOSTILE[7]), tmp_path).index_html.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069\u2028\u2029]", html)
    page = Page(html)
    assert "<U+202E>" in page.text("h1")[0]


def test_the_script_never_parses_text_as_markup() -> None:
    source = (Path(__file__).parents[2] / "negrl/report/templates/report.js").read_text()
    forbidden = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        'setAttribute("on',
    )
    assert not [word for word in forbidden if word in source]


def test_nothing_is_loaded_and_only_the_known_script_runs(tmp_path: Path) -> None:
    html = write_report(hostile_report("x"), tmp_path).index_html.read_text(encoding="utf-8")
    page = Page(html)
    policy = next(a["content"] or "" for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    directives = dict(d.strip().split(" ", 1) for d in policy.split(";"))
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(page.text("style")[0]),
        "script-src": digest(page.text("script")[1]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.all("script") == [{"type": "application/json", "id": "trace-data"}, {}]
    assert not page.all("link") and not page.all("iframe")
    assert not [a for _, a in page.tags if "style" in a], "inline styles would be blocked by the policy"
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    assert "http://" not in html and "https://" not in html and "url(" not in html


def test_every_element_the_script_asks_for_is_there(tmp_path: Path) -> None:
    html = write_report(hostile_report("x"), tmp_path).index_html.read_text(encoding="utf-8")
    page = Page(html)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    asked = set(re.findall(r'(?:at|getElementById)\("([a-z-]+)"\)', page.text("script")[1]))
    assert len(asked) >= 10 and asked <= set(ids)
    assert len(ids) == len(set(ids))


def test_no_traces(tmp_path: Path) -> None:
    page = Page(write_report(RunReport("none"), tmp_path).index_html.read_text(encoding="utf-8"))
    assert json.loads(page.text("script")[0]) == []
    assert not page.all("form") and "This run kept no traces to show." in page.text("p")


def test_unlabelled_steps_have_null_values(tmp_path: Path) -> None:
    nan = float("nan")
    steps = [Step("t", 0, 0, 3, "A: 18\n", 0, 0, nan, nan, nan, nan, nan, nan, "unlabelled", "none")]
    trace = TraceView("p", "q", "18", "t", "undecided", "truncated", None, "imported", steps)
    page = Page(write_report(RunReport("r", traces=[trace]), tmp_path).index_html.read_text(encoding="utf-8"))
    (read,) = json.loads(page.text("script")[0])
    assert (read["v0"], read["pit"], read["spurious"]) == (None, False, False)
    assert read["steps"] == [
        {"text": "A: 18\n", "label": "unlabelled", "v": None, "low": None, "high": None, "a": None,
         "gain": "", "hover": "not labelled"}
    ]  # fmt: skip


def test_value_before_the_first_step(tmp_path: Path) -> None:
    trace = TraceView("p", "q", "1", "t", "incorrect", None, "2", "x", [step(0, "a;"), step(1, "b;")])
    page = Page(write_report(RunReport("r", traces=[trace]), tmp_path).index_html.read_text(encoding="utf-8"))
    (read,) = json.loads(page.text("script")[0])
    assert read["v0"] == pytest.approx(0.88) and read["pit"] is True and read["spurious"] is False
    assert read["steps"][0]["hover"].startswith("V 0.25 (2/8) [0.07, 0.59] · A -0.63 [-0.90, -0.20] ")
