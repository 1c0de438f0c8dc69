"""What is known of networks, platforms and campaigns in sum, kept up to date with every result and every job's state.

All of it can be had from measurements and jobs; it is kept because these grow without end.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, Index, Integer, Table

from leti.service.tables.columns import Fingerprint, Id, Name, metadata

truths: Final = Table(
    "truths",
    metadata,
    Column("platform_id", Name, ForeignKey("platforms.id"), primary_key=True),
    Column("reference", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("fingerprint", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("ratio", Double, nullable=False),
    Column("count", Integer, nullable=False),
    Column("spread", Double, nullable=False),
    Column("newest", Id, ForeignKey("measurements.id"), nullable=False),
    Column("updated_at", Double, nullable=False),
    Index(None, "platform_id", "reference", "updated_at"),  # the newest of a platform, to be held against predictions
)

platform_totals: Final = Table(
    "platform_totals",
    metadata,
    Column("platform_id", Name, ForeignKey("platforms.id"), primary_key=True),
    Column("reference", Fingerprint, ForeignKey("networks.fingerprint"), primary_key=True),
    Column("on_time", BigInteger, nullable=False),  # noisy ones too
    Column("networks", BigInteger, nullable=False),
    Column("measurements", BigInteger, nullable=False),
    Column("agreement", JSON, nullable=False),
)

campaign_totals: Final = Table(
    "campaign_totals",
    metadata,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("queued", "leased", "done", "failed", "poison", "cancelled", "noisy")
    ),
)
