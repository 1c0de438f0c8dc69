"""Trials: the network that the page for trying holds, as its address says it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final
from urllib.parse import urlencode

from leti.core.errors import InvalidInput, NotFound
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import MAX_SEED, Network, NetworkInput, Zero
from leti.generator.spaces import get_space, parse_choices
from leti.generator.spaces.space import SearchSpace, check_choices
from leti.service.catalogue import read_networks
from leti.service.store import Store
from leti.service.store.networks import DIGITS


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A network: choices in a space, where it has them, with the config of the network ``like``; else a fingerprint."""

    network: NetworkInput
    zero: Zero = "execute"
    space: str = ""
    choices: tuple[int, ...] = ()
    like: str = ""

    @property
    def said(self) -> dict[str, str]:
        """What an address says of it."""
        if not self.space:
            return {"network": str(self.network)}
        said = {"space": self.space, "v": ",".join(map(str, self.choices))}
        return {**said, "like": self.like} if self.like else said

    @property
    def query(self) -> str:
        """The query of its address."""
        return urlencode(self.said, safe=",")


@final
class Trials:
    """Reads trials; networks that are named by fingerprint, or hold a config, come from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, space: str, v: Sequence[str], like: str, network: str) -> Trial | None:
        """Return what an address says, ``None`` where it says nothing; choices that are left out are drawn.

        Raises :class:`InvalidInput` naming the field, and :class:`NotFound` for a network that is not known.
        """
        if network.strip():
            return self.given(network)
        if not space:
            return None
        found = get_space(space)
        if not "".join(v).strip():
            return self.drawn(found, like)
        return self._of(found, _numbers(",".join(v)), like)

    def given(self, text: str) -> Trial:
        """Return the network of a text: a fingerprint or its beginning, an architecture, or a spec as JSON.

        A spec whose config is not its space's own is kept by its fingerprint. Raises as :meth:`read` does.
        """
        text = text.strip()
        if text.startswith("{"):
            return self._spec(text)
        if 8 <= len(text) <= DIGITS and set(text) <= set("0123456789abcdef"):
            return self._known(text)
        space, choices = parse_choices(text, "network")
        return self._of(space, choices, "")

    def drawn(self, space: SearchSpace, like: str) -> Trial:
        """Return a network drawn at random."""
        config = self._config(space, like)[0]
        (spec,) = space.sample(1, secrets.randbelow(MAX_SEED + 1), config)
        return self._of(space, space.encode(spec), like)

    def mutated(self, trial: Trial) -> Trial:
        """Return a network one step away; raise :class:`InvalidInput` where it has no choices, or there is none."""
        if not trial.space:
            raise InvalidInput("has no choices to mutate", field="network", remedy="choose a search space")
        space = get_space(trial.space)
        near = space.neighbours(self._decoded(space, trial.choices, trial.like))
        if not near:
            raise InvalidInput("has no neighbours", field="network", remedy="draw one at random")
        return self._of(space, space.encode(secrets.choice(near)), trial.like)

    def _of(self, space: SearchSpace, choices: Sequence[int], like: str) -> Trial:
        spec = self._decoded(space, check_choices(choices, space.positions), like)
        return Trial(spec.to_json(), self._config(space, like)[1], space.name, tuple(choices), like)

    def _decoded(self, space: SearchSpace, choices: Sequence[int], like: str) -> NetworkSpec:
        spec = space.decode(choices, self._config(space, like)[0])
        space.check(spec)
        return spec

    def _config(self, space: SearchSpace, like: str) -> tuple[NetworkConfig, Zero]:
        """Return the config of a known network of the space and how it takes zeros, else what is the space's own."""
        if not like:
            return space.default_config, "execute"
        network = self._store.networks.get(like)
        if network.spec is None or network.space != space.name:
            raise InvalidInput(f"is no network of {space.name}", field="like", remedy="leave it out")
        return NetworkSpec.from_json(network.spec).config, network.zero

    def _known(self, digits: str) -> Trial:
        found = self._store.networks.newest(digits, None, None, 2)
        if len(found) != 1:
            many = (
                "several networks have fingerprints that begin" if found else "no network has a fingerprint that begins"
            )
            raise NotFound(f"{many} with {digits}", field="network", remedy="give all of its 64 digits")
        return self._of_network(self._store.networks.get(found[0].fingerprint))

    def _of_network(self, network: Network) -> Trial:
        if network.spec is None:
            return Trial(network.fingerprint, network.zero)
        spec = NetworkSpec.from_json(network.spec)
        space = get_space(network.space)
        own = spec.config == space.default_config and network.zero == "execute"
        return self._of(space, space.encode(spec), "" if own else network.fingerprint)

    def _spec(self, text: str) -> Trial:
        spec = NetworkSpec.loads(text)
        (known,) = read_networks((spec.to_json(),), "execute", "float32", limit=1)
        if spec.config != get_space(spec.space).default_config:
            self._store.networks.add([known])
        return self._of_network(known.network)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError as error:
        raise InvalidInput(
            f"{text[:60]!r} are no choices", field="v", remedy="whole numbers, commas between"
        ) from error
