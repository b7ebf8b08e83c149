"""Every splitter on real text, with a byte-level BPE and a chat template: the steps tile the token ids."""

from __future__ import annotations

import gzip
import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from negrl.recipe import LabelSection
from negrl.steps.split import Span, _boundaries, split_steps
from negrl.steps.splitters.pattern import PatternOptions
from negrl.steps.splitters.sentence import sentence_ends

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SPLITS = ("newline", "blank_line", "sentence", "pattern", "chain")
DEFAULT_PATTERN = PatternOptions().pattern
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def texts_of(corpus: str) -> list[str]:
    names = {"gold": "gsm8k_train", "gsm8k": "processbench_gsm8k", "math": "processbench_math"}
    name = names.get(corpus, "gsm8k_example_model_solutions")
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{name} is not in shared/data")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    if corpus == "gold":
        return [row["answer"] for row in rows[::15]]
    if corpus == "solutions":
        return [row[writer]["solution"] for row in rows[::4] for writer in ("6b_verification", "175b_finetuning")]
    return ["\n\n".join(row["steps"]) for row in rows]


@pytest.mark.parametrize("corpus", ["gold", "solutions", "gsm8k", "math"])
def test_every_splitter_tiles_a_chat_response(corpus: str, bpe) -> None:
    end = bpe.convert_tokens_to_ids("<|im_end|>")
    texts = texts_of(corpus)
    assert len(texts) >= 200
    most = dict.fromkeys(SPLITS, 0)
    for number, text in enumerate(texts):
        asked = [{"role": "user", "content": "How many?"}]
        prompt = bpe.apply_chat_template(asked, chat_template=CHAT, add_generation_prompt=True, return_dict=False)
        answered = [*asked, {"role": "assistant", "content": text}]
        whole = bpe.apply_chat_template(answered, chat_template=CHAT, return_dict=False)
        assert whole[: len(prompt)] == prompt
        response = whole[len(prompt) : len(whole) - whole[::-1].index(end)]  # as sampled: up to the end token
        assert response[-1] == end and end not in response[:-1]
        for split in SPLITS:
            section = LabelSection(split=split, min_chars=1 + number % 3 * 10, max_steps=1000 if number % 2 else 5)
            spans = split_steps(response, bpe, section)
            check(spans, response, text, bpe, section)
            most[split] = max(most[split], len(spans))
    assert min(most["newline"], most["sentence"]) > 3, most


def check(spans: list[Span], ids: list[int], text: str, tokenizer, section: LabelSection) -> None:
    assert (spans[0].start, spans[-1].end) == (0, len(ids))
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert all(s.start < s.end for s in spans)
    assert len(spans) <= section.max_steps
    assert len(spans) == 1 or all(len(s.text.strip()) >= section.min_chars for s in spans)
    assert "".join(s.text for s in spans) == text
    # The tokens of a step alone say what the step says: no character is cut in two.
    assert all(tokenizer.decode(ids[s.start : s.end], skip_special_tokens=True) == s.text for s in spans)


def cut(text: str, **options) -> list[str]:
    """The text cut by characters: what the tokens follow."""
    ends = [0, *_boundaries(text, LabelSection(**options)), len(text)]
    return [text[a:b].strip() for a, b in pairwise(ends)]


@pytest.mark.parametrize(
    "text",
    [
        "He has 3.5 apples.| She pays $1.50.| Done!| Is it?| Yes",
        "Mr. Lee and Dr. J. Smith met Prof. Wu vs. Mrs. Ho.| They left.",
        "It is e.g. this, i.e. that, approx. 3.| No. 5 won.| No.| That is wrong.",
        "1. First do this.| Then that.\n|2. Second!\n|3) Third.\n|a. Fourth",
        "- **1.** One.| Two.",
        "Wait... what?!| He said \"no.\"| Then left (twice.)| Good… so.",
        "Let $x = 3. y$ be.| Then \\[ a = 3. b. \n c \\] holds.| End",
        "Then \\( x = 3. 5 \\).| Next.",
        "Then $$ x = 3. \n 5 $$ holds.| Next.",
        "He has $5.| She has $7.| All is $3.50.| Ok.",
        "He has \\$5.| She has \\$7.| Ok.",
        "John F. Kennedy was here.| So was B. A. Smith.",
        "At 5 a.m. he woke.| At 6 p.m.| He slept, etc. and so on.| The U.S. economy.",
        "Then \\[ is never closed.| Still a sentence.| And $x another.| So.",
        "x = 3.| y = 4.| It is \\boxed{5}.| **Bold.**| End.",
        "One.\n \n|Two. \n|Three",
        "",
        ".",
        "No end",
    ],
)  # fmt: skip
def test_sentences(text: str) -> None:
    expected = [part.strip() for part in text.split("|")]
    assert cut(text.replace("|", ""), split="sentence") == expected


def test_steps_by_name() -> None:
    for step in ("Step 2:", "**Step 2:**", "## Step 2:", "### **Step 2:** Add", "- Step 2: Add", "> Step 2:"):
        text = f"First of all.\nStep 1: 2 + 2 = 4.\n{step} more"
        assert cut(text, split="pattern") == ["First of all.", "Step 1: 2 + 2 = 4.", f"{step} more"]
    assert cut("It is 2. **Step 2:** so", split="pattern") == ["It is 2.", "**Step 2:** so"]
    assert cut("**a** 5 *b", split="pattern", pattern="[ab]") == ["", "**a** 5", "*b"][1:]
    assert cut("**Step 1: x", split="pattern") == ["**Step 1: x"]
    # one per line, whatever stands after the number; and in a line where a colon follows
    pattern = r"(?m)Step \d+[*_]*:|^[#>*_ \t-]*Step \d+\b"
    text = "Plan\n### Step 1. Add\nas Step 1 says\n**Step 2**: Do\n#### Step 3\nSee (Step 2) and Step 4: so"
    assert cut(text, split="pattern", pattern=pattern) == [
        "Plan", "### Step 1. Add\nas Step 1 says", "**Step 2**: Do", "#### Step 3\nSee (Step 2) and", "Step 4: so",
    ]  # fmt: skip


def test_text_before_the_first_step(bpe) -> None:
    def steps(min_chars: int) -> list[str]:
        ids = bpe.encode("Sure!\n\nStep 1: add.\nStep 2: done.", add_special_tokens=False)
        return [s.text for s in split_steps(ids, bpe, LabelSection(split="pattern", min_chars=min_chars))]

    assert steps(1) == ["Sure!\n\n", "Step 1: add.\n", "Step 2: done."]
    assert steps(10) == ["Sure!\n\nStep 1: add.\n", "Step 2: done."]


@pytest.mark.parametrize(
    "unit",
    ["Step 1", "Step 1:", "Step ", "1", "#", "**", "\n", " ", "\n ", ".", ". ", ".)", ".x", "A. ", "a.b.", "$", "$a",
     "$a$", "$$", "\\[", "\\[. ", "\\(", "\\", "\\$", '."', "1. ", "\n1. ", "...", "\u2026 ", "?! ", "Mr. ", "a. B",
     ";", "\0", "\u202e"],
)  # fmt: skip
def test_own_patterns_are_linear(unit: str) -> None:
    """Quadratic time would be hours for a million characters."""
    size = 1_000_000 if unit in (".", "$", "**", "\n ", "Step 1") else 50_000
    text = (unit * size)[:size] + "x"
    begun = time.perf_counter()
    for split in SPLITS:
        _boundaries(text, LabelSection(split=split))
    assert time.perf_counter() - begun < 60


def test_sentence_ends_rise() -> None:
    for text in texts_of("math")[:100]:
        ends = sentence_ends(text)
        assert all(a < b for a, b in pairwise(ends))
