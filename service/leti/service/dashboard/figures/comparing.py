"""Two platforms on the networks that are measured on both: does what is fast here stay fast there?"""

from __future__ import annotations

from typing import Final

import numpy as np

from leti.service.dashboard.figures.clouds import SPECLESS, Axis, Colour, cloud
from leti.service.dashboard.figures.figure import Column, Figure
from leti.service.dashboard.figures.forms import axis, bars, chart, mark
from leti.service.dashboard.figures.statistics import kendall, ranks, spearman
from leti.service.dashboard.words import digits, latency
from leti.service.store.truth_columns import CommonColumns

MOVED: Final = 20
"""Networks that are listed of those that change their rank most."""

SHARE: Final = "Measure the same networks on both: start a campaign of the same name, samples and seed on each."


def side_by_side(known: CommonColumns, here: str, there: str, colour: Colour) -> Figure:
    """Return the latency of each network on one platform against that on the other, by factors."""
    count = len(known.fingerprint)
    factor = float(np.median(known.there_ms / known.here_ms)) if count else 1.0
    ends = [float(known.here_ms.min()), float(known.here_ms.max())] if count else []
    drawn = cloud(
        known.fingerprint,
        known.space,
        Axis("here", f"{here}, ms", known.here_ms),
        Axis("there", f"{there}, ms", known.there_ms),
        colour=colour,
        scales=("log", "log"),
        marks=[mark(f"×{digits(factor)}", [(end, factor * end) for end in ends])],
    )
    says = ""
    if count:
        says = (
            f"On {count:,} network{'s' * (count > 1)} measured on both, {there} takes {factor:.3g} times as long as "
            f"{here} in the median. {_agreement(known)}"
        )
    return Figure("Latency on both platforms", says, drawn.columns, drawn.option, remedy=SHARE, notes=drawn.notes)


def _agreement(known: CommonColumns) -> str:
    rank, tau = spearman(known.here_ms, known.there_ms), kendall(known.here_ms, known.there_ms)
    if rank is None or tau is None:
        return "They are too few, or too much alike, to compare their order."
    swapped = 100 * (1 - tau) / 2
    return (
        f"Their order agrees with a Spearman correlation of {rank:.3f} and Kendall's tau of {tau:.3f}: of two "
        f"networks, the one that is faster here is slower there in {digits(swapped)} % of the cases."
    )


def by_space(known: CommonColumns, here: str, there: str) -> Figure:
    """Return how far the order of networks agrees within each space."""
    rows = []
    for name in sorted(set(known.space)):
        of = known.space == name
        a, b = known.here_ms[of], known.there_ms[of]
        rows.append((name or SPECLESS, len(a), spearman(a, b), kendall(a, b), float(np.median(b / a))))
    names = ("space", "networks", "spearman", "kendall", "factor")
    titles = ("space", "networks", "Spearman", "Kendall's tau", f"median of {there} / {here}")
    cells = list(zip(*rows, strict=True)) or [()] * len(names)
    columns = tuple(Column(*one) for one in zip(names, titles, cells, strict=True))
    ranked = [row for row in rows if row[2] is not None]
    says = "No space has enough networks on both platforms to compare their order."
    if ranked:
        best, worst = (pick(ranked, key=lambda row: row[2] or 0.0) for pick in (max, min))
        says = f"Within {best[0]} the order agrees best, with a Spearman correlation of {best[2]:.3f}"
        says += f"; within {worst[0]} least, with {worst[2]:.3f}." if worst is not best else "."
    option = chart(
        axis("space", "category"),
        axis("rank correlation", max=1) | {"scale": False},  # bars begin at 0
        [bars("space", "spearman", "Spearman"), bars("space", "kendall", "Kendall's tau")],
    )
    return Figure("Agreement by space", says, columns, option, remedy=SHARE)


def moved(known: CommonColumns, here: str, there: str) -> Figure:
    """Return the networks that change their rank most from one platform to the other."""
    count = len(known.fingerprint)
    first, second = ranks(known.here_ms), ranks(known.there_ms)
    change = 100 * (second - first) / max(count, 1)
    order = np.lexsort((known.fingerprint.astype(str), -np.abs(change)))[:MOVED]
    order = order[change[order] != 0]
    named = [
        f"{fingerprint[:8]} {space or SPECLESS}"
        for fingerprint, space in zip(known.fingerprint[order], known.space[order], strict=True)
    ]
    columns = (
        Column("fingerprint", "network", known.fingerprint[order].tolist(), links="/dashboard/networks/{}"),
        Column("named", "network and space", named, hidden=True),
        Column("change", "change of rank, % of the networks", change[order].tolist()),
        Column("space", "space", [name or SPECLESS for name in known.space[order]]),
        Column("here", f"{here}, ms", known.here_ms[order].tolist()),
        Column("there", f"{there}, ms", known.there_ms[order].tolist()),
        Column("rank_here", "rank here", first[order].tolist()),
        Column("rank_there", "rank there", second[order].tolist()),
    )
    says = "No network changes its rank." if count else ""
    if len(order):
        most = int(order[0])
        says = (
            f"Network {known.fingerprint[most][:12]} ({known.space[most] or SPECLESS}) changes most: rank "
            f"{first[most]:,.0f} of {count:,} on {here} ({latency(known.here_ms[most])}), {second[most]:,.0f} on "
            f"{there} ({latency(known.there_ms[most])}). Below 0, a network is faster there, among all, than here."
        )
    option = chart(
        axis("change of rank, % of the networks"),
        axis("", "category", inverse=True),
        [bars("change", "named", "change of rank")],
    )
    remedy = "Both platforms order their networks alike." if count else SHARE
    return Figure("Networks that change their rank most", says, columns, option, remedy=remedy)
