"""Together: what several requests need at the same time is found for all of them at once.

To ask a predictor of one network takes nearly as long as of ten, and so does the database. A request is written as if
it were alone, as steps: a generator that yields what it needs (:class:`Need`), is sent what was found, and returns its
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from contextvars import Context, copy_context
from typing import Any, NamedTuple, TypeVar, final

T = TypeVar("T")


@final
class Need(NamedTuple):
    """What a request needs: ``find`` returns what it finds of ``key`` for each of many, in their order.

    Needs of one ``find`` and one ``key`` are found in one call.
    """

    find: Callable[[Any, Sequence[Any]], Sequence[Any]]
    key: Hashable
    of: Any


Steps = Generator[Need, Any, T]


def alone(steps: Steps[T]) -> T:
    """Return what the steps of one request come to, or raise what they raise."""
    (found,) = each([(copy_context(), steps)])
    if isinstance(found, Exception):
        raise found
    return found


def each(asked: Sequence[tuple[Context, Steps[T]]]) -> list[T | Exception]:
    """Return what the steps of each request come to, taken in its own context, or what they raise.

    Where something cannot be found for many at once, it is sought for each alone: what is wrong with one request is not
    told to another.
    """
    ended: dict[int, T | Exception] = {}
    needs: list[tuple[int, Need]] = []

    def go_on(i: int, step: Callable[[Any], Need], given: Any) -> None:
        try:
            needs.append((i, asked[i][0].run(step, given)))
        except StopIteration as end:
            ended[i] = end.value
        except Exception as error:  # noqa: BLE001 - it is raised where the request is answered
            ended[i] = error

    for i, (_, steps) in enumerate(asked):
        go_on(i, steps.send, None)
    while needs:
        alike: dict[Hashable, list[tuple[int, Need]]] = {}
        for i, need in needs:
            alike.setdefault((need.find, need.key), []).append((i, need))
        needs.clear()
        for group in alike.values():
            for (i, _), found in zip(group, _found([need for _, need in group]), strict=True):
                steps = asked[i][1]
                go_on(i, steps.throw if isinstance(found, Exception) else steps.send, found)
    return [ended[i] for i in range(len(asked))]


def _found(needs: Sequence[Need]) -> Sequence[Any]:
    """Return what is found for each of several needs that are alike, or the error that it meets."""
    find, key, _ = needs[0]
    try:
        return find(key, [need.of for need in needs])
    except Exception as error:  # noqa: BLE001 - it is raised where the need came up
        return [error] if len(needs) == 1 else [found for need in needs for found in _found([need])]
