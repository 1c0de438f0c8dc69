"""Tokens as a user handles them: made beside the database, asked for by a real service, carried by real agents."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

for module, extra in (("fastapi", "service"), ("ai_edge_litert", "agent")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.client import LatencyClient
from leti.core.errors import NotAuthenticated, NotPermitted
from leti.core.farm import CampaignRequest, Sample
from leti.core.spec import NetworkConfig
from leti.service.token_text import PATTERN

SMALL = NetworkConfig(modules_per_stack=1, stem_channels=8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded") / "home"


@pytest.fixture(scope="module")
def admin(leti: Any, home: Path) -> str:
    """The first token, made before the service was ever started."""
    ran = leti("token", "create", "the first", "--role", "admin", "--home", home, "--expires", "30d")
    assert ran.returncode == 0, ran.stderr
    assert PATTERN.fullmatch(ran.stdout.strip()), "standard output is the token alone"
    assert "not shown again" in ran.stderr
    return str(ran.stdout.strip())


@pytest.fixture(scope="module")
def service(home: Path, admin: str) -> Iterator[tuple[str, Path]]:
    """A real `leti serve` with authentication on, and its log."""
    log = home.parent / "service.log"
    command = [sys.executable, "-m", "leti.cli", "serve", "--home", str(home), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LETI_LOG_LEVEL": "debug"}
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield words[2], log
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert "authentication is off" not in rest
        assert "no token yet" not in rest


@pytest.fixture(scope="module")
def tokens(service: tuple[str, Path], admin: str) -> dict[str, str]:
    """A token of each role, the others made over the API with the first."""
    made = {"admin": admin}
    for role in ("viewer", "client", "agent"):
        answer = httpx.post(
            f"{service[0]}/v1/tokens",
            json={"name": f"the {role}", "role": role},
            headers={"authorization": f"Bearer {admin}"},
            timeout=60,
        )
        assert answer.status_code == 201, answer.text
        made[role] = answer.json()["token"]
    return made


def test_clients_and_a_real_agent_work_with_their_tokens_and_no_secret_is_written_down(
    leti: Any, home: Path, service: tuple[str, Path], tokens: dict[str, str], tmp_path: Path
) -> None:
    url, log = service
    with LatencyClient(url) as nobody, pytest.raises(NotAuthenticated):
        nobody.platforms()
    ran = leti("campaign", "list", "--url", url)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert "leti token create" in ran.stderr

    agent = ("agent", "run", "--until-idle", "--backend", "litert", "--delegate", "xnnpack", "--url", url)
    spool = ("--spool", tmp_path / "spool", "--device-name", "guarded bench")
    ran = leti(*agent, *spool, more={"LETI_TOKEN": tokens["agent"]})
    assert ran.returncode == 0, ran.stderr
    with LatencyClient(url, token=tokens["client"]) as client:
        (platform,) = client.platforms()
        client.create_campaign(CampaignRequest("small", platform.id, (Sample("nasbench201", 2, 0, SMALL),), repeats=1))
        with pytest.raises(NotPermitted, match="role admin"):
            client.quarantine("guarded bench", "not mine to say")
    ran = leti(*agent, *spool, more={"LETI_TOKEN": tokens["client"]})
    assert (ran.returncode, "role agent" in ran.stderr) == (2, True)

    enrol = ("agent", "enrol", "--networks", "41", "--url", url, *spool)
    for role in ("client", "agent"):  # each may do a part of it
        ran = leti(*enrol, more={"LETI_TOKEN": tokens[role]})
        assert (ran.returncode, "use an admin's token" in ran.stderr) == (2, True), ran.stderr

    file = tmp_path / "token"
    file.write_text(tokens["agent"] + "\n")
    ran = leti("--token-file", file, *agent, *spool, more={"LETI_TOKEN": "overruled by the option"})
    assert ran.returncode == 0, ran.stderr
    assert "2 measured" in ran.stdout
    ran = leti("campaign", "list", "--url", url, more={"LETI_TOKEN": tokens["viewer"]})
    assert "small" in ran.stdout

    listed = tmp_path / "tokens.json"
    assert leti("token", "list", "--home", home, "--json", listed).returncode == 0
    used = {info["role"]: info["last_used_at"] for info in json.loads(listed.read_text())}
    assert all(used.values())

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    ids = {info["id"] for info in json.loads(listed.read_text())}
    assert {line["token"] for line in lines if "token" in line} <= ids, "the log names tokens by their ids"
    assert any(line.get("status") == 401 for line in lines)
    kept = [path for path in home.rglob("*") if path.is_file()] + [log, *(tmp_path / "spool").rglob("*.json")]
    for path in kept:
        content = path.read_bytes()
        for text in tokens.values():
            assert text.encode() not in content, f"{path} holds a token"
            assert text.split("_")[2].encode() not in content, f"{path} holds a secret"


def test_a_revoked_token_is_refused_within_seconds(leti: Any, home: Path, service: tuple[str, Path]) -> None:
    ran = leti("token", "create", "who leaves", "--role", "viewer", "--home", home)
    token = ran.stdout.strip()

    def ask_until_refused(client: LatencyClient) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            client.platforms()
            time.sleep(0.2)

    with LatencyClient(service[0], token=token) as client:
        client.platforms()
        ran = leti("token", "revoke", token.split("_")[1], "--home", home)
        assert re.search(r"who leaves .* 20\d\d-.* 20\d\d-", ran.stdout)
        with pytest.raises(NotAuthenticated):
            ask_until_refused(client)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "x", "--role", "viewer", "--expires", "soon"), "--expires"),
        (("create", "x", "--role", "viewer", "--expires", "0d"), "--expires"),
        (("create", " ", "--role", "viewer"), "name"),
        (("revoke", "nobody"), "nobody"),
    ],
)
def test_mistakes_with_tokens_are_one_line(
    leti: Any, home: Path, admin: str, arguments: tuple[str, ...], words: str
) -> None:
    ran = leti("token", *arguments, "--home", home)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert words in ran.stderr


@pytest.mark.parametrize("command", ["list", "revoke"])
def test_a_folder_without_a_database_stays_as_it_is(leti: Any, tmp_path: Path, command: str) -> None:
    ran = leti("token", command, *(["x"] if command == "revoke" else []), "--home", tmp_path / "typo")
    assert (ran.returncode, "--home" in ran.stderr) == (2, True)
    assert not (tmp_path / "typo").exists()


def test_without_authentication_it_serves_on_loopback_only(leti: Any, tmp_path: Path) -> None:
    ran = leti("serve", "--no-auth", "--host", "0.0.0.0", "--port", "0", "--home", tmp_path / "home")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert "without authentication only loopback" in ran.stderr
    assert not (tmp_path / "home").exists()


def test_the_first_start_says_how_to_make_a_token(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "leti.cli", "serve", "--home", str(home), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("LETI serves http://127.0.0.1:")
        assert process.stdout.readline() == (
            f"there is no token yet: leti token create admin --role admin --home {home}\n"
        )
        process.terminate()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"LETI_TOKEN": "two words"}, "token: "),
        ({"LETI_TOKEN_FILE": "/no/such/file"}, "/no/such/file"),
        ({"LETI_TOKEN_FILE": "/no/such/file", "LETI_TOKEN": "x"}, "both set"),
    ],
)
def test_mistakes_with_the_token_of_a_command_are_one_line(leti: Any, more: dict[str, str], words: str) -> None:
    ran = leti("jobs", "list", "--url", "http://127.0.0.1:9", more=more)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert words in ran.stderr
