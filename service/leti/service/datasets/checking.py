"""Checking: what a file says of networks is worked out anew, and what it says of truths must fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, final

from leti.core.datasets import DatasetHeader, DatasetRow, Part
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.measurement import OperatorTime, Truth
from leti.core.wire import MAX_SEED, Zero
from leti.generator.spaces import parse_network
from leti.service.catalogue import name_network
from leti.service.settings import GraphLimits
from leti.service.specless import name_graph
from leti.service.store import DatasetItem, KnownNetwork

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")

CLOSE: Final = 1e-9
"""How far a latency may be from its ratio times the reference latency: what another writer of numbers may round."""


def check_header(header: DatasetHeader) -> KnownNetwork:
    """Return the reference network that a header names; raise :class:`InvalidInput` naming what cannot be."""
    _check(header.reference_latency_ms > 0, "must be above 0", "dataset.reference_latency_ms")
    _check(0 <= header.holdout_share < 1, "must be from 0 to 1", "dataset.holdout_share")
    _check(0 <= header.seed <= MAX_SEED, f"must be from 0 to {MAX_SEED}", "dataset.seed")
    _check(header.reference_version > 0, "must be above 0", "dataset.reference_version")
    precision = header.platform.model_precision
    reference = _lowered(header.reference_spec, header.reference_zero, precision, "dataset.reference_spec")
    _check_name(header.reference, reference, "dataset.reference")
    return reference


@final
class Rows:
    """The rows of one file, checked one by one and taken together: their items by part, and their operator times."""

    def __init__(self, header: DatasetHeader, graphs: GraphLimits) -> None:
        self._header = header
        self._graphs = graphs
        self._sides: dict[str, Part] = {}
        self._known: set[str] = set()
        self.parts: Final[Mapping[Part, list[DatasetItem]]] = {"train": [], "test": []}
        self.profiles: Final[dict[str, tuple[OperatorTime, ...]]] = {}

    def take(self, row: DatasetRow) -> KnownNetwork:
        """Take a row, and return its network; raise :class:`InvalidInput` naming the column that does not fit."""
        where = f"rows[{len(self._known)}]"
        _check(row.fingerprint not in self._known, "is there twice", f"{where}.fingerprint")
        self._check_truth(row, where)
        known = self._network(row, where)
        self._check_side(row, known, where)
        self._known.add(row.fingerprint)
        item = DatasetItem(row.fingerprint, row.space, row.group, Truth(row.ratio, row.count, row.spread))
        self.parts[row.part].append(item)
        if row.operator_times:
            self.profiles[row.fingerprint] = row.operator_times
        return known

    def end(self) -> None:
        """Raise :class:`InvalidInput` where there are not as many rows as the header says, or a part is empty."""
        said: Mapping[Part, int] = {"train": self._header.networks_train, "test": self._header.networks_holdout}
        for part, items in self.parts.items():
            _check(len(items) == said[part], f"has {len(items)} rows of {part}, and should have {said[part]}", "rows")
            _check(bool(items), f"has no row of {part}", "rows")

    def _check_truth(self, row: DatasetRow, where: str) -> None:
        _check(row.ratio > 0, "must be above 0", f"{where}.ratio")
        _check(0 < row.count < 2**31, "must be from 1 to 2147483647", f"{where}.count")
        _check(row.spread >= 0, "must be 0 or more", f"{where}.spread")
        latency_ms = row.ratio * self._header.reference_latency_ms
        fits = math.isclose(row.latency_ms, latency_ms, rel_tol=CLOSE)
        _check(fits, f"must be the ratio times the reference latency, {latency_ms!r}", f"{where}.latency_ms")

    def _network(self, row: DatasetRow, where: str) -> KnownNetwork:
        if row.spec is None and row.graph is None:
            raise InvalidInput("must be there where there is no graph", field=f"{where}.spec")
        _check(row.spec is None or row.graph is None, "must not stand beside a spec", f"{where}.graph")
        if row.spec is not None:
            known = _lowered(row.spec, row.zero, self._header.platform.model_precision, f"{where}.spec")
        else:
            from leti.service.answering.graphs import read_graph  # brings numpy

            graph, spec = read_graph(row.graph, row.zero, f"{where}.graph", self._graphs)
            _check(spec is None, "is of a search space: give its spec", f"{where}.graph")
            known = name_graph(graph, "graph")
        _check_name(row.fingerprint, known, f"{where}.fingerprint")
        for name in ("space", "precision"):
            told, found = getattr(row, name), getattr(known.network, name)
            _check(told == found, f"must be {found!r} by the network, not {told[:80]!r}", f"{where}.{name}")
        wanted = self._header.platform.model_precision
        fits = row.precision in (wanted, "float32")  # a network without anything to quantise stays float32
        _check(fits, f"must be the platform's, {wanted}", f"{where}.precision")
        return known

    def _check_side(self, row: DatasetRow, known: KnownNetwork, where: str) -> None:
        """Check the class that is said of a network, and that it stands on one side as a whole.

        One that was known without its spec when the dataset was frozen was a class of its own then; one that has none
        may be of the class of the network that it was compressed from, which only the file knows.
        """
        network = known.network
        group = f"{network.space}:{network.isomorphism_class}"
        named = row.group in (group, f":{row.fingerprint}") or (row.spec is None and ":" in row.group)
        _check(named, f"must be {group!r} by the network", f"{where}.group")
        for name in {group, row.group}:
            before = self._sides.setdefault(name, row.part)
            _check(before == row.part, f"stands on both sides: an earlier row is of {before}", f"{where}.group")


def _lowered(said: dict[str, Any], zero: Zero, precision: ModelPrecision, where: str) -> KnownNetwork:
    try:
        return name_network(parse_network(said, where), zero, precision)
    except InvalidInput as error:
        if not error.field.startswith(where):
            error.field = f"{where}.{error.field}" if error.field else where
        raise


def _check_name(said: str, known: KnownNetwork, where: str) -> None:
    _check(bool(_FINGERPRINT.fullmatch(said)), "must be 64 hexadecimal digits", where)
    found = known.network.fingerprint
    if said != found:
        raise InvalidInput(
            f"is not the network's, which is {found}", field=where, remedy="export it with the same release of LETI"
        )


def _check(fits: bool, reason: str, where: str) -> None:
    if not fits:
        raise InvalidInput(reason, field=where)
