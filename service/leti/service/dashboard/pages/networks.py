"""Networks: found by fingerprint and space, and each with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import zip_longest
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from leti.core.codec import to_json
from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput, NotFound
from leti.core.graph import Graph
from leti.core.measurement import Measurement
from leti.core.wire import Network
from leti.generator.describe import op_title, type_text
from leti.generator.spaces import space_names
from leti.service.dashboard.drawing import MAX_BOXES, Grain, draw, group_of
from leti.service.dashboard.figures import Column, Figure
from leti.service.dashboard.figures.figure import MOST_ROWS
from leti.service.dashboard.figures.forms import axis, bars, chart, line, mark
from leti.service.dashboard.filters import status_of
from leti.service.dashboard.latencies import find_latencies, latency_figure
from leti.service.dashboard.rendering import HOME, figure, page, seen
from leti.service.dashboard.shares import shares_figure
from leti.service.dashboard.words import fingerprint as short
from leti.service.dashboard.words import latency, number
from leti.service.routes.parts import MAX_ID, NAME, Fingerprint, GivenParts, Parts
from leti.service.store.networks import DIGITS

router = APIRouter(prefix=f"{HOME}/networks")

A_PAGE: Final = 50
"""Networks on a page of the list."""

MOST_MEASUREMENTS: Final = 200
"""Measurements that the page of a network lists."""

FEWEST_DIGITS: Final = 8
"""Digits of a fingerprint that are enough to look for it."""

WRITTEN: Final[tuple[ModelFormat, ...]] = ("tflite", "onnx", "pt2")

Digits = Annotated[str, Path(pattern="^[0-9a-f]{8,64}$")]
PlatformId = Annotated[str, Query(min_length=1, max_length=200, pattern=NAME)]
MeasurementId = Annotated[int, Query(ge=1, le=MAX_ID)]


@router.get("")
def show_list(
    request: Request,
    parts: GivenParts,
    find: Annotated[str, Query(max_length=200)] = "",
    space: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")] = "",
) -> Response:
    """Return the networks of a space whose fingerprint begins with what is looked for, the newest first."""
    digits, error = find.strip().lower(), None
    try:
        _check_digits(digits)
    except InvalidInput as refused:
        error, digits = refused, ""
    of_space = {"": None, "(none)": ""}.get(space, space)
    found = parts.store.networks.newest(digits, of_space, after or None, A_PAGE + 1)
    return page(
        request,
        "networks.html",
        status_of(error),
        networks=found[:A_PAGE],
        more=found[A_PAGE - 1].fingerprint if len(found) > A_PAGE else None,
        find=find,
        space=space,
        spaces=("(none)", *space_names()),
        after=after,
        error=error,
    )


@router.get("/{fingerprint}")
def show(
    request: Request,
    parts: GivenParts,
    fingerprint: Digits,
    measurement: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    platform_id: Annotated[str, Query(max_length=200, pattern=NAME)] = "",
) -> Response:
    """Return what is known of a network; the beginning of a fingerprint leads to the network, or to those that it fits.

    One of its measurements is shown whole: the newest, if none is asked for.
    """
    if len(fingerprint) < DIGITS:
        return _lead(parts, fingerprint)
    network = parts.store.networks.get(fingerprint)
    (graph,) = parts.store.networks.graphs([fingerprint])
    measured = parts.store.measurements.of_network(fingerprint, MOST_MEASUREMENTS)
    chosen = measurement or (measured[0].row.id if measured else None)
    platforms = [platform.id for platform in parts.store.platforms.list()]
    unasked = _first(platforms, [one.row.platform_id for one in measured])
    return page(
        request,
        "network.html",
        network=network,
        graph=graph,
        formats=_formats(parts, network),
        accuracies=parts.store.accuracies.list(fingerprint),
        measured=measured,
        most=MOST_MEASUREMENTS,
        chosen=chosen,
        whole=None if chosen is None else _of(parts, fingerprint, chosen),
        platforms=platforms,
        platform_id=platform_id if platform_id in platforms else unasked,
        conditions=CONDITIONS,
        max_boxes=MAX_BOXES,
    )


@router.get("/{fingerprint}/latencies")
def show_latencies(request: Request, parts: GivenParts, fingerprint: Fingerprint) -> Response:
    """Return its latency on every platform, as a figure."""
    network = parts.store.networks.get(fingerprint)
    found = find_latencies(parts, fingerprint, network.zero)
    return figure(request, latency_figure(found.platforms, short(fingerprint)), name=f"latencies-{short(fingerprint)}")


@router.get("/{fingerprint}/breakdown")
def show_breakdown(request: Request, parts: GivenParts, fingerprint: Fingerprint, platform_id: PlatformId) -> Response:
    """Return what its latency on a platform is made of, as a figure."""
    network = parts.store.networks.get(fingerprint)
    drawn = shares_figure(parts, platform_id, fingerprint, network.zero)
    return figure(request, drawn, name=f"breakdown-{short(fingerprint)}")


@router.get("/{fingerprint}/samples")
def show_samples(request: Request, parts: GivenParts, fingerprint: Fingerprint, measurement: MeasurementId) -> Response:
    """Return the samples of one of its measurements in the order they were taken, as a figure."""
    whole = _of(parts, fingerprint, measurement)
    return figure(request, _samples(whole, measurement), name=f"samples-{measurement}")


@router.get("/{fingerprint}/operators")
def show_operators(request: Request, parts: GivenParts, fingerprint: Fingerprint) -> Response:
    """Return its operators and what they cost, as a figure."""
    (graph,) = parts.store.networks.graphs([fingerprint])
    return figure(request, _operators(graph), name=f"operators-{short(fingerprint)}")


@router.get("/{fingerprint}/drawing")
def read_drawing(parts: GivenParts, fingerprint: Fingerprint, grain: Grain | None = None) -> Response:
    """Return the boxes and edges of its graph, which the page's script lays out."""
    (graph,) = parts.store.networks.graphs([fingerprint])
    drawn = draw(graph, grain)
    if drawn is None:
        raise NotFound(
            f"has {len(graph.ops)} operators in parts too many to draw",
            field="grain",
            remedy="the table has all of them",
        )
    return JSONResponse(asdict(drawn))


@router.get("/{fingerprint}/spec")
def read_spec(parts: GivenParts, fingerprint: Fingerprint) -> Response:
    """Return its spec as a file; raise :class:`NotFound` where it came without one."""
    spec = parts.store.networks.get(fingerprint).spec
    if spec is None:
        raise NotFound("came without a spec", field="fingerprint", remedy="its graph says all that is known of it")
    return _file(spec, f"{short(fingerprint)}.spec.json")


@router.get("/{fingerprint}/graph")
def read_graph(parts: GivenParts, fingerprint: Fingerprint) -> Response:
    """Return its graph as a file."""
    (graph,) = parts.store.networks.graphs([fingerprint])
    return _file(graph.to_json(), f"{short(fingerprint)}.graph.json")


def _check_digits(digits: str) -> None:
    if digits and not (FEWEST_DIGITS <= len(digits) <= DIGITS and set(digits) <= set("0123456789abcdef")):
        raise InvalidInput(
            "is no beginning of a fingerprint",
            field="fingerprint",
            remedy=f"{FEWEST_DIGITS} to {DIGITS} of the digits 0-9 and a-f",
        )


def _lead(parts: Parts, digits: str) -> Response:
    found = parts.store.networks.newest(digits, None, None, 2)
    if not found:
        raise NotFound(
            f"no network has a fingerprint that begins with {digits}",
            field="fingerprint",
            remedy="look through the list of networks",
        )
    return seen(f"{HOME}/networks/{found[0].fingerprint}" if len(found) == 1 else f"{HOME}/networks?find={digits}")


def _first(platforms: list[str], measured: list[str]) -> str:
    """Return the platform that is shown unasked: where the network was measured last, else the first of all."""
    return next(iter([*measured, *platforms]), "")


def _formats(parts: Parts, network: Network) -> list[ModelFormat]:
    """Return the formats of model file that the network can be had in: of an uploaded one, what was uploaded."""
    if network.source == "upload":
        return [one for one in WRITTEN if parts.store.networks.with_models([network.fingerprint], one)]
    return [one for one in WRITTEN if one == "tflite" or network.precision == "float32"]


def _of(parts: Parts, fingerprint: str, measurement_id: int) -> Measurement:
    """Return a measurement of a network; raise :class:`NotFound` where it is another's."""
    found = parts.store.measurements.get(measurement_id)
    if found.fingerprint != fingerprint:
        raise NotFound(
            f"measurement {measurement_id} is another network's",
            field="measurement",
            remedy=f"see {HOME}/networks/{found.fingerprint}?measurement={measurement_id}",
        )
    return found


CONDITIONS: Final = (
    ("load", "load average"),
    ("steal", "share of processor time that was stolen"),
    ("frequency_mhz", "clock, MHz"),
    ("frequency_cap_mhz", "highest clock allowed, MHz"),
    ("temperature_c", "temperature, °C"),
    ("thermal_status", "Android's thermal status"),
    ("battery_c", "battery, °C"),
    ("battery_percent", "battery, %"),
    ("charging", "charging"),
)
"""What conditions are called on the page."""


def _rows(whole: Measurement) -> Iterator[tuple[int, str, float | None, float | None]]:
    for i, one in enumerate(whole.passes, 1):
        calm = "yes" if one.calm else "no"
        for sample, reference in zip_longest(one.samples_ms, one.reference_ms):
            yield i, calm, sample, reference


def _samples(whole: Measurement, measurement_id: int) -> Figure:
    rows = list(_rows(whole))
    step = -(-len(rows) // MOST_ROWS)
    numbers, kept = list(range(1, len(rows) + 1))[::step], rows[::step]
    restless = sum(not one.calm for one in whole.passes)
    count = sum(len(one.samples_ms) for one in whole.passes)
    what = "invokes" if whole.grain == "invoke" else "processes"
    notes = [f"A sample is one {whole.grain}; passes alternate with those of the reference network."]
    if step > 1:
        notes.append(f"One row of {step} is shown: GET /v1/measurements/{measurement_id} has all {len(rows):,}.")
    median = f"median of {latency(whole.median_ms)}"
    return Figure(
        f"Samples of measurement {measurement_id}",
        f"{number(count)} {what} in {number(len(whole.passes))} passes, with a {median}, the fastest"
        f" {latency(whole.min_ms)}; in {number(restless)} of the passes the reference network was restless.",
        (
            Column("number", "sample", numbers),
            Column("pass", "pass", [row[0] for row in kept]),
            Column("sample", "network, ms", [row[2] for row in kept]),
            Column("reference", "reference, ms", [row[3] for row in kept]),
            Column("calm", "calm", [row[1] for row in kept]),
        ),
        chart(
            axis("samples in order"),
            axis("ms"),
            [
                line("number", "sample", "network", symbolSize=4),
                line("number", "reference", "reference network", symbol="triangle", symbolSize=4),
                mark("median", [(1, whole.median_ms), (max(len(rows), 2), whole.median_ms)], dashed=True),
            ],
        ),
        notes=tuple(notes),
    )


def _operators(graph: Graph) -> Figure:
    ops = graph.ops[:MOST_ROWS]
    dearest = max(graph.ops, key=lambda op: op.macs, default=None)
    says = f"{number(len(graph.ops))} operators of {number(len({op.kind for op in graph.ops}))} kinds."
    if dearest is not None and graph.macs:
        says += f" The most computing is {op_title(dearest)} with {100 * dearest.macs / graph.macs:.0f} % of the MACs."
    kernel_of = {number: i for i, kernel in enumerate(graph.kernels, 1) for number in kernel}
    cut = () if len(ops) == len(graph.ops) else (f"The first {MOST_ROWS:,} are shown; the graph as JSON has all.",)
    return Figure(
        "Operators in the order of execution",
        says,
        (
            Column("number", "operator", list(range(len(ops)))),
            Column("kind", "kind", [op_title(op) for op in ops]),
            Column("group", "group", [group_of(op) for op in ops]),
            Column("kernel", "kernel", [kernel_of.get(i) for i in range(len(ops))]),
            Column("inputs", "reads", [", ".join(map(type_text, op.inputs)) for op in ops]),
            Column("outputs", "makes", [", ".join(map(type_text, op.outputs)) for op in ops]),
            Column("macs", "MACs", [op.macs for op in ops]),
            Column("params", "parameters", [op.params for op in ops]),
            Column("traffic", "bytes read and written", [op.traffic_bytes for op in ops]),
        ),
        chart(axis("operators in order", "category"), axis("MACs"), [bars("number", "macs", "", large=True)]),
        remedy="The network has no operators.",
        notes=cut,
    )


def _file(content: object, name: str) -> Response:
    return JSONResponse(to_json(content), headers={"content-disposition": f'attachment; filename="{name}"'})
