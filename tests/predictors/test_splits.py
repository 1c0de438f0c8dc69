from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.core.errors import InvalidInput

pytest.importorskip("numpy", reason="needs the extra `boosting`")
from leti.predictors.evaluation import split_by_group, split_randomly
from leti.predictors.splits import group_folds

groups = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40).filter(lambda names: len(set(names)) > 1)
seeds = st.integers(0, 2**32)


def assert_parted(parts, names):
    """Every row once, no group in two parts."""
    assert sorted(row for part in parts for row in part) == list(range(len(names)))
    assert all(n == 1 for n in Counter(name for part in parts for name in {names[row] for row in part}).values())


@given(groups, seeds, st.floats(0.01, 0.99))
def test_a_share_of_the_groups_is_held_out(names, seed, share):
    train, holdout = split_by_group(names, holdout_share=share, seed=seed)
    assert_parted((train, holdout), names)
    assert train
    assert holdout
    assert train == sorted(train)
    count = len(set(names))
    held = len({names[row] for row in holdout})
    assert held == min(max(round(share * count), 1), count - 1)


@given(groups, seeds, st.data())
def test_a_count_of_rows_trains(names, seed, data):
    count = data.draw(st.integers(max(Counter(names).values()), len(names) - 1))
    train, holdout = split_by_group(names, train_count=count, seed=seed)
    assert_parted((train, holdout), names)
    left_out = Counter(names[row] for row in holdout)
    assert len(train) <= count < len(train) + min(left_out.values())


@given(st.integers(2, 50), seeds, st.data())
def test_with_one_row_a_group_the_count_is_exact(n, seed, data):
    count = data.draw(st.integers(1, n - 1))
    train, holdout = split_by_group(range(n), train_count=count, seed=seed)
    assert (len(train), len(holdout)) == (count, n - count)


@given(st.integers(2, 50), seeds, st.data())
def test_a_random_split_has_every_row_once(n, seed, data):
    count = data.draw(st.integers(1, n - 1))
    train, holdout = split_randomly(n, train_count=count, seed=seed)
    assert len(train) == count
    assert sorted(train + holdout) == list(range(n))


@given(groups, seeds, st.integers(2, 10))
def test_folds_part_the_groups(names, seed, count):
    folds = group_folds(names, count, seed=seed)
    assert_parted(folds, names)
    assert len(folds) == min(count, len(set(names)))
    assert all(folds)


def test_a_seed_names_a_split():
    names = [str(i) for i in range(100)]
    split = split_by_group(names, train_count=50, seed=3)
    assert split == split_by_group(names, train_count=50, seed=3)
    assert split != split_by_group(names, train_count=50, seed=4)
    assert split_randomly(100, train_count=50, seed=3) != split_randomly(100, train_count=50, seed=4)


@pytest.mark.parametrize(
    ("names", "sizes", "field"),
    [
        ("ab", {}, "holdout_share"),
        ("ab", {"holdout_share": 0.5, "train_count": 1}, "holdout_share"),
        ("ab", {"holdout_share": 0.0}, "holdout_share"),
        ("ab", {"holdout_share": float("nan")}, "holdout_share"),
        ("ab", {"train_count": 0}, "train_count"),
        ("ab", {"train_count": 2}, "train_count"),
        ("aabb", {"train_count": 1}, "train_count"),
        ("aaa", {"train_count": 1}, "groups"),
        ("", {"train_count": 1}, "groups"),
    ],
)
def test_a_split_that_cannot_be_is_refused(names, sizes, field):
    with pytest.raises(InvalidInput) as caught:
        split_by_group(names, **sizes, seed=0)
    assert caught.value.field == field


def test_a_random_split_that_cannot_be_is_refused():
    for count in (0, 5, 6, -1):
        with pytest.raises(InvalidInput):
            split_randomly(5, train_count=count, seed=0)
