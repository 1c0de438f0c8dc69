"""``leti migrate``, ``leti doctor``, ``leti backup`` and ``leti restore`` as users run them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs leti[service]")


def states(file: Path) -> dict[str, str]:
    found: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return {one["check"]: one["state"] for one in found}


def test_from_nothing_to_an_installation_in_order_and_back(leti: Any, tmp_path: Path) -> None:
    home, said = tmp_path / "home", tmp_path / "doctor.json"
    assert leti("doctor", "--home", home).returncode == 1
    assert not home.exists()
    assert "went from nothing to 00" in leti("migrate", "--home", home).stdout
    made = leti("token", "create", "ada", "--role", "admin", "--home", home)
    token = made.stdout.strip()
    ran = leti("doctor", "--home", home, "--json", said)
    assert ran.returncode == 0, ran.stdout + ran.stderr  # what is new is worth a warning, and no failure
    assert "leti agent run" in ran.stdout
    assert states(said)["tokens"] == "ok"

    backup, restored = tmp_path / "leti.tar", tmp_path / "restored"
    assert leti("backup", backup, "--home", home).returncode == 0
    assert leti("restore", backup, "--home", restored).returncode == 0

    with sqlite3.connect(restored / "leti.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0003'")
    connection.close()
    ran = leti("doctor", "--home", restored, "--url", "http://127.0.0.1:1", "--json", said)
    assert ran.returncode == 1
    assert (states(said)["schema"], states(said)["service"]) == ("fail", "fail")
    assert token not in ran.stdout + said.read_text(encoding="utf-8")


def test_a_password_is_never_shown(leti: Any, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="needs leti[postgres]")
    more = {"LETI_DATABASE_URL": "postgresql://leti:horse-battery@127.0.0.1:1/leti?connect_timeout=2"}
    for command in ("doctor", "serve"):
        ran = leti(command, "--home", tmp_path / "home", more=more)
        assert "horse-battery" not in ran.stdout + ran.stderr, command
        assert "Traceback" not in ran.stderr, command
        assert ran.returncode in (1, 2), command
