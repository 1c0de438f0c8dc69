"""Networks named by the segments of their graphs; axes counted from 0; kernels as LiteRT runs them.

The fingerprint of a graph is made in another way (``leti.graph.2``), the axis of a concatenation is no longer -1, and a
ReLU after an addition or a multiplication is a kernel of its own, which peak memory follows from. Every stored graph is
written anew, and what refers to it renamed. Model files carry the fingerprint: they are written anew when asked for.
Predictions kept for networks that are not stored keep the names that they had, and will not be scored.

Graphs of the first schema have one input and one output, as has each of their operators. What follows is a snapshot of
what the code did when this version was written; it imports nothing of it.

Revision: 0002
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COMMUTATIVE = {"add", "mul", "maximum", "minimum"}
KEEP_RELU_APART = {"add", "shift", "scale", "zero"}
REFERRING = (
    ("platforms", "reference"),
    ("reference_latencies", "reference"),
    ("jobs", "fingerprint"),
    ("dataset_items", "fingerprint"),
    ("measurements", "fingerprint"),
    ("measurements", "reference"),
    ("holdout_points", "fingerprint"),
    ("predictions", "fingerprint"),
)
CHUNK = 500

Graph = dict[str, Any]
Rows = Sequence[tuple[int, ...]]

networks = sa.table(
    "networks",
    *(
        sa.column(name)
        for name in (
            *("space", "spec", "zero", "isomorphism_class", "degenerate", "macs", "params"),
            *("fingerprint", "peak_memory_bytes", "graph", "model_sha256", "created_at"),
        )
    ),
)
measurements = sa.table("measurements", *map(sa.column, ("id", "measurement")))
renamed = sa.Table(
    "renamed_fingerprints",
    sa.MetaData(),
    sa.Column("old", sa.String(64), primary_key=True),
    sa.Column("new", sa.String(64), nullable=False),
    prefixes=["TEMPORARY"],
)


def upgrade() -> None:
    _rename(_modern, _segment_fingerprint)


def downgrade() -> None:
    """Name graphs as before; kernels and peak memory stay, which the release before reads as they are."""
    _rename(_ancient, _whole_fingerprint)


def _rename(rewrite: Callable[[Graph], None], name: Callable[[Graph], str]) -> None:
    connection = op.get_bind()
    names: dict[str, str] = {}
    copied = [column for column in networks.c if column.name not in _REWRITTEN]
    for old in connection.scalars(sa.select(networks.c.fingerprint)).all():
        row = connection.execute(sa.select(networks).where(networks.c.fingerprint == old)).one()
        graph = _unpacked(row.graph)
        rewrite(graph)
        names[old] = name(graph)
        rewritten = (
            sa.literal(names[old]),
            sa.literal(graph["peak_memory_bytes"], sa.BigInteger()),
            sa.literal(_packed(graph)),
            sa.null(),
        )
        copy = sa.select(*copied, *rewritten).where(networks.c.fingerprint == old)
        connection.execute(sa.insert(networks).from_select([*(c.name for c in copied), *_REWRITTEN], copy))
    if not names:
        return
    renamed.create(connection)
    for part in _chunks(list(names.items())):
        connection.execute(sa.insert(renamed), [{"old": old, "new": new} for old, new in part])
    for table_name, column_name in REFERRING:
        table = sa.table(table_name, sa.column(column_name))
        column = table.c[column_name]
        new = sa.select(renamed.c.new).where(renamed.c.old == column).scalar_subquery()
        connection.execute(sa.update(table).values({column_name: new}).where(column.in_(sa.select(renamed.c.old))))
    connection.execute(sa.delete(networks).where(networks.c.fingerprint.in_(sa.select(renamed.c.old))))
    renamed.drop(connection)
    for number in connection.scalars(sa.select(measurements.c.id)).all():
        row = connection.execute(sa.select(measurements.c.measurement).where(measurements.c.id == number)).one()
        measurement = _unpacked(row.measurement)
        for field in ("fingerprint", "reference"):
            measurement[field] = names.get(measurement[field], measurement[field])
        statement = sa.update(measurements).where(measurements.c.id == number)
        connection.execute(statement.values(measurement=_packed(measurement)))


_REWRITTEN = ("fingerprint", "peak_memory_bytes", "graph", "model_sha256")


def _chunks(items: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def _packed(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), 6)


def _unpacked(value: bytes) -> Any:
    return json.loads(zlib.decompress(value))


def _modern(graph: Graph) -> None:
    """Count axes from 0, and take ReLUs out of kernels that do not end in them."""
    for item in graph["ops"]:
        if item["kind"] == "concat" and item["attributes"]["axis"] < 0:
            item["attributes"]["axis"] += len(item["outputs"][0]["shape"])
    kernels = []
    for kernel in graph["kernels"]:
        apart = len(kernel) > 1 and graph["ops"][kernel[0]]["kind"] in KEEP_RELU_APART
        kernels += [[number] for number in kernel] if apart else [kernel]
    graph["kernels"] = sorted(kernels, key=lambda kernel: kernel[-1])
    graph["peak_memory_bytes"] = _peak_memory_bytes(graph)


def _ancient(graph: Graph) -> None:
    """Count axes of concatenations from the end."""
    for item in graph["ops"]:
        if item["kind"] == "concat":
            item["attributes"]["axis"] -= len(item["outputs"][0]["shape"])


def _peak_memory_bytes(graph: Graph) -> int:
    bits = {"float32": 32, "int32": 32, "float16": 16, "int8": 8, "uint8": 8, "int64": 64, "bool": 8}
    sizes = []
    for tensor in _tensors(graph):
        elements = 1
        for n in tensor["shape"]:
            elements *= n
        sizes.append(-(-elements * bits[tensor["dtype"]] // 8))
    read_by = [
        {source for number in kernel for source in graph["ops"][number]["inputs"]} for kernel in graph["kernels"]
    ]
    last_read = {value: step for step, values in enumerate(read_by) for value in values}
    last_read[graph["outputs"][0]] = len(read_by)
    now = peak = sizes[0]
    for step, (kernel, read) in enumerate(zip(graph["kernels"], read_by, strict=True)):
        made = {number + 1 for number in kernel}
        now += sum(sizes[value] for value in made if last_read[value] != step)
        peak = max(peak, now)
        now -= sum(sizes[value] for value in read - made if last_read[value] == step)
    return peak


class _Wired:
    """A stored graph's operators, each told what it is, and how they are wired; value 0 is the input."""

    def __init__(self, graph: Graph) -> None:
        ops = graph["ops"]
        read = {source for item in ops for source in item["inputs"]} | set(graph["outputs"])
        single = all(len(item["outputs"]) == 1 and item["inputs"] for item in ops)
        if not (single and len(graph["inputs"]) == len(graph["outputs"]) == 1 and read >= set(range(1, len(ops) + 1))):
            raise ValueError("a stored graph is not of the kind that the first schema kept")
        self.input = graph["inputs"][0]
        self.output: int = graph["outputs"][0]
        self.wiring = [tuple(item["inputs"]) for item in ops]
        self.commutes = [item["kind"] in COMMUTATIVE for item in ops]
        self.families = [[item["kind"], [[k, v] for k, v in sorted(item["attributes"].items())]] for item in ops]
        types = [{"shape": t["shape"], "dtype": t["dtype"]} for t in _tensors(graph)]
        self.reads = [[types[source] for source in sources] for sources in self.wiring]
        self.makes = [[made] for made in types[1:]]


def _tensors(graph: Graph) -> list[Any]:
    return [graph["inputs"][0], *(item["outputs"][0] for item in graph["ops"])]


def _sha256(data: Any) -> bytes:
    return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).digest()


def _segment_fingerprint(graph: Graph) -> str:
    """Return the fingerprint of version 2: the SHA-256 of the digests of segments, cut where one value crosses."""
    wired = _Wired(graph)
    signatures = []
    for family, commutes, read, made in zip(wired.families, wired.commutes, wired.reads, wired.makes, strict=True):
        inputs = sorted(read, key=json.dumps) if commutes else read
        signatures.append(_sha256(family)[:8] + _sha256([*family, inputs, made]))
    count = len(wired.wiring)
    last_read = {wired.output: count}
    for i, sources in enumerate(wired.wiring):
        for source in sources:
            last_read[source] = max(last_read.get(source, 0), i)
    cuts = [0, *(i for i in range(1, count) if sum(last_read[v] >= i for v in range(i + 1)) == 1), count]
    digests = []
    for start, end in itertools.pairwise(cuts):
        if start < end:
            wiring = [tuple(source - start for source in sources) for sources in wired.wiring[start:end]]
            digests.append(_segment_digest(signatures[start:end], wired.commutes[start:end], wiring))
    head = repr([(tuple(wired.input["shape"]), wired.input["dtype"])]).encode()
    return hashlib.sha256(b"leti.graph.2" + head + b"".join(digests)).hexdigest()


def _segment_digest(signatures: list[bytes], commutes: list[bool], wiring: Rows) -> bytes:
    order = sorted(set(signatures))
    classes = [order.index(signature) for signature in signatures]
    traits = tuple((commutes[signatures.index(signature)], 1) for signature in order)
    size = len(classes)
    readers: list[list[tuple[int, int]]] = [[] for _ in classes]
    for i, sources in enumerate(wiring):
        for place, source in enumerate(sources):
            if source:
                readers[source - 1].append((i, 0 if commutes[i] else place))
    depths, heights = [0] * size, [0] * size
    for i, sources in enumerate(wiring):
        depths[i] = max(depths[source - 1] + 1 if source else 0 for source in sources)
    for i in reversed(range(size)):
        heights[i] = max((heights[reader] + 1 for reader, _ in readers[i]), default=0)

    def read(i: int, colours: Sequence[int]) -> tuple[int, ...]:
        names = [1 + colours[source - 1] if source else 0 for source in wiring[i]]
        return tuple(sorted(names) if commutes[i] else names)

    def seen(i: int, colours: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
        leaving = [(-1, 0, 0)] if i == size - 1 else []
        return tuple(sorted([*((colours[reader], 0, place) for reader, place in readers[i]), *leaving]))

    def refined(
        levels: list[int], colours: list[int], see: Callable[[int, Sequence[int]], Any]
    ) -> tuple[list[int], int]:
        result, count = [0] * size, 0
        for level in range(max(levels) + 1):
            keys = {i: (colours[i], see(i, result)) for i in range(size) if levels[i] == level}
            ranks = {key: count + rank for rank, key in enumerate(sorted(set(keys.values())))}
            result = [ranks[keys[i]] if i in keys else colour for i, colour in enumerate(result)]
            count += len(ranks)
        return result, count

    colours, found = refined(depths, classes, read)
    before, turns = 0, 0
    while before < found < size:
        before, turns = found, turns + 1
        colours, found = refined(heights, colours, seen) if turns % 2 else refined(depths, colours, read)
    rows: list[tuple[Any, ...]]
    if found == size:
        rows = [(classes[i], read(i, colours)) for i in sorted(range(size), key=colours.__getitem__)]
    else:
        rows = sorted((classes[i], colours[i], read(i, colours), seen(i, colours)) for i in range(size))
    form = hashlib.sha256(repr((1, traits, rows, [1 + colours[-1]])).encode()).digest()
    return hashlib.sha256(form + b"".join(order)).digest()


def _whole_fingerprint(graph: Graph) -> str:
    """Return the fingerprint of version 1: colours of the whole graph, refined by digests in both directions."""
    wired = _Wired(graph)
    shape, dtype = tuple(wired.input["shape"]), wired.input["dtype"]
    entry = _digest(b"input", repr((0, shape, dtype)).encode())
    size = len(wired.wiring)

    def forward(colours: list[bytes]) -> list[bytes]:
        result: list[bytes] = []
        for sources, commutes, colour in zip(wired.wiring, wired.commutes, colours, strict=True):
            read = [result[source - 1] + b"\0" if source else entry for source in sources]
            result.append(_digest(b"f", colour, *(sorted(read) if commutes else read)))
        return result

    def backward(colours: list[bytes]) -> list[bytes]:
        readers: list[list[bytes]] = [[] for _ in colours]
        if wired.output:
            readers[wired.output - 1].append(b"r\0" + bytes(4))
        result = [b""] * size
        for i in reversed(range(size)):
            result[i] = _digest(b"b", colours[i], *sorted(readers[i]))
            for place, source in enumerate(wired.wiring[i]):
                if source:
                    slot = 0 if wired.commutes[i] else place
                    readers[source - 1].append(result[i] + b"\0" + slot.to_bytes(4, "big"))
        return result

    parts = zip(wired.families, wired.reads, wired.makes, strict=True)
    colours = [_sha256([*family, read, made]) for family, read, made in parts]
    distinct = 0
    while True:
        colours = backward(forward(colours))
        if len(set(colours)) == distinct:
            break
        distinct = len(set(colours))
    final = forward(colours)
    output = final[wired.output - 1] + b"\0" if wired.output else entry
    return hashlib.sha256(b"".join((b"leti.graph.1", entry, b"|", *sorted(final), b"|", output))).hexdigest()


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()
