"""From the network to a problem: what may become of each group, what it takes, and what it harms."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, final

from leti.compression.building import built
from leti.compression.pricing.by_cells import CellTable
from leti.compression.pricing.prices import Prices
from leti.compression.reconstructing import Reference
from leti.compression.searching.candidates import Costs, Problem, priced
from leti.compression.searching.harming import cross_entropy, harms, weight_errors
from leti.compression.searching.proposals import Proposals, proposals
from leti.compression.steps.run import Run
from leti.compression.steps.work import digest, json_form
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.patches import Patch
from leti.generator.compressing.pieces import Pieces
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np

_REFERENCE_SAMPLES: Final = 64  # that candidates are fitted to: each alone, hundreds of them


@final
@dataclass(frozen=True, slots=True, eq=False)
class Plans:
    """The problem as it is priced and before anything of it is measured, and the prices it comes from."""

    problem: Problem
    prices: Prices


def planned(run: Run, precision: ModelPrecision, factor: float) -> Plans:
    """Return the problem of what may become of a network in a precision, without dominated candidates.

    It is to be ``factor`` times as fast. Among the widths is the share of all channels that cuts multiply-accumulates
    by that: without it, the uniform plan would have to cut more than is asked of it. Raises
    :class:`~leti.core.errors.InvalidInput` where nothing may be changed.
    """
    asked = run.asked
    methods = set(asked.methods) - {"quantize"}
    # A table alone knows the usual widths: the uniform plan's own was that of the budget that it was measured for.
    found = (
        proposals(asked.network, methods) if asked.target.meter is None else _proposed(asked.network, methods, factor)
    )
    if not found.places:
        raise InvalidInput(
            f"leave nothing to be changed: {', '.join(asked.methods)}",
            field="methods",
            remedy="allow prune or low_rank",
        )
    prices = asked.target.prices[precision]
    said: ModelPrecision | Literal[""] = "" if precision == "float32" else precision
    rises = _harms(run, found)

    def price(patches: Sequence[Patch]) -> Costs:
        nonlocal prices
        prices = _with_all_cells(run, prices, patches)
        return prices.price(asked.network.graph, patches)

    problem = priced(found.candidates(rises), found.neighbours, price, precision=said, fit=found.fit)
    kept = problem.without_dominated()
    before, after = (sum(len(group.patches) for group in each.groups) for each in (problem, kept))
    run.notes.append(
        f"{before} candidates of {len(kept.groups)} groups and layers, and {len(kept.pairs)} pairs of neighbours, were "
        f"priced; {after} are left that no other beats."
    )
    return Plans(kept, prices)


def _proposed(network: Imported, methods: Collection[str], factor: float) -> Proposals:
    """Return what may become of a network, with the widths of the uniform plan among the usual ones."""
    found = proposals(network, methods)
    widths = {
        place.operators[0]: {w for patch in place.patches for w in patch.widths.values()}
        for place in found.places
        if place.group is not None and any(patch.widths for patch in place.patches)
    }
    channels = {place.operators[0]: place.channels for place in found.places}
    for percent in range(99, 0, -1):
        even = {number: max(round(percent / 100 * channels[number]), 1) for number in widths}
        if found.patching.patched(Patch(even)).graph.macs <= network.graph.macs / factor:
            together = {number: sorted({*known, even[number]}) for number, known in widths.items()}
            return proposals(network, methods, widths=together)
    return found


def _with_all_cells(run: Run, prices: Prices, patches: Sequence[Patch]) -> Prices:
    """Return prices that know every kernel of patched networks; a table of cells has what it lacks measured."""
    if not isinstance(prices, CellTable):
        return prices
    asked = run.asked
    path = run.work.path(f"cells-{digest(asked.target.name, asked.network.graph.fingerprint())}.npz")
    if path is not None and path.exists():
        kept = CellTable.load(path)
        prices = kept if len(kept) > len(prices) else prices
    pieces = Pieces(asked.network.graph)
    missing = prices.missing([asked.network.graph, *(pieces.patched(patch, "patches") for patch in patches)])
    if not missing:
        return prices
    if asked.target.meter is None:
        raise InvalidInput(
            f"lack {len(missing)} kernels of what may be done",
            field="platform.prices",
            remedy="allow the methods that the table was measured for, or give a meter",
        )
    run.notes.append(f"{len(missing)} kernels were measured by themselves: the table of prices lacked them.")
    with run.work.timed("prices"):
        return prices.filled(
            asked.target.meter, run.baseline_subject(), missing, path=path, progress=partial(run.tell, "prices")
        )


def _harms(run: Run, found: Proposals) -> tuple[tuple[float, ...], ...]:
    """Return what each candidate alone harms: on data, or by its weights."""
    asked = run.asked
    if asked.data is None:
        return weight_errors(asked.network, found)
    patches = [place.patches for place in found.places]
    score = cross_entropy(asked.data)
    images = next(iter(asked.data.calibrate()))[:_REFERENCE_SAMPLES]
    reference = Reference.of(asked.network, np.ascontiguousarray(images), seed=asked.seed)

    def build(network: Imported, patch: Patch) -> Imported:
        return built(network, patch, reference=reference, seed=asked.seed)

    cache = run.work.path("harms")
    rises: tuple[tuple[float, ...], ...] = run.work.kept(
        "sensitivity",
        "harms",
        [run.identity, asked.seed, patches],
        json_form(tuple[tuple[float, ...], ...]),
        lambda: harms(
            asked.network,
            found,
            score,
            build,
            cache=cache,
            evaluation=f"cross entropy of {run.identity}, fitted, seed {asked.seed}" if cache is not None else "",
            progress=partial(run.tell, "sensitivity"),
        ),
    )
    return rises
