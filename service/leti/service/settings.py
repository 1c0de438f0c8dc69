"""Settings of one service: handed in, never read at import. Where they come from is the business of `configuration`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar, final

from leti.core.errors import InvalidInput

T = TypeVar("T")

MIB = 1024 * 1024

_UNITS_S: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_RATE: Final = re.compile(rf"([1-9][0-9]{{0,9}})/({'|'.join(_UNITS_S)})")


def rate_of(text: str) -> tuple[int, float]:
    """Return how many may come in how many seconds, for an empty text any number; raise ``ValueError``."""
    if not text.strip():
        return 1, 0.0
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no rate: give one such as 600/minute")
    return int(found[1]), _UNITS_S[found[2]]


def networks_of(addresses: Sequence[str]) -> list[str]:
    """Return addresses as networks of one; raise ``ValueError`` for what is neither."""
    return [str(ipaddress.ip_network(one, strict=False)) for one in addresses]


def _is(
    default: T,
    doc: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    choices: Sequence[str] = (),
    reads: Callable[[T], object] | None = None,
    secret: bool = False,
) -> T:
    """Return a field by its default, its line of documentation, which values it takes, and whether it holds a secret.

    It is typed as its value, as type checkers see ``field(default=…)``; a secret is never shown. What ``reads`` it
    raises ``ValueError`` for a value that it does not take.
    """
    meta = {
        "doc": doc,
        "above": above,
        "at_least": at_least,
        "choices": tuple(choices),
        "reads": reads,
        "secret": secret,
    }
    made: T = field(default=default, metadata=meta, repr=not secret)
    return made


@final
@dataclass(frozen=True, slots=True)
class GraphLimits:
    """How large a graph from outside may be."""

    operators: int
    edges: int


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """Where a service keeps its things, and its limits.

    A new setting is one line here, with its default and what it means. It can then be set in ``leti.toml`` and as
    ``LETI_<NAME>``; ``leti settings --markdown > docs/settings.md`` puts it on the page. Raises :class:`InvalidInput`
    naming the field whose value it does not take.
    """

    home: Path = _is(Path("leti-home"), "Folder of the database, the model files and the predictors.")
    database_url: str = _is(
        "", "`postgresql://user:password@host/name` of the database; empty: SQLite inside `home`.", secret=True
    )
    migrate_on_start: bool = _is(
        True, "Whether a start brings an older schema to the newest version; else it refuses, and `leti migrate` does."
    )
    lease_s: float = _is(60.0, "Seconds after its last heartbeat until a lease runs out.", above=0)
    max_deaths: int = _is(3, "Leases that a job may outlive before it is set aside as poison.", above=0)
    gone_after_s: float = _is(120.0, "Seconds of silence after which a device is gone.", above=0)
    quarantine_after: int = _is(
        5,
        "Failures in a row (crashes and timeouts of different networks, agents that fell silent, faults of its own) "
        "after which a device is quarantined.",
        above=0,
    )
    artifacts_url: str = _is(
        "",
        "Where model files, predictors and uploads are kept: `s3://bucket/prefix`, or another address that fsspec "
        "knows, whose credentials come from the store's own configuration; empty: folders inside `home`.",
    )
    artifact_cache_bytes: int = _is(2048 * MIB, "Copies of artifacts of another machine kept inside `home`.", above=0)
    max_upload_bytes: int = _is(256 * MIB, "Largest model file that is uploaded.", above=0)
    max_dataset_bytes: int = _is(
        2048 * MIB,
        "Largest file of a dataset that is imported, and most text that a Parquet file unfolds to.",
        above=0,
    )
    max_dataset_networks: int = _is(100_000, "Most networks of a dataset that is imported.", above=0)
    parse_timeout_s: float = _is(
        60.0, "Seconds that reading an uploaded model file, or a Parquet file of a dataset, may take.", above=0
    )
    parse_memory_bytes: int = _is(
        4096 * MIB, "Address space of the process that reads such a file.", at_least=512 * MIB
    )
    min_networks: int = _is(
        20,
        "Fewest networks that every fit of a training gets, those of cross-validation too; no predictor takes fewer "
        "than 20, but one that is adapted from another platform's.",
        at_least=20,
    )
    task_timeout_s: float = _is(21_600.0, "Seconds that a worker gives one task before it ends it.", above=0)
    max_waiting_tasks: int = _is(1_000, "Most tasks of one kind that wait for one platform, or for none.", above=0)
    keep_tasks_days: float = _is(
        90.0, "Days after its end for which a task is kept, with its log, and an upload that came to nothing.", above=0
    )
    keep_failures_days: float = _is(
        365.0, "Days for which it is kept how jobs failed, and counted; the newest failure of a device stays.", above=0
    )
    keep_predictors: int = _is(
        100,
        "Newest predictors of each platform whose files are kept, beside as many that it can be rolled back to.",
        above=0,
    )
    predict_ahead: int = _is(
        20_000,
        "Largest search space, in networks, that a web process predicts ahead, on a tenth of a core, once it is asked "
        "for one of them; 0: none.",
        at_least=0,
    )
    keep_predictions: int = _is(
        1_000_000, "Most predictions that are kept to be scored against measurements; the oldest go first.", at_least=0
    )
    retrain_growth: float = _is(
        1.5,
        "How many times the networks of its newest dataset must be measured for a platform to be trained anew by "
        "itself; 1 or less: never.",
        at_least=0,
    )
    retrain_minimum: int = _is(0, "Fewest measured networks of a platform that is trained anew by itself.", at_least=0)
    max_body_bytes: int = _is(32 * MIB, "Largest body of a request.", above=0)
    max_batch: int = _is(10_000, "Most networks in one request.", above=0)
    max_graph_operators: int = _is(5_000, "Most operators of a graph in a request, or in an uploaded file.", above=0)
    max_graph_edges: int = _is(20_000, "Most values that the operators of such a graph read, all together.", above=0)
    max_campaign_networks: int = _is(5_000, "Most networks in one campaign.", above=0)
    max_lease_jobs: int = _is(64, "Most jobs in one lease.", above=0)
    receive_timeout_s: float = _is(30.0, "Seconds without a byte after which a request is given up.", above=0)
    keep_alive_s: int = _is(10, "Seconds that a connection stays open without a request.", above=0)
    stop_s: int = _is(10, "Seconds that requests in flight get when the service is told to stop.", above=0)
    drain_s: float = _is(
        0.0, "Seconds between being told to stop, when `/readyz` turns 503, and taking no more connections.", at_least=0
    )
    log_level: str = _is("info", "Least grave level that is logged.", choices=("debug", "info", "warning", "error"))
    log_format: str = _is(
        "auto",
        "`json`: a JSON object a line; `text`: for people; `auto`: text at a terminal.",
        choices=("auto", "json", "text"),
    )
    auth: bool = _is(
        True, "Whether requests need a token; without, only loopback is listened on, and whoever asks may do all."
    )
    rate_limit: str = _is(
        "6000/minute", "Most requests of one token, in each web process; empty: no limit.", reads=rate_of
    )
    agent_rate_limit: str = _is("60000/minute", "The same for tokens of agents.", reads=rate_of)
    trusted_proxies: tuple[str, ...] = _is(
        (),
        "Addresses or networks of proxies that are believed whose requests they pass on, and whether these came by "
        "https: `X-Forwarded-For`, `X-Forwarded-Proto`.",
        reads=networks_of,
    )
    failure_limit: str = _is(
        "30/minute", "Most requests with a wrong token from one address; empty: no limit.", reads=rate_of
    )
    session_s: float = _is(43_200.0, "Seconds after which a browser that signed in has to do so again.", above=0)
    request_timeout_s: float = _is(
        300.0, "Seconds after which a request whose answer has not begun is told that it takes too long.", above=0
    )
    max_requests: int = _is(1_000, "Most requests that are answered at the same time.", above=0)
    metrics_public: bool = _is(False, "Whether `/metrics` is answered without a token.")

    def __post_init__(self) -> None:
        """Refuse limits that nothing could meet."""
        for one in fields(self):
            refused = refusal(getattr(self, one.name), one.metadata)
            if refused:
                raise InvalidInput(refused, field=one.name)

    @property
    def graph_limits(self) -> GraphLimits:
        """How large a graph from outside may be."""
        return GraphLimits(self.max_graph_operators, self.max_graph_edges)

    @property
    def database_file(self) -> Path:
        """The embedded database's file."""
        return self.home / "leti.sqlite"

    @property
    def models(self) -> Path:
        """The folder of model files, each named by its SHA-256."""
        return self.home / "models"

    @property
    def predictors(self) -> Path:
        """The folder of saved predictors, each in a folder named by its SHA-256."""
        return self.home / "predictors"


def refusal(value: Any, meta: Mapping[str, Any]) -> str:
    """Return why a setting does not take ``value``, empty where it does."""
    if meta["above"] is not None and not value > meta["above"]:
        return f"must be above {meta['above']}, not {value}"
    if meta["at_least"] is not None and not value >= meta["at_least"]:
        return f"must be {meta['at_least']} or more, not {value}"
    if meta["choices"] and value not in meta["choices"]:
        return f"must be one of {', '.join(meta['choices'])}, not {value!r}"
    if meta["reads"] is not None:
        try:
            meta["reads"](value)
        except ValueError as error:
            return str(error)[:200]
    return ""
