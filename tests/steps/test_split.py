from __future__ import annotations

import random
from itertools import pairwise

import pytest

from negrl.recipe import LabelSection
from negrl.steps.split import Span, split_steps, token_texts


def check_tiling(spans: list[Span], token_ids: list[int], tokenizer, max_steps: int) -> None:
    assert spans[0].start == 0
    assert spans[-1].end == len(token_ids)
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert all(s.start < s.end for s in spans)
    assert len(spans) <= max_steps
    assert "".join(s.text for s in spans) == tokenizer.decode(token_ids, skip_special_tokens=True)


def texts_of(text: str, tokenizer, **options) -> list[str]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [s.text for s in split_steps(ids, tokenizer, LabelSection(**options))]


@pytest.mark.parametrize("name", ["bpe", "spm"])
@pytest.mark.parametrize("corpus", ["gsm8k_texts", "processbench_texts"])
def test_real_text_is_tiled_and_rebuilt(name: str, corpus: str, request) -> None:
    tokenizer, texts = request.getfixturevalue(name), request.getfixturevalue(corpus)
    many = LabelSection(split="newline", max_steps=10_000)
    for text in texts[::2]:
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        spans = split_steps(ids, tokenizer, many)
        check_tiling(spans, ids, tokenizer, 10_000)
        assert "".join(s.text for s in spans) == text
        # Every boundary of these texts lies between tokens, so the steps are the text's own lines.
        assert [s.text.strip() for s in spans] == [line.strip() for line in text.split("\n") if line.strip()]
        check_tiling(split_steps(ids, tokenizer, LabelSection(split="blank_line", max_steps=3)), ids, tokenizer, 3)


def test_chat_template_ends_belong_to_the_last_step(bpe) -> None:
    end, start = bpe.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    ids = [*bpe.encode("One.\nTwo.\n", add_special_tokens=False), end, *bpe.encode("\n"), end, start]
    spans = split_steps(ids, bpe, LabelSection())
    check_tiling(spans, ids, bpe, 32)
    assert [s.text for s in spans] == ["One.\n", "Two.\n\n"]
    only = split_steps([end], bpe, LabelSection())
    assert only == [Span(0, 1, "")]
    assert split_steps([], bpe, LabelSection()) == []


def test_a_character_in_several_tokens_stays_whole(bpe, spm) -> None:
    text = "日本 = 5 €\n🧮 = 7 ₿;\nназад"
    for tokenizer in (bpe, spm):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert any("\ufffd" in tokenizer.decode([t]) for t in ids)
        spans = split_steps(ids, tokenizer, LabelSection())
        check_tiling(spans, ids, tokenizer, 32)
        assert [s.text for s in spans] == ["日本 = 5 €\n", "🧮 = 7 ₿;\n", "назад"]
        # Each step alone is whole characters: no token that begins one is left on the other side.
        for span in spans:
            assert tokenizer.decode(ids[span.start : span.end]).strip() == span.text.strip()


def test_pieces_name_the_token_that_completes_a_character(bpe) -> None:
    ids = bpe.encode("a日b", add_special_tokens=False)
    assert len(ids) == 5
    assert token_texts(ids, bpe) == ["a", "", "", "日", "b"]


def test_rules(chars) -> None:
    assert texts_of("12\n\n \n34\n5", chars) == ["12\n\n \n", "34\n", "5"]
    assert texts_of("12\n34\n\n5\n \n6", chars, split="blank_line") == ["12\n34\n\n", "5\n \n", "6"]
    assert texts_of("9*0=0;0+4=4;!4", chars, split="chain") == ["9*0=0;", "0+4=4;", "!4"]
    assert texts_of("9*0=0;", chars, split="chain") == ["9*0=0;"]
    assert texts_of("1 a2 a3", chars, split="pattern", pattern="a") == ["1 ", "a2 ", "a3"]
    assert texts_of("a1a2", chars, split="pattern", pattern=r"a\d") == ["a1", "a2"]
    assert texts_of("12", chars, split="pattern") == ["12"]


def test_a_token_across_a_boundary_goes_to_the_side_that_holds_more_of_it(bpe) -> None:
    ids = bpe.encode("He has 5 of the apples", add_special_tokens=False)
    at = next(i for i, t in enumerate(ids) if bpe.decode([t]) == " the")
    later = split_steps(ids, bpe, LabelSection(split="pattern", pattern="the"))  # 3 of its 4 characters
    assert [s.start for s in later] == [0, at]
    assert later[1].text == " the apples"
    earlier = split_steps(ids, bpe, LabelSection(split="pattern", pattern="e apples"))  # 1 of 4
    assert [s.text for s in earlier] == ["He has 5 of the", " apples"]
    half = split_steps(ids, bpe, LabelSection(split="pattern", pattern="he apples"))  # 2 of 4
    assert [s.text for s in half] == ["He has 5 of the", " apples"]


def test_crumbs_merge_into_the_next_the_last_into_the_one_before(chars) -> None:
    assert texts_of("1\n23\n4\n5\n67\n8", chars, min_chars=2) == ["1\n23\n", "4\n5\n", "67\n8"]
    assert texts_of("\n\n12\n34\n", chars) == ["\n\n12\n", "34\n"]
    assert texts_of("1\n2\n", chars, min_chars=9) == ["1\n2\n"]


def test_cap_groups_neighbours_of_about_equal_length(chars) -> None:
    assert texts_of("1\n2\n3\n4\n5\n6\n", chars, max_steps=3) == ["1\n2\n", "3\n4\n", "5\n6\n"]
    assert texts_of("1\n2\n" + "9" * 20 + "\n3\n", chars, max_steps=2) == ["1\n2\n", "9" * 20 + "\n3\n"]
    assert texts_of("1\n2\n3", chars, max_steps=1) == ["1\n2\n3"]


@pytest.mark.parametrize("split", ["newline", "blank_line", "sentence", "pattern", "chain"])
def test_any_tokens_tile(split: str, bpe) -> None:
    """Random token ids: broken UTF-8, special tokens in the middle, nothing but newlines."""
    rng = random.Random(split)
    favourites = bpe.encode("\n\n; Step 1: **é日. $1.5 \\[ Mr. A. ", add_special_tokens=False)
    for _ in range(300):
        size = rng.randrange(1, 60)
        ids = [rng.choice(favourites) if rng.random() < 0.5 else rng.randrange(len(bpe)) for _ in range(size)]
        section = LabelSection(split=split, min_chars=rng.randrange(1, 6), max_steps=rng.randrange(1, 8))
        spans = split_steps(ids, bpe, section)
        assert [i for s in spans for i in ids[s.start : s.end]] == ids
        assert all(s.start < s.end for s in spans)
        assert len(spans) <= section.max_steps
        assert all(len(s.text.strip()) >= section.min_chars for s in spans) or len(spans) == 1
        if "\ufffd" not in bpe.decode(ids, skip_special_tokens=True):
            check_tiling(spans, ids, bpe, section.max_steps)


def test_broken_bytes_without_end_do_not_blow_up(bpe) -> None:
    lone = bpe.encode("日", add_special_tokens=False)[1]
    ids = [lone] * 2000
    spans = split_steps(ids, bpe, LabelSection())
    assert [(s.start, s.end) for s in spans] == [(0, 2000)]
    assert spans[0].text == "\ufffd" * 2000
