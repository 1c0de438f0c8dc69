"""Splits: which networks train, and which are kept apart; always the same for one seed.

Networks of one group (an isomorphism class, a search space) are never parted: a twin in training would make a network
known that the split calls unseen.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Hashable, Sequence

from leti.core.errors import InvalidInput


def split_by_group(
    groups: Sequence[Hashable],
    *,
    holdout_share: float | None = None,
    train_count: int | None = None,
    seed: int,
) -> tuple[list[int], list[int]]:
    """Return row numbers for training and for the holdout, whole groups on one side; both ascending.

    ``groups`` has one entry a row. Give one of two sizes: ``holdout_share``, the share of *groups* in the holdout (at
    least one group on either side), or ``train_count``, the number of *rows* in training: groups are drawn in a seeded
    order, and one that would overfill the training part goes to the holdout. With one row a group the count is exact;
    otherwise it may fall short by less than the smallest group in the holdout. Raises
    :class:`~leti.core.errors.InvalidInput` for sizes that leave either side empty.
    """
    if (holdout_share is None) == (train_count is None):
        raise InvalidInput("give one of holdout_share and train_count", field="holdout_share")
    members = _members(groups)
    if len(members) < 2:
        raise InvalidInput(f"cannot be split: there is {len(members)} group", field="groups", remedy="at least 2")
    order = list(members)
    random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible split, not a secret
    if holdout_share is not None:
        if not 0 < holdout_share < 1:
            raise InvalidInput(f"must be between 0 and 1, not {holdout_share!r}", field="holdout_share")
        held = min(max(round(holdout_share * len(order)), 1), len(order) - 1)
        train = [row for group in order[held:] for row in members[group]]
    else:
        train = _fill([members[group] for group in order], _checked_count(train_count, len(groups)))
        if not train:
            raise InvalidInput(f"is {train_count}, and every group is larger", field="train_count")
    chosen = set(train)
    return sorted(train), [row for row in range(len(groups)) if row not in chosen]


def split_again(
    groups: Sequence[Hashable],
    *,
    trained_on: Collection[Hashable],
    held_out: Collection[Hashable],
    holdout_share: float,
    seed: int,
) -> tuple[list[int], list[int]]:
    """Return row numbers for training and for the holdout, as :func:`split_by_group` does, and like it before.

    Groups that were ``trained_on`` or ``held_out`` before stay on their side; of the new ones, as many are held out as
    bring the share of *groups* in the holdout to ``holdout_share``. Where none of those held out is among ``groups``,
    one at least is held out anew. Raises :class:`~leti.core.errors.InvalidInput` where nothing is left to train on.
    """
    members = _members(groups)
    held = [group for group in members if group in held_out]
    new = [group for group in members if group not in held_out and group not in trained_on]
    if not held and not new:
        return split_by_group(groups, holdout_share=holdout_share, seed=seed)
    random.Random(seed).shuffle(new)  # noqa: S311 - a reproducible split, not a secret
    wanted = max(round(holdout_share * len(members)), 1)
    held += new[: min(max(wanted - len(held), 0), max(len(members) - len(held) - 1, 0))]
    if len(held) == len(members):
        raise InvalidInput("are all held out: none is left to train on", field="groups", remedy="give new ones")
    test = sorted(row for group in held for row in members[group])
    chosen = set(test)
    return [row for row in range(len(groups)) if row not in chosen], test


def split_randomly(n: int, *, train_count: int, seed: int) -> tuple[list[int], list[int]]:
    """Return row numbers for training (``train_count`` of ``n``) and for the holdout, drawn regardless of groups.

    Leaks: isomorphic twins fall on both sides. It exists to reproduce published protocols that split so.
    """
    order = list(range(n))
    random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible split, not a secret
    count = _checked_count(train_count, n)
    return sorted(order[:count]), sorted(order[count:])


def group_folds(groups: Sequence[Hashable], folds: int, *, seed: int) -> list[list[int]]:
    """Return ``folds`` disjoint lists of rows that hold every row once, whole groups in one fold, of like size.

    There are as many folds as groups where there are fewer groups than ``folds``. Raises
    :class:`~leti.core.errors.InvalidInput` for fewer than two groups or folds.
    """
    members = _members(groups)
    count = min(folds, len(members))
    if count < 2:
        raise InvalidInput(f"{len(members)} groups cannot make {folds} folds", field="groups", remedy="at least 2")
    order = list(members.values())
    random.Random(seed).shuffle(order)  # noqa: S311 - reproducible folds, not a secret
    order.sort(key=len, reverse=True)  # stable: the shuffle still decides among groups of one size
    parts: list[list[int]] = [[] for _ in range(count)]
    for rows in order:
        min(parts, key=len).extend(rows)
    return [sorted(part) for part in parts]


def cross_splits(groups: Sequence[Hashable], folds: int, *, seed: int) -> list[tuple[list[int], list[int]]]:
    """Return for each of :func:`group_folds` all rows but its own, and its own; all ascending. Raises as it does."""
    parts = group_folds(groups, folds, seed=seed)
    return [(sorted(set(range(len(groups))).difference(fold)), fold) for fold in parts]


def _members(groups: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return members


def _checked_count(train_count: int | None, n: int) -> int:
    if type(train_count) is not int or not 0 < train_count < n:
        raise InvalidInput(
            f"must be a whole number from 1 to {n - 1}, not {train_count!r}", field="train_count", available=n
        )
    return train_count


def _fill(groups: Sequence[Sequence[int]], count: int) -> list[int]:
    chosen: list[int] = []
    for rows in groups:
        if len(chosen) + len(rows) <= count:
            chosen.extend(rows)
    return chosen
