"""Several devices at one host: an agent each, in a thread of its own, all stopped together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final, final

from leti.core.errors import InvalidInput
from leti.device_agents.worker import Agent, Summary

log = logging.getLogger(__name__)

GLANCE_S: Final = 0.5
"""The waiting thread looks up so often: only then does Python handle signals on every system."""


@final
class Fleet:
    """The agents of several devices; raises :class:`~leti.core.errors.InvalidInput` for a device with two of them."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        names = [agent.device.name for agent in agents]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise InvalidInput(f"device {name!r} has an agent already", field=f"agents[{i}]")
        self._agents = tuple(agents)

    def run(self, stop: threading.Event | None = None, *, until_idle: bool = False) -> Summary:
        """Let every agent work as :meth:`~leti.device_agents.worker.Agent.run` says; return what all did together.

        An agent that fails leaves the others at work; its error is raised when they are done.
        """
        stop = threading.Event() if stop is None else stop
        if len(self._agents) == 1:
            return self._agents[0].run(stop, until_idle=until_idle)
        done: list[Summary] = []
        errors: list[BaseException] = []

        def work(agent: Agent) -> None:
            try:
                done.append(agent.run(stop, until_idle=until_idle))
            except BaseException as error:  # noqa: BLE001 - raised again where the fleet is waited for
                log.error("the agent of %s ends: %s", agent.device.name, error)
                errors.append(error)

        threads = [threading.Thread(target=work, args=(agent,), name=agent.device.name) for agent in self._agents]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(GLANCE_S)
        except BaseException:
            stop.set()
            raise
        if errors:
            raise errors[0]
        return sum(done, Summary())
