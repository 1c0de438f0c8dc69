"""Plugins of packages that are really on the path: modules with metadata, as an installer leaves them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from leti.core import plugins
from leti.core.errors import InvalidInput, MissingExtra
from leti.core.plugins import PluginGroup

GROUP = "leti.tests"


class Promise(ABC):
    name: ClassVar[str]

    @abstractmethod
    def keep(self) -> int: ...


class DataPromise(Protocol):
    """A protocol with a data member, as Predictor is."""

    kind: ClassVar[str]


HEAD = f"from {__name__} import DataPromise, Promise\n"
KEPT = f"{HEAD}class Kept(Promise):\n    name = 'kept'\n    def keep(self): return 1\n"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package with one module and its entry points on the path."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(package: str, source: str, **entries: str) -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = "".join(f"{name} = {module}:{place}\n" for name, place in entries.items())
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
        plugins._found.cache_clear()

    yield put
    plugins._found.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def group(**more: object) -> PluginGroup:
    return PluginGroup(GROUP, Promise, **{"named_by": "name", **more})  # type: ignore[arg-type]


def test_without_plugins_there_are_none(install: Install) -> None:
    assert group().names() == ()
    assert group().package("kept") == ""


def test_a_plugin_is_listed_and_loaded(install: Install) -> None:
    install("their-package", KEPT, kept="Kept")
    assert group().names() == ("kept",)
    assert group().package("kept") == "their-package 1.5"
    assert group().load("kept")().keep() == 1


def test_listing_imports_nothing(install: Install) -> None:
    install("their-package", "raise SystemExit('imported')", b="B", a="A")
    assert group().names() == ("a", "b")


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        ("import module_that_nobody_has", "Kept", "ModuleNotFoundError: No module named 'module_that_nobody_has'"),
        ("raise RuntimeError('no device\\nsecond line')", "Kept", "RuntimeError: no device"),
        ("raise RuntimeError", "Kept", "RuntimeError"),
        ("def (", "Kept", "SyntaxError"),
        ("", "Kept", "AttributeError"),
        ("class Kept: name = 'kept'", "Kept", f"inherits {__name__}.Promise"),
        ("Kept = 3", "Kept", "is no class"),
        (f"{KEPT}made = Kept()", "made", "is no class"),
        (f"{HEAD}class Kept(Promise): name = 'kept'", "Kept", "lacks keep"),
        (KEPT.replace("'kept'", "'other'"), "Kept", "has name = 'other', not 'kept'"),
        (KEPT.replace("name = ", "title = "), "Kept", "has name = None, not 'kept'"),
    ],
)
def test_a_plugin_that_cannot_be_used_names_its_package(install: Install, source: str, place: str, said: str) -> None:
    install("their-package", source, kept=place)
    with pytest.raises(MissingExtra, match=r"their-package 1\.5") as caught:
        group().load("kept")
    assert said in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert caught.value.details["package"] == "their-package 1.5"


def test_what_a_plugin_itself_says_is_missing_stays_as_it_is(install: Install) -> None:
    source = "from leti.core.extras import needs\nwith needs('gcn'):\n    import module_that_nobody_has"
    install("their-package", source, kept="Kept")
    with pytest.raises(MissingExtra, match=r"leti\[gcn\]"):
        group().load("kept")


def test_a_protocol_with_data_is_a_promise_too(install: Install) -> None:
    install(
        "their-package",
        f"{HEAD}class Kept(DataPromise):\n    kind = 'kept'\nclass Other:\n    kind = 'kept'",
        kept="Kept",
    )
    assert PluginGroup(GROUP, DataPromise, named_by="kind").load("kept").kind == "kept"
    with pytest.raises(MissingExtra, match="no class that inherits"):
        PluginGroup(GROUP, Promise).load("kept")


def test_two_packages_of_one_name_are_refused_when_it_is_asked_for(install: Install) -> None:
    install("one-package", KEPT, kept="Kept", free="Kept")
    install("two-package", KEPT, kept="Kept")
    assert group().names() == ("free", "kept")
    with pytest.raises(MissingExtra, match=r"one-package 1\.5") as caught:
        group().load("kept")
    assert "two-package 1.5" in str(caught.value)
    assert group(named_by="").load("free")().keep() == 1


def test_a_plugin_cannot_replace_what_is_built_in(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("their-package", KEPT, kept="Kept", more="Kept")
    with caplog.at_level(logging.WARNING):
        assert group(builtin=("kept",)).names() == ("more",)
        assert group(builtin=("kept",)).names() == ("more",)
    (warning,) = caplog.messages
    assert "their-package 1.5" in warning
    assert "'kept'" in warning


def test_a_name_that_cannot_be_stored_is_refused(install: Install) -> None:
    install("their-package", KEPT, **{"a,b": "Kept", "x" * 65: "Kept"})
    for name in group().names():
        with pytest.raises(MissingExtra, match="cannot be stored"):
            group().load(name)


def test_the_rooms_use_plugins(install: Install) -> None:
    from leti.core.errors import InvalidSpec
    from leti.device_agents import backends
    from leti.generator import spaces
    from leti.predictors import registry

    assert (spaces.PLUGINS.group, spaces.PLUGINS.promise) == ("leti.spaces", spaces.SearchSpace)
    assert (registry.PLUGINS.group, registry.PLUGINS.named_by) == ("leti.predictors", "kind")
    assert backends.PLUGINS.group == "leti.backends"
    for call, error in (
        (spaces.get_space, InvalidSpec),
        (registry.create, InvalidInput),
        (backends.create, InvalidInput),
    ):
        with pytest.raises(error):
            call("kept")
