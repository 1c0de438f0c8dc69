"""What is published: a wheel built from the sdist serves on an empty folder."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
EXTRAS = "service,agent,export,boosting"

UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from it."""
    pytest.importorskip("build", reason="builds need leti[dev]")
    pytest.importorskip("hatchling", reason="builds need leti[dev]")
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


def test_sdist_and_wheel_hold_every_room(wheel: Path) -> None:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/LICENSE") for name in archive.getnames())
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for path in ROOT.glob("*/leti/**/*.py"):
        room = ROOT / path.relative_to(ROOT).parts[0]
        assert path.relative_to(room).as_posix() in names
    assert not any(name.startswith("tests/") for name in names)


def _brought_by(wheel: Path, extra: str) -> set[str]:
    """Return the names of the distributions that an extra of the wheel asks for, the base's among them."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    found = set()
    for text in metadata.get_all("Requires-Dist", []):
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        if wanted.name != "leti":
            found.add(wanted.name)
        for more in wanted.extras if wanted.name == "leti" else ():
            found |= _brought_by(wheel, more)
    return found


def test_the_client_brings_httpx_and_no_more(wheel: Path) -> None:
    assert _brought_by(wheel, "") == _brought_by(wheel, "client") == {"httpx", "typing-extensions"}
    for extra in ("cli", "agent", "onnxruntime", "export", "boosting", "service", "plot", "all"):
        assert "typer" in _brought_by(wheel, extra), extra


ALONE = """
import sys
from importlib.abc import MetaPathFinder

THERE = {"leti", "httpx", "httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "typing_extensions"}

class Nothing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in THERE and top not in sys.stdlib_module_names and not top.startswith("__editable__"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Nothing())
from leti.client import AsyncLatencyClient, LatencyClient
LatencyClient("http://127.0.0.1:1").close()
AsyncLatencyClient("http://127.0.0.1:1")
sys.argv = ["leti", "--version"]
from leti.cli.start import main
main()
"""


def test_the_client_needs_httpx_and_no_more_and_the_command_says_what_it_misses() -> None:
    ran = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr == "leti: typer is not installed (pip install 'leti[cli]')\n"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with the service's extras into an environment of its own; return its `leti`."""
    if UV is None:
        pytest.skip("uv is not installed")
    environment = tmp_path_factory.mktemp("fresh environment")
    _run(UV, "venv", "--quiet", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    install = [UV, "pip", "install", "--quiet", "--python", str(python), "-c", str(ROOT / "constraints.txt")]
    wanted = f"leti[{EXTRAS}] @ {wheel.as_uri()}"
    if subprocess.run([*install, "--offline", wanted], capture_output=True, check=False).returncode != 0:
        _run(*install, wanted)
    return environment / "bin" / "leti"


def test_the_wheel_serves_on_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "empty folder"
    cell = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    for url in _serving(installed, home):
        assert httpx.get(f"{url}/v1/health", timeout=60).json()["status"] == "ok"
        answer = httpx.post(f"{url}/v1/networks", json={"networks": [cell]}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()[0]["fingerprint"]) == 64
    assert (home / "leti.sqlite").is_file()


def test_the_wheel_brings_no_torch_and_no_tensorflow(installed: Path) -> None:
    found = [path.name for path in (installed.parents[1] / "lib").glob("python*/site-packages/*")]
    assert not {"torch", "tensorflow", "keras"} & set(found)


def _serving(leti: Path, home: Path) -> Iterator[str]:
    command = [str(leti), "serve", "--no-auth", "--home", str(home), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("LETI serves "):
                    yield next(word for word in line.split() if word.startswith("http://"))
                    break
            else:
                pytest.fail("the service ended before it served")
        finally:
            process.terminate()
            process.stdout.read()
            process.wait()


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
