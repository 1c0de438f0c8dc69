"""``leti token``: who may use the service, written beside it into its database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from leti.cli.options import DatabaseUrl, JsonFile, ServiceHome, SettingsFile, service_settings
from leti.cli.report import new_console, new_table, write_json
from leti.core.access import Role, TokenInfo, TokenRequest
from leti.core.codec import to_json
from leti.core.errors import InvalidInput

if TYPE_CHECKING:
    from leti.service.settings import Settings
    from leti.service.store import Store

tokens = typer.Typer(help="Make, list and revoke the tokens that a service asks for.", no_args_is_help=True)

_DAYS: Final = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(tokens, name="token")


@tokens.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: a person, a machine, a job.")],
    role: Annotated[
        Role,
        typer.Option(help="viewer reads, client also asks and orders measurements, agent measures, admin may all."),
    ],
    expires: Annotated[str, typer.Option(help="How long it lasts, such as 12h, 90d, 1y; else until revoked.")] = "",
    home: ServiceHome = None,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """Make a token and print it, this once: standard output holds the token alone."""
    request = TokenRequest(name, role, _days(expires))
    settings = service_settings(config, home=home, database_url=database_url)
    from leti.service.store import Store

    store = Store.open(settings)
    try:
        made = store.tokens.create(request)
    finally:
        store.close()
    lasting = "until it is revoked" if made.info.expires_at is None else f"until {made.info.expires_at}"
    typer.echo(f"token {made.info.id} for {made.info.name!r}, {role}, {lasting}; it is not shown again:", err=True)
    typer.echo(made.token)


@tokens.command(name="list")
def list_(
    home: ServiceHome = None, database_url: DatabaseUrl = None, config: SettingsFile = None, json_file: JsonFile = None
) -> None:
    """List tokens, also those that are revoked, without their texts."""
    settings = service_settings(config, home=home, database_url=database_url)
    with _existing(settings) as store:
        found = store.tokens.list()
    _show(found)
    write_json(json_file, to_json(found))


@tokens.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token, as `leti token list` shows it.")],
    home: ServiceHome = None,
    database_url: DatabaseUrl = None,
    config: SettingsFile = None,
) -> None:
    """End a token for good; running services know within 5 seconds."""
    settings = service_settings(config, home=home, database_url=database_url)
    with _existing(settings) as store:
        _show([store.tokens.revoke(token_id)])


@contextmanager
def _existing(settings: Settings) -> Iterator[Store]:
    """Open the store of a service that is there: a folder with a typo in its name shall not become an empty one."""
    if not settings.database_url and not settings.database_file.exists():
        raise InvalidInput(f"there is no database in {settings.home}", field="--home", remedy="name the service's home")
    from leti.service.store import Store

    store = Store.open(settings)
    try:
        yield store
    finally:
        store.close()


def _show(found: Sequence[TokenInfo]) -> None:
    table = new_table("Tokens")
    for column in ("id", "name", "role", "made", "by", "lasts until", "revoked", "last used"):
        table.add_column(column, no_wrap=column in ("id", "role"))
    for info in found:
        ends = (_minute(info.expires_at), _minute(info.revoked_at), _minute(info.last_used_at) or "never")
        table.add_row(info.id, info.name, info.role, _minute(info.created_at), info.created_by, *ends)
    new_console().print(table)


def _minute(at: str | None) -> str:
    return (at or "")[:16].replace("T", " ")


def _days(text: str) -> float | None:
    """Return how many days a text such as ``90d`` means."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,6})([hdwy])", text)
    if match is None or int(match[1]) == 0:
        raise InvalidInput(f"{text!r} is no time", field="--expires", remedy="give one such as 12h, 90d, 4w or 1y")
    return int(match[1]) * _DAYS[match[2]]
