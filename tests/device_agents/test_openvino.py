"""What is special about OpenVINO."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from leti.core.errors import MeasurementFailed

pytest.importorskip("openvino", reason="the openvino extra is not installed")
runtime = pytest.importorskip("leti.device_agents.desktop.openvino")

QUIET = """
import sys, threading
from leti.device_agents.backends import create
create("openvino")
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")), threading.active_count())
"""

PINNED = """
import os, sys
from pathlib import Path
from leti.device_agents.backends import create
core = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})
before = set(os.listdir("/proc/self/task"))
session = create("openvino", threads=2).load(Path(sys.argv[1]).read_bytes())
session.invoke()
started = set(os.listdir("/proc/self/task")) - before
print(len(started) > 0, all(os.sched_getaffinity(int(task)) == {core} for task in started))
"""


def test_nobody_is_told_that_it_was_imported(tmp_path: Path) -> None:
    """OpenVINO reports its imports to its makers, and keeps an identifier in the home folder for it."""
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    environment.pop("CI", None)
    ran = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout == "[] 1\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_threads_stay_where_the_process_is_pinned(models: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(models["small"])
    command = [sys.executable, "-c", PINNED, str(tmp_path / "model.tflite")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "True True\n"


def test_the_precision_is_what_was_asked_for_or_the_model_is_refused(models: dict[str, bytes]) -> None:
    """Asked for float16, processors without it compute in bfloat16 without a word."""
    offered = runtime.OpenVinoBackend.offers()[0].precisions
    missing = next((precision for precision in ("fp16", "bf16") if precision not in offered), None)
    if missing is None:
        pytest.skip("this processor computes in everything")
    options = {"INFERENCE_PRECISION_HINT": runtime.PRECISIONS[missing][1]}
    with pytest.raises(MeasurementFailed, match=missing) as caught:
        runtime.OpenVinoSession(models["small"], "CPU", missing, options)
    assert caught.value.details["failure"] == "unsupported"


def test_files_are_gone_once_a_model_is_loaded(
    models: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backend = runtime.OpenVinoBackend()
    session = backend.load(models["small"])
    session.invoke()
    with pytest.raises(MeasurementFailed):
        backend.load(models["small"][:300])
    assert list(tmp_path.iterdir()) == []


def test_operators_have_one_time_each_the_mean_of_the_runs(models: dict[str, bytes]) -> None:
    told = runtime.OpenVinoBackend().profile(models["small"], runs=5)
    assert {len(each.times_us) for each in told} == {1}
    assert {each.unit for each in told} == {"cpu"}
    assert any("Convolution (" in each.name for each in told)


def test_the_reason_is_the_line_that_tells(models: dict[str, bytes]) -> None:
    with pytest.raises(MeasurementFailed, match="corrupted") as caught:
        runtime.OpenVinoBackend().load(models["small"][:300])
    assert "Exception from" not in str(caught.value)
