"""Measuring what was asked for: networks without a measurement are queued on their platform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from leti.core.device import Platform
from leti.core.errors import MeasurementFailed, TooLarge
from leti.service.answering.answers import PlatformAnswers
from leti.service.answering.reading import Named
from leti.service.model_files import ModelFiles, check_held
from leti.service.store import Store


@final
class Asker:
    """Queues networks to be measured because their latency was asked for."""

    def __init__(self, store: Store, models: ModelFiles, *, limit: int) -> None:
        self._store = store
        self._models = models
        self._limit = limit

    def ask(self, platform: Platform, found: PlatformAnswers, networks: Mapping[str, Named]) -> None:
        """Queue what is not measured on a platform, and note in ``found`` how much that was, and what cannot be.

        A network that no model file can be written of is told here and not on a device; files are written when an
        agent asks for them. Raises :class:`TooLarge` where there are more than one request may queue, and
        :class:`InvalidInput` where the files of the platform's runtime do not hold networks of its precision.
        """
        wanted = {name: item for name, item in networks.items() if not _is_measured(found, name)}
        if len(wanted) > self._limit:
            raise TooLarge(
                f"holds {len(wanted)} networks that are not measured on {found.platform_id}",
                field="networks",
                remedy=f"have at most {self._limit} of them measured by one request",
                limit=self._limit,
            )
        if not wanted:
            return
        check_held(platform.model_precision, platform.model_format, "platform_ids")
        known = {name: item.known() for name, item in wanted.items()}
        self._store.networks.add(list(known.values()))
        found.unmeasurable.update(self._models.refusals(list(known.values()), platform.model_format))
        ready = [name for name in known if name not in found.unmeasurable]
        if ready:
            asked = self._store.asked.queue(found.platform_id, ready)
            found.queued, found.waiting = len(asked.queued), len(asked.waiting)
            found.unmeasurable.update((name, _tried(name, reason)) for name, reason in asked.failed.items())


def _is_measured(found: PlatformAnswers, name: str) -> bool:
    return name in found.answers and found.answers[name].measured


def _tried(name: str, reason: str) -> MeasurementFailed:
    return MeasurementFailed(
        f"was tried and failed: {reason}",
        field="networks",
        remedy="POST /v1/jobs/retry has it tried again",
        fingerprint=name,
    )
