"""The plan of batches, and row access."""

import datasets
import numpy as np
import pytest

from negrl.errors import InputError
from negrl.records import AdvantageRow, PreferenceRow, SftRow, to_arrow
from negrl.trainers.advantage import AdvantageCollator
from negrl.trainers.batches import GlobalBatches, Rows
from negrl.trainers.preference import PairCollator
from negrl.trainers.rows import check_rows, table_hash, training_columns, write_table
from tests.trainers.helpers import advantage_rows, pair_rows, sft_rows


def plan(count=37, rows=8, accumulation=1, processes=1, rank=0, **options):
    lengths = np.random.default_rng(0).integers(3, 30, count)
    return GlobalBatches(lengths, rows, accumulation, seed=3, rank=rank, processes=processes, **options)


def steps_of(layout):
    """Real rows per optimizer step, gathered over the processes of a layout."""
    rows, accumulation, processes = layout
    out = []
    for rank in range(processes):
        batches = list(plan(rows=rows, accumulation=accumulation, processes=processes, rank=rank))
        for step in range(len(batches) // accumulation):
            part = [i for b in batches[step * accumulation : (step + 1) * accumulation] for i in b if i >= 0]
            if rank == 0:
                out.append(part)
            else:
                out[step] += part
    return [sorted(step) for step in out]


@pytest.mark.parametrize("layout", [(4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 2, 4), (1, 8, 1)])
def test_every_layout_has_the_same_global_batches(layout):
    assert steps_of(layout) == steps_of((8, 1, 1))


@pytest.mark.parametrize("order", ["random", "sequential", "group_by_length"])
def test_an_epoch_is_every_row_once_and_epochs_differ(order):
    batches = plan(order=order)
    first, second = batches.global_batches(0), batches.global_batches(1)
    assert all(sorted(i for batch in epoch for i in batch) == list(range(37)) for epoch in (first, second))
    assert first == plan(order=order).global_batches(0)
    assert (first == second) == (order == "sequential")
    assert len(first) == 5 and len(first[-1]) == 5


def test_group_by_length_pads_less():
    def padding(order):
        batches = plan(count=400, order=order)
        cells = [batches.lengths[b] for b in batches.global_batches(0)]
        return sum(int(c.max()) * len(c) - int(c.sum()) for c in cells)

    assert padding("group_by_length") < padding("random") / 3


def test_a_share_without_rows_gets_a_filler():
    shares = [list(plan(count=9, rows=4, processes=2, rank=rank))[-1] for rank in range(2)]
    real = [i for share in shares for i in share if i >= 0]
    assert len(real) == 1 and sorted(map(len, shares)) == [1, 1]
    assert plan(count=9, drop_last=True).steps_per_epoch == 1


def test_tokens_counts_whole_and_partial_epochs():
    batches = plan()
    assert batches.tokens(10) == 2 * int(batches.lengths.sum())
    assert batches.tokens(2) == sum(int(batches.lengths[b].sum()) for b in batches.global_batches(0)[:2])


def test_rows_come_back_from_the_file_as_they_were(tmp_path):
    rows = advantage_rows(2500)  # several record batches
    write_table(training_columns(to_arrow(AdvantageRow, rows), AdvantageRow), tmp_path / "rows.arrow")
    read = Rows(datasets.Dataset.from_file(str(tmp_path / "rows.arrow")), ["input_ids", "advantages", "correct"])
    assert len(read) == 2500
    for i in (0, 999, 1000, 2499):
        assert read[i]["input_ids"].tolist() == rows[i].input_ids
        np.testing.assert_allclose(read[i]["advantages"], rows[i].advantages, rtol=1e-6)
        assert read[i]["correct"] == rows[i].correct
        assert "filler" not in read[i] and read[~i]["filler"] and read[~i]["input_ids"].tolist() == rows[i].input_ids


def test_the_hash_follows_the_content():
    def hashed(seed):
        return table_hash(training_columns(to_arrow(SftRow, sft_rows(5, seed=seed)), SftRow))

    assert hashed(0) == hashed(0) != hashed(1)


def as_columns(rows):
    return [{k: np.array(getattr(r, k)) for k in r.__slots__ if not isinstance(getattr(r, k), str)} for r in rows]


def test_advantage_collator_pads_every_column_and_silences_fillers():
    rows = advantage_rows(3)
    columns = as_columns(rows)
    columns[2]["filler"] = True
    batch = AdvantageCollator(pad_id=0)(columns)
    width = max(len(r.input_ids) for r in rows)
    assert all(v.shape == (3, width) for k, v in batch.items() if k not in ("correct", "age"))
    n = len(rows[0].input_ids)
    for name, fill in (("input_ids", 0), ("labels", -100), ("step_ids", -1), ("advantages", 0), ("logprobs", 0)):
        assert batch[name][0, :n].tolist() == pytest.approx(getattr(rows[0], name))
        assert (batch[name][0, n:] == fill).all()
    assert batch["attention_mask"].sum(1).tolist() == [len(r.input_ids) for r in rows]
    assert (batch["labels"][2] == -100).all()
    assert AdvantageCollator(pad_id=0, multiple=8)(columns)["input_ids"].shape[1] % 8 == 0


def test_pair_collator_equals_trls_own():
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    rows = pair_rows(4)
    ours = PairCollator(pad_id=0)(as_columns(rows))
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    theirs = DataCollatorForPreference(pad_token_id=0)([{n: getattr(r, n) for n in names} for r in rows])
    assert ours.pop("pairs") == 4
    assert ours.keys() == theirs.keys()
    assert all((ours[k] == theirs[k]).all() for k in ours)


def refusal(rows, row_type, **limits):
    with pytest.raises(InputError) as caught:
        check_rows(to_arrow(row_type, rows), row_type, **{"vocabulary": 24, "context": 64, **limits})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_that_would_train_wrong_are_refused():
    good = sft_rows(3)
    check_rows(to_arrow(SftRow, good), SftRow, vocabulary=24, context=64)
    assert "context of 10" in (text := refusal(good, SftRow, context=10)) and "3 of 3" in text
    assert "train.max_length of 5" in refusal(good, SftRow, max_length=5)
    assert "vocabulary of 8" in refusal(good, SftRow, vocabulary=8)
    silent = [*good, SftRow("p", "quiet", [2, 3], [-100, -100])]
    assert "1 of 4 rows" in (text := refusal(silent, SftRow)) and "quiet" in text
    assert "empty side" in refusal([PreferenceRow("p", "c", "r", [2], [3], [])], PreferenceRow)
    bad = advantage_rows(2)
    bad[1].advantages[-1] = float("nan")
    assert "have non-finite advantages" in refusal(bad, AdvantageRow)
    bad = advantage_rows(2)
    bad[0].logprobs.pop()
    assert "logprobs of another length" in refusal(bad, AdvantageRow)
    imported = advantage_rows(2, logprob=None)
    check_rows(to_arrow(AdvantageRow, imported), AdvantageRow, vocabulary=24, context=64)
