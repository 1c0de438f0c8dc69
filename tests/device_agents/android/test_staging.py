"""Files on a phone: verified, sent again, and never left behind; room; the lock."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leti.core.errors import DeviceFault
from leti.device_agents.android import staging
from leti.device_agents.android.adb import Adb
from leti.device_agents.android.lock import PhoneLock, holder
from leti.device_agents.android.staging import Folder, check_space, clean, free_bytes, sha256_of

from .conftest import WELL

MakeAdb = Callable[..., Adb]

DF = """Filesystem      1K-blocks     Used Available Use% Mounted on
/dev/block/dm-44 115249236 58310268  56807896  51% /data
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own in place of the phone's."""
    folder = tmp_path / "phone"
    folder.mkdir()
    monkeypatch.setattr(staging, "_CLEAN", staging._CLEAN.replace(staging.PARENT, str(folder)))
    monkeypatch.setattr(staging, "PARENT", str(folder))
    return folder


def put(folder: Folder, tmp_path: Path, content: bytes = b"model") -> None:
    local = tmp_path / "local"
    local.write_bytes(content)
    folder.put(local, "m.tflite", hashlib.sha256(content).hexdigest(), keep_going=lambda: True)


def test_what_arrives_is_checked_on_the_phone(adb_of: MakeAdb, tmp_path: Path, parent: Path) -> None:
    folder = Folder(adb_of().link("S1"))
    folder.make()
    put(folder, tmp_path)
    assert Path(folder.path, "m.tflite").read_bytes() == b"model"
    assert folder.sha256("nothing") == ""
    folder.remove()
    assert list(parent.iterdir()) == []


CUT_ONCE = WELL.replace(
    'push) cp "$4" "$5"', 'push) if [ -e "$0.cut" ]; then cp "$4" "$5"; else touch "$0.cut"; printf x >"$5"; fi'
)
ALWAYS_CUT = WELL.replace('push) cp "$4" "$5"', 'push) echo push >>"$0.log"; printf x >"$5"')
FULL = WELL.replace(
    'push) cp "$4" "$5"', """push) printf x >"$5"; echo "remote write failed: No space left on device" >&2; exit 1"""
)


def test_what_arrives_damaged_is_sent_once_more(adb_of: MakeAdb, tmp_path: Path) -> None:
    folder = Folder(adb_of(CUT_ONCE).link("S1"))
    folder.make()
    put(folder, tmp_path)
    assert Path(folder.path, "m.tflite").read_bytes() == b"model"
    always = Folder(adb_of(ALWAYS_CUT).link("S1"))
    always.make()
    with pytest.raises(DeviceFault) as raised:
        put(always, tmp_path)
    assert raised.value.details["fault"] == "checksum"
    assert (tmp_path / "bin" / "adb.log").read_text().split() == ["push", "push"]


def test_a_full_phone_says_so_and_keeps_nothing(adb_of: MakeAdb, tmp_path: Path, parent: Path) -> None:
    folder = Folder(adb_of(FULL).link("S1"))
    folder.make()
    with pytest.raises(DeviceFault) as raised:
        put(folder, tmp_path)
    assert raised.value.details["failure"] == "no-space"
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DF, 56807896 * 1024),
        (DF.replace("dm-44 ", "dm-44\n  "), 56807896 * 1024),
        ("Filesystem               Size     Used     Free   Blksize\n/data    10.0G     4.1G     5.9G   4096\n", None),
        ("df: /data/local/tmp: Permission denied", None),
        ("", None),
    ],
)
def test_free_room(text: str, expected: int | None) -> None:
    assert free_bytes(text) == expected


def test_too_little_room_is_noticed_before_anything_is_sent(adb_of: MakeAdb) -> None:
    link = adb_of(df=f"cat <<'EOT'\n{DF}EOT").link("S1")
    check_space(link, 40 * 2**30)
    with pytest.raises(DeviceFault) as raised:
        check_space(link, 50 * 2**30)
    assert raised.value.details["failure"] == "no-space"


def test_what_others_left_is_taken_away_with_its_processes(adb_of: MakeAdb, parent: Path, tmp_path: Path) -> None:
    stale, other = parent / "leti-0123456789ab", parent / "somebody-elses"
    stale.mkdir()
    other.mkdir()
    with (
        subprocess.Popen(["sh", "-c", f"sleep 600; : {stale}"]) as running,
        subprocess.Popen(["sleep", "600"]) as bystander,
    ):
        (stale / "pid").write_text(f"{running.pid}\n")
        (stale / "awake").write_text("3\n")
        (other / "pid").write_text(f"{bystander.pid}\n")
        adb = adb_of(settings='echo "$*" >>"$0.log"')
        assert clean(adb.link("S1")) == (str(stale),)
        assert running.wait(30) == -9
        assert bystander.poll() is None
        bystander.kill()
    assert [path.name for path in parent.iterdir()] == ["somebody-elses"]
    assert (tmp_path / "bin" / "settings.log").read_text() == "put global stay_on_while_plugged_in 3\n"


def test_a_number_that_now_belongs_to_another_process_is_let_be(adb_of: MakeAdb, parent: Path) -> None:
    stale = parent / "leti-0123456789ab"
    stale.mkdir()
    with subprocess.Popen(["sleep", "600"]) as bystander:
        (stale / "pid").write_text(f"{bystander.pid}\n")
        assert clean(adb_of().link("S1")) == (str(stale),)
        assert bystander.poll() is None
        bystander.kill()
    for odd in ("", "-1", "1 2", "$(reboot)"):
        stale.mkdir()
        (stale / "pid").write_text(odd)
        assert clean(adb_of().link("S1")) == (str(stale),)
    assert clean(adb_of().link("S1")) == ()


def test_a_phone_is_kept_awake_and_set_back(adb_of: MakeAdb, tmp_path: Path) -> None:
    log = 'echo "$(basename "$0") $*" >>"$(dirname "$0")/log"'
    settings = f'if [ "$1" = get ]; then echo 2; else {log}; fi'
    link = adb_of(settings=settings, svc=log, input=log).link("S1")
    folder = Folder(link)
    folder.make()
    before = staging.keep_awake(link, folder)
    assert Path(folder.path, "awake").read_text() == "2\n"
    staging.sleep_as_before(link, before)
    staging.sleep_as_before(link, "null")
    assert (tmp_path / "bin" / "log").read_text().splitlines() == [
        "input keyevent KEYCODE_WAKEUP",
        "svc power stayon true",
        "settings put global stay_on_while_plugged_in 2",
        "settings delete global stay_on_while_plugged_in",
    ]


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_of(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


TAKE = """
import sys
from pathlib import Path
from leti.core.errors import DeviceFault
from leti.device_agents.android.lock import PhoneLock
try:
    PhoneLock(sys.argv[1], Path(sys.argv[2]))
    print("taken")
except DeviceFault as fault:
    print(fault)
"""


def take(folder: Path) -> str:
    command = [sys.executable, "-c", TAKE, "N/1", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_phone_has_one_agent_and_its_benches_share_the_lock(tmp_path: Path) -> None:
    first, second = PhoneLock("N/1", tmp_path), PhoneLock("N/1", tmp_path)
    assert first.turn is second.turn
    assert f"pid {os.getpid()}" in take(tmp_path)
    assert holder("N/1", tmp_path) == f"pid {os.getpid()}"
    first.release()
    first.release()
    assert "pid" in take(tmp_path)
    second.release()
    assert take(tmp_path) == "taken\n"
    assert holder("N/1", tmp_path) == ""
    assert holder("another", tmp_path) == ""
