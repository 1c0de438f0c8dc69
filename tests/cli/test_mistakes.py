"""Mistakes on the command line: one line that says what is wrong, exit code 2, no traceback."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "command",
    [("serve", "--port", "0", "--home"), ("agent", "--until-idle", "--url", "http://127.0.0.1:9", "--spool")],
    ids=lambda command: command[0],
)
def test_a_folder_that_cannot_be_made_is_one_line(leti, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("")
    ran = leti(*command, tmp_path / "file" / "folder")
    assert ran.returncode == 2
    assert str(tmp_path) in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
