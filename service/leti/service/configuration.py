"""Where settings come from: a file, over it the environment, over that the command line. Later ones win."""

from __future__ import annotations

import difflib
import math
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

from leti.core.errors import InvalidInput
from leti.service.settings import Settings, refusal

SECTION: Final = "service"
"""The table of ``leti.toml`` that holds settings."""

PREFIX: Final = "LETI_"
BY_FILE: Final = "_FILE"
"""Ends the environment name that gives a secret by the name of a file, as Docker and Kubernetes hand them in."""

OTHERS: Final = frozenset(
    {
        "LETI_ADB",
        "LETI_ANDROID_BENCHMARK_MODEL",
        "LETI_BENCHMARK_MODEL",
        "LETI_CONFIG",
        "LETI_PARENT_HOLDS_STDIN",
        "LETI_TOKEN",
        "LETI_TOKEN_FILE",
        "LETI_URL",
    }
)
"""Names in the environment that commands and agents read, and that are no settings of the service."""

FIELDS: Final = {one.name: one for one in fields(Settings)}
"""Every setting by its name; its metadata say what it means."""

_KINDS: Final = {name: typing.get_origin(hint) or hint for name, hint in typing.get_type_hints(Settings).items()}
_TRUTHS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}

_READERS: Final[Mapping[Any, Callable[[str], Any]]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: _TRUTHS[text.lower()],
    Path: Path,
    tuple: lambda text: [one.strip() for one in text.split(",") if one.strip()],
}
_SAID: Final[Mapping[Any, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    tuple: "a list of texts",
}
_UNITS: Final = {"_s": " of seconds", "_bytes": " of bytes"}


@final
@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and where each that is not its default came from: a file, a name in the environment, an option."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    file: Path | None = None, environment: Mapping[str, str] = MappingProxyType({}), **given: Any
) -> Settings:
    """Return the settings that :func:`configure` finds."""
    return configure(file, environment, **given).settings


def configure(
    file: Path | None = None, environment: Mapping[str, str] = MappingProxyType({}), **given: Any
) -> Configuration:
    """Read settings from a TOML ``file``'s table ``[service]``, the environment, and what is ``given`` as options.

    ``LETI_<NAME>`` sets one, ``LETI_<NAME>_FILE`` a secret by the file that holds it; an option that is ``None`` is not
    given. Raises :class:`InvalidInput` for a name that is no setting's and a value that it does not take; the error
    names the setting, where it came from and what would be right.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, (value, origin) in {
        **({} if file is None else _from_file(file)),
        **_from_environment(environment),
        **{name: (value, "the command line") for name, value in given.items() if value is not None},
    }.items():
        values[name] = _checked(name, value, origin)
        origins[name] = origin
    return Configuration(Settings(**values), origins)


def page() -> str:
    """Return ``docs/settings.md``: every setting with its default, its name in the environment and its meaning."""
    rows = [
        f"| `{name}` | {_default(one.default)} | `{environment_name(name)}` | {one.metadata['doc']} |"
        for name, one in FIELDS.items()
    ]
    return _PAGE.format(rows="\n".join(rows), others=", ".join(f"`{name}`" for name in sorted(OTHERS)))


def _default(value: object) -> str:
    if isinstance(value, tuple):
        value = ", ".join(value)
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`" if shown else ""


def environment_name(name: str) -> str:
    """Return what a setting is called in the environment."""
    return PREFIX + name.upper()


def _from_file(file: Path) -> dict[str, tuple[Any, str]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is not TOML: {error}"
        raise InvalidInput(f"{file}: {reason}", field="--config", remedy="name a readable TOML file") from None
    for name in document:
        if name != SECTION:
            raise _unknown(name, f"{file}", (SECTION,))
    found = document.get(SECTION, {})
    if not isinstance(found, dict):
        raise InvalidInput(f"{file}: is not a table", field=SECTION, remedy=f"write [{SECTION}], and settings below it")
    for name in found:
        if name not in FIELDS:
            raise _unknown(name, f"{file}", FIELDS)
    return {name: (value, f"{file}, [{SECTION}] {name}") for name, value in found.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    names = {environment_name(name): name for name in FIELDS}
    secrets = {key + BY_FILE: name for key, name in names.items() if FIELDS[name].metadata["secret"]}
    for key in sorted(key for key in environment if key.startswith(PREFIX)):  # LETI_X before LETI_X_FILE
        name = names.get(key) or secrets.get(key)
        if name is None:
            if key not in OTHERS:
                raise _unknown(key, "the environment", (*names, *secrets))
            continue
        if name in found:
            raise InvalidInput(
                f"{key} and {key.removesuffix(BY_FILE)} are both set", field=name, remedy="set one of them"
            )
        text = _secret(Path(environment[key]), key, name) if key in secrets else environment[key]
        found[name] = (_parsed(name, text, key), key)
    return found


def _secret(file: Path, key: str, name: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise InvalidInput(f"{key} names {file}: {reason}", field=name, remedy="name a readable file") from None


def _parsed(name: str, text: str, key: str) -> Any:
    """Return the value that a text of the environment stands for."""
    try:
        return _READERS[_KINDS[name]](text.strip())
    except (ValueError, KeyError):
        raise _refused(name, text, key) from None


def _checked(name: str, value: Any, origin: str) -> Any:
    """Return a value as its field holds it; raise :class:`InvalidInput` for another type, or out of range."""
    kind = _KINDS[name]
    if kind is float and type(value) is int:
        value = float(value)
    elif kind is Path and isinstance(value, str):
        value = Path(value).expanduser()
    elif kind is tuple and isinstance(value, list):
        value = tuple(value)
    fits = isinstance(value, Path) if kind is Path else type(value) is kind
    if not fits or (kind is float and not math.isfinite(value)):
        raise _refused(name, value, origin)
    if kind is tuple and not all(isinstance(one, str) for one in value):
        raise _refused(name, value, origin)
    meta = FIELDS[name].metadata
    reason = refusal(value, meta)
    if reason:
        raise InvalidInput(f"{reason} (from {origin})", field=name, remedy=meta["doc"])
    return value


def _refused(name: str, value: Any, origin: str) -> InvalidInput:
    said = "what was given" if FIELDS[name].metadata["secret"] else repr(value)[:80]
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
    return InvalidInput(
        f"{said} is not {_SAID[_KINDS[name]]} (from {origin})", field=name, remedy=f"give {_SAID[_KINDS[name]]}{unit}"
    )


def _unknown(name: str, origin: str, known: Iterable[str]) -> InvalidInput:
    near = difflib.get_close_matches(name, list(known), 1)
    remedy = f"is {near[0]} meant? " if near else ""
    return InvalidInput(f"is no setting (from {origin})", field=name[:80], remedy=f"{remedy}`leti settings` lists them")


_PAGE: Final = """\
# Settings of the service

`leti serve`, `leti worker`, `leti migrate` and `leti doctor` find each setting in these places; the later one wins:

1. its default;
2. a TOML file, which `--config FILE` or `LETI_CONFIG` names, in the table `[service]`: `lease_s = 90.0`;
3. the environment: `LETI_LEASE_S=90`. A setting that holds a secret may be given by a file that holds it and nothing
   else: `LETI_DATABASE_URL_FILE=/run/secrets/database_url`;
4. an option of the command, where it has one.

Times are plain numbers of seconds, sizes plain numbers of bytes; a truth is `true` or `false`; commas separate a list
in the environment. A name that is no setting's and a value that does not fit are errors that say where they stand.
`leti settings` shows what holds, and where it comes from.

| setting | default | environment | meaning |
|---|---|---|---|
{rows}

These names in the environment belong to other commands and to agents: {others}. (This page is written by
`leti settings --markdown`.)
"""
