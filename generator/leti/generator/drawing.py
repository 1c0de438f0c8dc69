"""A graph as a picture: one box a kernel, in layers from the inputs down, as SVG that needs nothing else.

The layout is that of Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System Structures"
(1981): layers by longest path, edges over several layers led through empty places, order by barycentres; positions are
those nearest to the neighbours' that keep the boxes apart (least squares, by pooling adjacent violators).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final, final

from leti.core.errors import TooLarge
from leti.core.graph import Graph
from leti.generator.describe import count_text, op_title, type_text

MAX_KERNELS: Final = 2_000
"""More would be a picture that no browser shows."""

_BOX_WIDTH, _BOX_HEIGHT, _GAP, _LAYER_HEIGHT, _PLACE_WIDTH = 220, 40, 18, 68, 6
_SWEEPS: Final = 8

_FAMILIES: Final = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "depthwise_conv2d", "transpose_conv2d"), "convolution"),
    **dict.fromkeys(("fully_connected", "matmul", "embedding"), "matrix"),
    **dict.fromkeys(("reshape", "transpose", "concat", "split", "slice", "pad", "gather", "stack", "unstack"), "move"),
}
"""Colour of a kernel, by the first of its operators that has one."""

_STYLE: Final = """
svg { font: 12px system-ui, sans-serif; }
.box { fill: #eef1f5; stroke: #8793a5; } .convolution { fill: #dcebff; stroke: #3b76c4; }
.matrix { fill: #e3f6e5; stroke: #3f8f4a; } .move { fill: #fff; stroke: #9aa3af; stroke-dasharray: 4 2; }
.border { fill: #fff; stroke: #4b5563; } .unknown { fill: #ffe1de; stroke: #c0392b; }
.kind { fill: #111827; } .shape { fill: #5b6472; font-size: 10px; } .edge { fill: none; stroke: #9aa3af; }
@media (prefers-color-scheme: dark) {
.box { fill: #262b33; stroke: #6b7686; } .convolution { fill: #16304f; stroke: #5b9bea; }
.matrix { fill: #17371b; stroke: #5cb567; } .move { fill: #14171c; stroke: #6b7686; }
.border { fill: #14171c; stroke: #9aa3af; } .unknown { fill: #4f1a16; stroke: #e57368; }
.kind { fill: #f3f4f6; } .shape { fill: #a3acb9; } .edge { stroke: #5b6472; } }
"""


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG document; a notebook shows it by itself."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass(frozen=True, slots=True)
class _Box:
    """What stands at a place: two lines of text, a tooltip, a family. ``None`` in its place is an edge passing by."""

    kind: str
    shape: str
    tooltip: str
    family: str


def draw(graph: Graph, names: Sequence[str] = ()) -> Drawing:
    """Return the picture of a graph; ``names`` are those of its operators, for the tooltips.

    Raises :class:`TooLarge` for more than :data:`MAX_KERNELS` kernels.
    """
    kernels = graph.kernels or tuple((i,) for i in range(len(graph.ops)))
    if len(kernels) > MAX_KERNELS:
        raise TooLarge(f"has {len(kernels)} kernels", field="graph", remedy=f"at most {MAX_KERNELS} can be drawn")
    boxes, edges = _boxes(graph, kernels, names)
    layers, links = _layers(len(boxes), edges)
    _order(layers, links)
    x = _positions(layers, links, len(boxes))
    return Drawing(_svg(boxes, layers, links, x))


def _boxes(
    graph: Graph, kernels: Sequence[tuple[int, ...]], names: Sequence[str]
) -> tuple[list[_Box], list[tuple[int, int]]]:
    """Return inputs, kernels and outputs as boxes, and which reads from which."""
    boxes = [_Box(f"input {i}", type_text(t), f"input {i}", "border") for i, t in enumerate(graph.inputs)]
    kernel_of = {op: len(boxes) + k for k, kernel in enumerate(kernels) for op in kernel}
    boxes += [_kernel_box(graph, kernel, names) for kernel in kernels]
    makers = list(range(len(graph.inputs)))
    for i, op in enumerate(graph.ops):
        makers += [kernel_of[i]] * len(op.outputs)
    types = graph.value_types
    edges = {(makers[value], kernel_of[i]): None for i, sources in enumerate(graph.wiring) for value in sources}
    for i, value in enumerate(graph.outputs):
        edges[makers[value], len(boxes)] = None
        boxes.append(_Box(f"output {i}", type_text(types[value]), f"output {i}", "border"))
    return boxes, [(a, b) for a, b in edges if a != b]


def _kernel_box(graph: Graph, kernel: tuple[int, ...], names: Sequence[str]) -> _Box:
    ops = [graph.ops[i] for i in kernel]
    lines = []
    for i in kernel:
        op = graph.ops[i]
        attributes = ", ".join(f"{key}={value}" for key, value in op.attributes)
        name = f"{names[i]}: " if i < len(names) and names[i] else ""
        lines.append(f"{name}{op.kind}({attributes}) {op.macs:,} MACs, {op.params:,} parameters")
    family = next((_FAMILIES[op.kind] for op in ops if op.kind in _FAMILIES), "box")
    if any(op.is_unknown for op in ops):
        family = "unknown"
    macs = sum(op.macs for op in ops)
    cost = f" · {count_text(macs)} MACs" if macs else ""
    kinds = " + ".join(op_title(op) for op in ops if op.kind != "constant") or "constant"
    return _Box(kinds, type_text(ops[-1].outputs[0]) + cost, "\n".join(lines), family)


_Links = list[tuple[int, int]]


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[list[int]], _Links]:
    """Return places by layer, and links between neighbouring layers; places from ``count`` on are edges passing by.

    Every link's first place is one layer above its second.
    """
    level = [0] * count
    below: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        below[a].append(b)
    for a in range(count):  # kernels stand in topological order, after the inputs and before the outputs
        for b in below[a]:
            level[b] = max(level[b], level[a] + 1)
    layers: list[list[int]] = [[] for _ in range(max(level, default=0) + 1)]
    for box, depth in enumerate(level):
        layers[depth].append(box)
    links: _Links = []
    place = count
    for a, b in edges:
        above = a
        for depth in range(level[a] + 1, level[b]):
            layers[depth].append(place)
            links.append((above, place))
            above, place = place, place + 1
        links.append((above, b))
    return layers, links


def _order(layers: list[list[int]], links: _Links) -> None:
    """Sort each layer by the mean place of its neighbours, down and up in turns."""
    up, down = _neighbours(links)
    for sweep in range(_SWEEPS):
        near, order = (up, layers[1:]) if sweep % 2 == 0 else (down, layers[-2::-1])
        rank = {place: i for layer in layers for i, place in enumerate(layer)}
        for layer in order:
            layer.sort(key=lambda place: _mean([rank[n] for n in near.get(place, ())], rank[place]))
            rank.update({place: i for i, place in enumerate(layer)})


def _positions(layers: Sequence[Sequence[int]], links: _Links, boxes: int) -> dict[int, float]:
    """Return the middle of each place, in pixels."""
    up, down = _neighbours(links)
    width = {place: _BOX_WIDTH if place < boxes else _PLACE_WIDTH for layer in layers for place in layer}
    x: dict[int, float] = {}
    for layer in layers:
        x.update(zip(layer, _apart([0.0] * len(layer), [width[place] for place in layer]), strict=True))
    for sweep in range(_SWEEPS):
        near, order = (up, layers[1:]) if sweep % 2 == 0 else (down, layers[-2::-1])
        for layer in order:
            wanted = [_mean([x[n] for n in near.get(place, ())], x[place]) for place in layer]
            x.update(zip(layer, _apart(wanted, [width[place] for place in layer]), strict=True))
    return x


def _apart(wanted: Sequence[float], widths: Sequence[int]) -> list[float]:
    """Return the positions nearest to ``wanted`` (least squares) that keep order and distance."""
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + _GAP)
    blocks: list[tuple[float, int]] = []  # sum and count of places that move together
    for position, offset in zip(wanted, offsets, strict=True):
        total, count = position - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            earlier, more = blocks.pop()
            total, count = total + earlier, count + more
        blocks.append((total, count))
    means = [total / count for total, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _neighbours(links: _Links) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    up: dict[int, list[int]] = {}
    down: dict[int, list[int]] = {}
    for a, b in links:
        up.setdefault(b, []).append(a)
        down.setdefault(a, []).append(b)
    return up, down


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _svg(boxes: Sequence[_Box], layers: Sequence[Sequence[int]], links: _Links, x: dict[int, float]) -> str:
    left = min(x.values()) - _BOX_WIDTH / 2 - _GAP
    width = max(x.values()) + _BOX_WIDTH / 2 + _GAP - left
    height = len(layers) * _LAYER_HEIGHT
    y = {place: depth * _LAYER_HEIGHT + _GAP for depth, layer in enumerate(layers) for place in layer}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" role="img"><title>Network of {len(boxes)} kernels, inputs and '
        f"outputs</title><style>{_STYLE}</style>"
    ]
    for a, b in links:
        start = y[a] + (_BOX_HEIGHT if a < len(boxes) else 0)
        if a >= len(boxes):
            parts.append(f'<path class="edge" d="M{x[a]:.0f} {start}v{_BOX_HEIGHT}"/>')
            start += _BOX_HEIGHT
        half = (start + y[b]) / 2
        curve = f"{x[a]:.0f} {half:.0f} {x[b]:.0f} {half:.0f} {x[b]:.0f} {y[b]}"
        parts.append(f'<path class="edge" d="M{x[a]:.0f} {start}C{curve}"/>')
    parts += [_box_svg(box, x[place], y[place]) for place, box in enumerate(boxes)]
    return "".join([*parts, "</svg>"])


def _box_svg(box: _Box, x: float, y: float) -> str:
    kind = box.kind if len(box.kind) <= 30 else box.kind[:29] + "…"
    return (
        f'<g><title>{escape(box.tooltip)}</title><rect class="box {box.family}" x="{x - _BOX_WIDTH / 2:.0f}" y="{y}" '
        f'width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="5"/>'
        f'<text class="kind" x="{x:.0f}" y="{y + 17}" text-anchor="middle">{escape(kind)}</text>'
        f'<text class="shape" x="{x:.0f}" y="{y + 32}" text-anchor="middle">{escape(box.shape)}</text></g>'
    )
