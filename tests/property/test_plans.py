"""Over all ways in which a data set is reordered and extended: what was paid for is found again."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.batch.checkpoint import decode_indexes, encode_indexes
from tests.batches import plan_of

# So few that many rows are the same.
rows = st.lists(
    st.fixed_dictionaries(
        {"prompt": st.sampled_from(["a", "b", "c"])},
        optional={"resolution": st.sampled_from(["1k", "2k"]), "sku": st.integers(0, 3)},
    ),
    min_size=1,
    max_size=8,
)


def names(plan):
    return [item.name for item in plan.items]


def requests_by_name(plan):
    return {item.name: plan.request(item) for item in plan.items}


@given(rows, st.data())
def test_rows_in_another_order_find_every_image(given_rows, data):
    reordered = data.draw(st.permutations(given_rows))

    before, after = requests_by_name(plan_of(given_rows)), requests_by_name(plan_of(reordered))

    assert before == after


@given(rows, rows, st.data())
def test_rows_that_are_added_anywhere_leave_the_others_their_images(given_rows, more, data):
    extended = data.draw(st.permutations([*given_rows, *more]))

    before, after = requests_by_name(plan_of(given_rows)), requests_by_name(plan_of(extended))

    assert before.items() <= after.items()
    assert len(after) == len(given_rows) + len(more)


@given(rows, st.integers(1, 4), st.integers(1, 4))
def test_more_variants_leave_the_first_ones_their_images(given_rows, fewer, more):
    before = plan_of(given_rows, variants=fewer)
    after = plan_of(given_rows, variants=fewer + more)

    assert set(names(before)) < set(names(after))
    assert {item.name: item.slot.variant for item in before.items}.items() <= {
        item.name: item.slot.variant for item in after.items
    }.items()


@given(rows, st.integers(1, 3))
def test_no_two_images_of_a_plan_have_the_same_name(given_rows, variants):
    plan = plan_of(given_rows, variants=variants)

    assert len(set(names(plan))) == len(given_rows) * variants
    assert [item.index for item in plan.items] == list(range(len(plan.items)))


@given(rows)
def test_rows_that_repeat_are_counted_from_one_on_without_a_gap(given_rows):
    copies = Counter()
    for item in plan_of(given_rows).items:
        copies[item.fingerprint] += 1

        assert item.slot.copy == copies[item.fingerprint]


@given(st.sets(st.integers(0, 200) | st.integers(0, 100_000)))
def test_a_set_of_indexes_comes_back_out_of_its_bits(given_indexes):
    assert decode_indexes(encode_indexes(given_indexes)) == given_indexes


@given(st.sets(st.integers(0, 9_999)))
def test_the_bits_of_ten_thousand_indexes_stay_small(given_indexes):
    assert len(encode_indexes(given_indexes)) <= 2_500
