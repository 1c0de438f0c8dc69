"""The rules of the house that no linter knows."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]
SOURCES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_namespace_root(room: str) -> None:
    assert not (ROOT / room / "leti" / "__init__.py").exists(), "it would hide the other rooms"
    assert (ROOT / room / "leti" / room / "py.typed").is_file()


def test_every_room_is_packaged() -> None:
    rooms = sorted(path.parents[1].name for path in ROOT.glob("*/leti/*/py.typed") for path in [path.parent])
    assert rooms == sorted(ROOMS)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == [f"{room}/leti" for room in ROOMS]
    assert wheel["sources"] == ROOMS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "split the file"
    imported = {
        name
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    refused = {"pickle", "cloudpickle", "joblib", "tensorflow"}
    if "importers/keras/" not in str(path):
        refused.add("keras")  # it brings tensorflow
    assert not {name.split(".")[0] for name in imported} & refused
    assert "shell=True" not in text


def test_core_needs_the_standard_library_alone() -> None:
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for module in modules:
                top = module.split(".")[0]
                assert top in sys.stdlib_module_names or module.startswith("leti.core"), f"{path.name}: {module}"


def test_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys, leti.cli.main; heavy = {'numpy', 'sklearn', 'xgboost', 'fastapi', 'sqlalchemy', 'torch', "
        "'tensorflow', 'altair', 'ai_edge_litert'} & set(sys.modules); print(sorted(heavy)); sys.exit(bool(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_constraints_say_torch_plainly_and_ci_says_its_build() -> None:
    users = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in users
    assert not any("+cpu" in line for line in users)
    assert "torch==2.13.0+cpu" in (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_changelog_knows_the_version() -> None:
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
