"""``leti devices``: what this machine and phones behind it can measure, and what the service knows of devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from leti.cli.options import DEFAULT_URL, JsonFile, Url, connect
from leti.cli.report import new_console, new_table, write_json
from leti.core.codec import to_json
from leti.core.errors import DeviceFault
from leti.core.farm import DeviceInfo

if TYPE_CHECKING:
    from leti.device_agents.android.phones import ListedPhone
    from leti.device_agents.backend import Offer

devices = typer.Typer(help="List what can be measured here; stop and release devices of the service.")

NameArgument = Annotated[str, typer.Argument(help="Name of the device, as `leti devices --url` lists it.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(devices, name="devices")


@devices.callback(invoke_without_command=True)
def list_(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Option("--url", envvar="LETI_URL", help="Also show what the service there knows.", show_default=False),
    ] = "",
    json_file: JsonFile = None,
) -> None:
    """List the runtimes of this machine and the phones that adb sees, each with the reason where it can't be used."""
    if context.invoked_subcommand is not None:
        return
    from leti.device_agents import backends

    console = new_console()
    found: dict[str, Any] = {}
    offers = backends.offers()
    _show_offers(console, offers)
    found["runtimes"] = [{"backend": name, **to_json(offer)} for name, offer in offers]
    phones, fault = _phones()
    _show_phones(console, phones, fault)
    found["phones"] = [_phone_json(phone) for phone in phones]
    found["adb"] = fault
    if url:
        with connect(url) as client:
            known = client.devices()
        _show_devices(console, known, url)
        found["devices"] = to_json(known)
    write_json(json_file, found)


@devices.command()
def quarantine(
    name: NameArgument,
    reason: Annotated[str, typer.Option(help="Why; it is shown to everybody who asks for devices.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Let the service lend a device no more jobs until it is released."""
    with connect(url) as client:
        _show_devices(new_console(), (client.quarantine(name, reason),), url)


@devices.command()
def release(name: NameArgument, url: Url = DEFAULT_URL) -> None:
    """End a quarantine: the service lends the device jobs again, and forgets the failures in a row."""
    with connect(url) as client:
        _show_devices(new_console(), (client.release_device(name),), url)


def _phones() -> tuple[Sequence[ListedPhone], str]:
    """Return the phones that adb lists, or why it can't be asked."""
    try:
        from leti.device_agents.android.adb import Adb
        from leti.device_agents.android.phones import list_phones

        return list_phones(Adb()), ""
    except DeviceFault as fault:
        return (), str(fault)
    except ImportError as error:  # locks on files are POSIX's
        return (), f"phones cannot be measured from this system: {error}"


def _show_offers(console: Console, offers: Sequence[tuple[str, Offer]]) -> None:
    table = new_table("This machine: runtimes")
    for column in ("backend", "delegate", "computes in", "can it be used?"):
        table.add_column(column, no_wrap=column in ("backend", "delegate"), overflow="fold")
    for name, offer in offers:
        table.add_row(name, offer.delegate or "–", ", ".join(offer.precisions), _yes_or(offer.reason))
    console.print(table)


def _show_phones(console: Console, phones: Sequence[ListedPhone], fault: str) -> None:
    if fault or not phones:
        console.print(f"Phones: {fault or 'adb lists none'}", highlight=False)
        return
    table = new_table("Phones that adb lists")
    for column in ("serial", "phone", "runs on", "can it be used?"):
        table.add_column(column, overflow="fold")
    for phone in phones:
        table.add_row(phone.serial, phone.name, "\n".join(phone.platforms), _yes_or(phone.reason))
    console.print(table)


def _phone_json(phone: ListedPhone) -> dict[str, Any]:
    return {
        "serial": phone.serial,
        "serials": list(phone.serials),
        "name": phone.name,
        "state": phone.state,
        "reason": phone.reason,
        "platforms": list(phone.platforms),
        "device": None if phone.device is None else to_json(phone.device),
    }


def _show_devices(console: Console, known: Sequence[DeviceInfo], url: str) -> None:
    if not known:
        console.print(f"Devices of {url}: none yet", highlight=False)
        return
    table = new_table(f"Devices of {url}")
    for column in ("device", "state", "last heard of (UTC)", "measured", "failed"):
        right, whole = column == "measured", column in ("state", "measured")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=whole)
    for info in known:
        failures = ", ".join(f"{kind} {count}" for kind, count in info.failures.items())
        heard = (info.last_heartbeat or "never")[:19].replace("T", " ")  # to the second
        table.add_row(info.device.name, info.state, heard, str(info.measured), failures or "–")
    console.print(table)
    for info in known:
        if info.reason:  # too long for a column
            console.print(f"{info.device.name} is {info.state}: {info.reason}", highlight=False)


def _yes_or(reason: str) -> str:
    return f"no: {reason}" if reason else "yes"
