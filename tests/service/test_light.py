"""The web process is light: what only training, exporting and measuring need is not loaded to answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xgboost", reason="needs the extra boosting")

SCRIPT = Path(__file__).with_name("light_service.py")
HEAVY = {
    "tensorflow",
    "torch",
    "keras",
    "lightgbm",
    "catboost",
    "onnxruntime",
    "openvino",
    "ray",
    "altair",
    "matplotlib",
}


def test_a_service_that_has_answered_has_neither_tensorflow_nor_torch(learned):
    (predictor,) = [info["id"] for info in learned.get("/predictors").json()["items"] if info["kind"] == "xgboost"]
    command = [sys.executable, str(SCRIPT), str(learned.settings.home), learned.platform_id, str(predictor)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    source, kind, *modules = ran.stdout.split()
    assert (source, kind) == ("predicted", "xgboost")
    assert {"uvicorn", "fastapi", "xgboost"} <= set(modules)
    assert not HEAVY & set(modules)


def test_a_worker_needs_no_web_framework():
    script = "import sys, leti.service.tasks.worker, leti.service.tasks.running; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=True)
    assert not {"fastapi", "starlette", "uvicorn"} & set(ran.stdout.split())
