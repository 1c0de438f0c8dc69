"""Pages: rows by their ids, one page from either end."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Column, Select

Q = TypeVar("Q", bound=Select[Any])


def on_page(query: Q, key: Column[int], *, cursor: int, limit: int, newest_first: bool = False) -> Q:
    """Return the rows of one page, and one more where there are more: those after ``cursor``, where 0 is the first.

    By rising ids, or from the newest down.
    """
    if not newest_first:
        return query.where(key > cursor).order_by(key).limit(limit + 1)
    return (query.where(key < cursor) if cursor else query).order_by(key.desc()).limit(limit + 1)
