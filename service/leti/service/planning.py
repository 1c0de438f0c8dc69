"""Planning a campaign: samples and networks of a request become one list of networks that can be exported."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from leti.core.codec import Json, to_json
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, LetiError
from leti.core.farm import Campaign, CampaignRequest, Sample
from leti.core.patches import CompressedSample
from leti.core.wire import MAX_SEED
from leti.service.answering.reading import Reader
from leti.service.catalogue import check_count
from leti.service.choosing import Chooser
from leti.service.compressed import MAX_FORMS, draw_forms
from leti.service.model_files import ModelFiles, check_held
from leti.service.settings import Settings
from leti.service.store import KnownNetwork, NewCampaign, Store

MAX_REPEATS = 100

MAX_PRIORITY = 100
"""A campaign's priority goes from minus this to this."""

_LATER: Final[Mapping[str, Json]] = {
    "priority": 0,
    "profile": True,
    "sampling": "random",
    "compressed": [],
    "baseline": None,
}
"""Fields of a request that releases before this one did not know, and what their campaigns are found by."""
_NONE: Final = object()


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """How many networks a campaign has, how many of them are measured several times, and its measurements in all.

    Of a baseline's measurements only the first is counted: how often it takes it again, agents decide.
    """

    networks: int
    repeated: int
    jobs: int


@final
class Planner:
    """Creates campaigns; a campaign that is there already is found, not queued twice."""

    def __init__(self, store: Store, models: ModelFiles, settings: Settings, chooser: Chooser) -> None:
        self._store = store
        self._chooser = chooser
        self._models = models
        self._settings = settings

    def create(self, request: CampaignRequest) -> tuple[Campaign, bool]:
        """Return the campaign that a request describes, and whether it is new.

        Every network is taken in the precision of the platform's models. One that cannot be written in the format that
        its runtime loads is refused here and not on a device; files are written when an agent asks for them. Raises
        :class:`InvalidInput` naming the field, :class:`NotFound` for the platform and :class:`Conflict` where the name
        stands for other content.
        """
        self._check(request)
        content = to_json(request)
        digest = _digest(content)
        found = self._store.campaigns.find(request.platform_id, request.name, digest)
        if found is not None:
            return found, False
        platform = self._store.platforms.platform(request.platform_id)
        check_held(platform.model_precision, platform.model_format, "platform_id")
        known, remark = self._resolve(request, platform.model_precision)
        bases, forms = self._compressed(request, platform.model_precision)
        known = {item.network.fingerprint: item for item in forms} | known
        baseline = self._baseline(request, platform.model_precision)
        measured = list(known.values()) + ([] if baseline is None else [baseline])
        self._store.networks.add([*bases, *measured])  # also where one is refused, by its fingerprint
        for refusal in self._models.refusals(measured, platform.model_format).values():
            raise refusal
        campaign, new = self._store.campaigns.create(
            NewCampaign(
                request.name,
                request.platform_id,
                request.zero,
                content,
                digest,
                tuple(known),
                request.repeats,
                _counted(request, len(known)).repeated,
                request.priority,
                request.profile,
                None if baseline is None else baseline.network.fingerprint,
            )
        )
        return (replace(campaign, remark=remark) if new and remark else campaign), new

    def count(self, request: CampaignRequest) -> Counted:
        """Return what a campaign would come to, before its networks are read; raise :class:`InvalidInput` as above."""
        self._check(request)
        return _counted(request, _networks_of(request))

    def _check(self, request: CampaignRequest) -> None:
        if not 1 <= len(request.name.strip()) <= 200:
            raise InvalidInput("must be 1 to 200 characters", field="name")
        if not 1 <= request.repeats <= MAX_REPEATS:
            raise InvalidInput(f"must be from 1 to {MAX_REPEATS}, not {request.repeats}", field="repeats")
        if not 0 <= request.repeat_share <= 1:
            raise InvalidInput(f"must be from 0 to 1, not {request.repeat_share}", field="repeat_share")
        if abs(request.priority) > MAX_PRIORITY:
            raise InvalidInput(
                f"must be from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {request.priority}", field="priority"
            )
        _check_samples("samples", request.samples)
        _check_samples("compressed", request.compressed)
        check_count(sum(sample.count for sample in request.compressed), MAX_FORMS, "compressed")
        count = _networks_of(request)
        if not count:
            raise InvalidInput(
                "names no network", field="samples", remedy="give samples, networks, or networks to be compressed"
            )
        check_count(count, self._settings.max_campaign_networks, "samples" if request.samples else "networks")

    def _resolve(self, request: CampaignRequest, precision: ModelPrecision) -> tuple[dict[str, KnownNetwork], str]:
        """Return the networks by fingerprint, each once, and a remark on how they were chosen."""
        known: list[KnownNetwork] = []
        remarks: list[str] = []
        for i, sample in enumerate(request.samples):
            try:
                chosen, remark = self._chooser.choose(
                    sample, request.sampling, request.platform_id, request.zero, precision
                )
                known += chosen
                remarks += [remark] if remark and remark not in remarks else []
            except InvalidInput as error:
                error.field = f"samples[{i}].{error.field}" if error.field else f"samples[{i}]"
                raise
        if request.networks:
            known += self._named(request, precision)
        return {item.network.fingerprint: item for item in known}, "; ".join(remarks)

    def _compressed(
        self, request: CampaignRequest, precision: ModelPrecision
    ) -> tuple[list[KnownNetwork], list[KnownNetwork]]:
        """Return the bases that a request has compressed, and their compressed forms."""
        bases: list[KnownNetwork] = []
        forms: list[KnownNetwork] = []
        for i, sample in enumerate(request.compressed):
            base, drawn = draw_forms(sample, self._reader(), request.zero, precision, f"compressed[{i}]")
            bases.append(base)
            forms += drawn
        return bases, forms

    def _baseline(self, request: CampaignRequest, precision: ModelPrecision) -> KnownNetwork | None:
        """Return the network that a request has the others measured beside."""
        if request.baseline is None:
            return None
        return self._reader().one(request.baseline, request.zero, precision, "baseline").known()

    def _reader(self) -> Reader:
        return Reader(self._store, limit=self._settings.max_campaign_networks, graphs=self._settings.graph_limits)

    def _named(self, request: CampaignRequest, precision: ModelPrecision) -> list[KnownNetwork]:
        """Return the networks that a request gives, in any of the forms that a prediction takes."""
        found = []
        for item in self._reader().named(request.networks, request.zero, precision):
            if isinstance(item, LetiError):
                raise item
            found.append(item.known())
        return found


def _networks_of(request: CampaignRequest) -> int:
    drawn = [sample.count for sample in request.samples] + [sample.count for sample in request.compressed]
    return sum(drawn) + len(request.networks)


def _check_samples(field: str, samples: Sequence[Sample | CompressedSample]) -> None:
    for i, sample in enumerate(samples):
        if sample.count < 1:
            raise InvalidInput(f"must be 1 or more, not {sample.count}", field=f"{field}[{i}].count")
        if not 0 <= sample.seed <= MAX_SEED:
            raise InvalidInput(f"must be from 0 to {MAX_SEED}", field=f"{field}[{i}].seed")


def _counted(request: CampaignRequest, networks: int) -> Counted:
    repeated = math.ceil(request.repeat_share * networks) if request.repeats > 1 else 0
    jobs = networks + repeated * (request.repeats - 1) + (request.baseline is not None)
    return Counted(networks, repeated, jobs)


def _digest(content: Mapping[str, Json]) -> str:
    """Return a SHA-256 of a request's content; fields that came later do not count while they are at their default."""
    said = {name: value for name, value in content.items() if _LATER.get(name, _NONE) != value}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
