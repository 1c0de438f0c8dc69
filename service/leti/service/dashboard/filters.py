"""Filters and pages of lists, which stand in a page's address: a field that a form leaves empty filters nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, final

from fastapi import Query, Request
from pydantic import BeforeValidator, Field, StringConstraints

from leti.core.errors import LetiError
from leti.service.problems import problem
from leti.service.routes.parts import MAX_ID, NAME

ROWS: Final = 50
"""Rows of one page of a list."""


def _given(value: Any) -> Any:
    return None if value == "" else value


Filled = BeforeValidator(_given)
"""Takes what a form left empty for nothing."""

Name = Annotated[Annotated[str, StringConstraints(max_length=200, pattern=NAME)] | None, Filled, Query()]
"""A name, or none."""

Number = Annotated[Annotated[int, Field(ge=1, le=MAX_ID)] | None, Filled, Query()]
"""An id, or none."""

Before = Annotated[int, Query(ge=0, le=MAX_ID)]
"""The id that a page of a list begins below; 0 for the newest."""


@final
@dataclass(frozen=True, slots=True)
class Pager:
    """Where the older rows of a list are, and where the newest: empty where there are none, or one sees them."""

    older: str
    newest: str


def pager(request: Request, path: str, before: int, following: int | None, name: str = "before") -> Pager:
    """Return the way through a list at ``path`` whose page begins below ``before``, the parameter of this ``name``."""
    here = request.url.replace(path=path)
    newest, older = here.remove_query_params(name), here.include_query_params(**{name: following})
    return Pager(_address(older) if following else "", _address(newest) if before else "")


def _address(url: Any) -> str:
    return f"{url.path}?{url.query}" if url.query else str(url.path)


def status_of(error: LetiError | None) -> int:
    """Return the status of a page that shows what was refused, if anything was."""
    return 200 if error is None else problem(error).status
