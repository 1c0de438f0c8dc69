"""JSON for frozen dataclasses: one way out, one way in, errors that name the place.

Types with a form of their own (:class:`~leti.core.spec.NetworkSpec`, :class:`~leti.core.graph.Graph`) define
``to_json`` and ``from_json``; everything else is read and written field by field.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from leti.core.errors import InvalidInput

T = TypeVar("T")

Decoder = Callable[[Any, str], object]
"""Reads data; the text says where they stand."""

_PLAIN = frozenset({bool, int, float, str, type(None)})

LARGEST_INT = 2**63 - 1
"""Whole numbers end where 8 bytes end: databases and other languages hold no larger ones."""

_UNIONS = (Union, types.UnionType)

Json = Any
"""A JSON value: ``None``, ``bool``, ``int``, ``float``, ``str``, ``list`` or ``dict`` with string keys."""


def to_json(value: object) -> Json:
    """Return ``value`` as plain JSON data; dataclasses become objects, tuples become arrays."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and _PLAIN.issuperset(map(type, value)):
        return list(value)  # the bulk of a measurement
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    own = getattr(value, "to_json", None)
    if own is not None:
        return own()
    if dataclasses.is_dataclass(value):
        return {name: to_json(getattr(value, name)) for name in _names(typing.cast(Any, type(value)))}
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(cls: type[T], data: Json, where: str = "") -> T:
    """Return ``data`` as a ``cls``; raise :class:`InvalidInput` naming the field below ``where`` that does not fit."""
    return typing.cast(T, _decoder(typing.cast(Any, cls))(data, where))


def read_object(data: Json, where: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Json]:
    """Return ``data`` if it is an object with these keys and no others; raise :class:`InvalidInput` otherwise."""
    if not isinstance(data, dict):
        raise _mismatch("an object", data, where)
    for name in required:
        if name not in data:
            raise InvalidInput("is missing", field=_join(where, name), remedy=f"give {name}")
    known = {*required, *optional}
    for name in data:
        if name not in known:
            raise InvalidInput(
                "is not a known field", field=_join(where, str(name)), remedy=f"known here: {', '.join(sorted(known))}"
            )
    return data


@functools.cache
def _decoder(cls: Any) -> Decoder:
    """Return what reads a type; types are looked at once."""
    if cls is Any or cls is object:
        return lambda data, _where: data
    origin, args = get_origin(cls), get_args(cls)
    if origin in _UNIONS:
        return functools.partial(_decode_union, args)
    if origin is Literal:
        return functools.partial(_decode_literal, args)
    if origin is tuple:
        return functools.partial(_decode_tuple, args)
    if origin is dict or origin is Mapping:
        return functools.partial(_decode_mapping, args[0], args[1])
    own: Decoder | None = getattr(cls, "from_json", None)
    if own is not None:
        return own
    if dataclasses.is_dataclass(cls):
        return functools.partial(_decode_dataclass, typing.cast(type, cls))
    return functools.partial(_decode_scalar, cls)


def _decode_union(choices: tuple[Any, ...], data: Json, where: str) -> object:
    if data is None and type(None) in choices:
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    if len(rest) == 1:
        return _decoder(rest[0])(data, where)
    for choice in rest:
        try:
            return _decoder(choice)(data, where)
        except InvalidInput:
            continue
    raise _mismatch(" or ".join(getattr(c, "__name__", str(c)) for c in rest), data, where)


def _decode_literal(choices: tuple[Any, ...], data: Json, where: str) -> object:
    if data not in choices or isinstance(data, bool) != any(isinstance(c, bool) for c in choices):
        raise _mismatch(f"one of {', '.join(map(repr, choices))}", data, where)
    return data


def _decode_mapping(key_cls: Any, item_cls: Any, data: Json, where: str) -> dict[Any, object]:
    if not isinstance(data, dict):
        raise _mismatch("an object", data, where)
    decode = _decoder(item_cls)
    if key_cls is int:
        return {_number(key, where): decode(item, f"{where}[{key}]") for key, item in data.items()}
    return {str(key): decode(item, _join(where, str(key))) for key, item in data.items()}


def _number(key: object, where: str) -> int:
    """Return the whole number that names a field of an object: JSON writes it as text."""
    text = str(key)
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        raise _mismatch("an object whose fields are named by whole numbers", data=text, where=where)
    return int(text)


def _decode_tuple(items: tuple[Any, ...], data: Json, where: str) -> tuple[object, ...]:
    if not isinstance(data, list | tuple):
        raise _mismatch("an array", data, where)
    if len(items) == 2 and items[1] is Ellipsis:
        if _is_plain(items[0], data):
            return tuple(data)  # the bulk of a body: no place is named where nothing is amiss
        if items[0] == tuple[int, ...] and all(type(row) is list and _is_plain(int, row) for row in data):
            return tuple(map(tuple, data))
        decode = _decoder(items[0])
        return tuple([decode(item, f"{where}[{i}]") for i, item in enumerate(data)])
    if len(data) != len(items):
        raise _mismatch(f"an array of {len(items)}", data, where)
    pairs = enumerate(zip(items, data, strict=True))
    return tuple(_decoder(cls)(item, f"{where}[{i}]") for i, (cls, item) in pairs)


def _decode_dataclass(cls: type, data: Json, where: str) -> object:
    decoders, required = _fields(cls)
    if not isinstance(data, dict) or not required <= data.keys() <= decoders.keys():
        optional = [name for name in decoders if name not in required]
        read_object(data, where, required=[name for name in decoders if name in required], optional=optional)
    values = {name: decoders[name](item, f"{where}.{name}" if where else name) for name, item in data.items()}
    try:
        return cls(**values)
    except InvalidInput as error:
        if where and not error.field.startswith(where):
            error.field = _join(where, error.field) if error.field else where
        raise


def _decode_scalar(cls: Any, data: Json, where: str) -> object:
    if cls is float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise _mismatch("a number", data, where)
        try:
            number = float(data)
        except OverflowError:  # a whole number of more than 308 digits
            number = math.inf
        if not math.isfinite(number):
            raise _mismatch("a finite number", data, where)
        return number
    names = {int: "a whole number", str: "a string", bool: "true or false", type(None): "null"}
    if not isinstance(data, cls) or (cls is int and isinstance(data, bool)):
        raise _mismatch(names.get(cls, getattr(cls, "__name__", str(cls))), data, where)
    if cls is int and not -LARGEST_INT <= data <= LARGEST_INT:
        raise _mismatch("a whole number below 2^63", data, where)
    if cls is str and not _is_text(data):
        raise _mismatch("text that UTF-8 can hold, without halves of surrogate pairs or U+0000", data, where)
    return data


def _is_plain(cls: Any, data: Sequence[Json]) -> bool:
    """Return whether data are finite floats, whole numbers, or texts, for a type that takes these, and nothing else."""
    kinds = set(map(type, data))
    if kinds == {float}:
        return cls is float and all(map(math.isfinite, data))
    if kinds == {int}:
        return cls is int and min(data) >= -LARGEST_INT and max(data) <= LARGEST_INT
    return kinds == {str} and (cls is str or (get_origin(cls) in _UNIONS and str in get_args(cls))) and _are_texts(data)


def _are_texts(data: Sequence[str]) -> bool:
    return all(map(str.isascii, data)) and not any("\0" in text for text in data)


def _is_text(text: str) -> bool:
    """Return whether UTF-8, and any database, can hold a text.

    JSON can escape half a surrogate pair, and nothing else can say it; PostgreSQL has no character U+0000.
    """
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@functools.cache
def _fields(cls: type) -> tuple[dict[str, Decoder], frozenset[str]]:
    """Return what reads each field of a dataclass, and the names of those that must be there."""
    hints = typing.get_type_hints(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    missing = dataclasses.MISSING
    required = frozenset(f.name for f in fields if f.default is missing and f.default_factory is missing)
    return {field.name: _decoder(hints[field.name]) for field in fields}, required


@functools.cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _mismatch(expected: str, data: Json, where: str) -> InvalidInput:
    shown = repr(data)
    return InvalidInput(
        f"must be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}", field=where or "(root)"
    )
