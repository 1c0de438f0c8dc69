"""Mistakes on the command line: one line that says what is wrong, exit code 2, no traceback."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "--port", "0", "--home"),
        ("agent", "run", "--until-idle", "--backend", "litert", "--url", "http://127.0.0.1:9", "--spool"),
    ],
    ids=lambda command: command[0],
)
def test_a_folder_that_cannot_be_made_is_one_line(leti, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("")
    ran = leti(*command, tmp_path / "file" / "folder")
    assert ran.returncode == 2
    assert str(tmp_path) in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_file_that_is_no_database_is_one_line(leti, tmp_path: Path) -> None:
    (tmp_path / "leti.sqlite").write_bytes(b"no database" * 1000)
    ran = leti("serve", "--port", "0", "--home", tmp_path)
    assert ran.returncode == 2
    assert str(tmp_path) in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [b'["\xff\xfe"]', b"[" * 100_000, b"{}", b"[1]", b""])
def test_networks_that_cannot_be_read_are_one_line(leti, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "networks.json"
    path.write_bytes(content)
    ran = leti("campaign", "create", "x", "--networks", path, "--url", "http://127.0.0.1:9")
    assert ran.returncode == 2
    assert ran.stderr.startswith("leti: --networks: ")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("sample", ["nasbench201", "nasbench201:x", "nasbench201:²", "nasbench201:" + "9" * 5000])
def test_a_sample_that_is_no_count_is_one_line(leti, sample: str) -> None:
    ran = leti("campaign", "create", "x", "--sample", sample, "--url", "http://127.0.0.1:9")
    assert ran.returncode == 2
    assert ran.stderr.startswith("leti: --sample: ")
    assert len(ran.stderr.splitlines()) == 1
