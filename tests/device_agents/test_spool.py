"""Results on disk: whole or not there, in order, once, whatever happens to the process or the file."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.errors import NotFound, StorageError
from leti.core.farm import Failure, Result
from leti.core.measurement import Measurement, Pass, Recipe
from leti.device_agents.spool import Spool


def result(job: int, *, repeat: int = 0, lease: int = 1, passes: int = 2) -> Result:
    samples = tuple(Pass((1.0 + job, 0.1), (2.0,), calm=bool(i % 2)) for i in range(passes))
    recipe = Recipe("0.1.0", "2.3.0", "ab" * 32, (("passes", 2.0),))
    return Result(lease, 7, job, repeat, measurement=Measurement("a" * 64, "p", "b" * 64, samples, recipe))


def results(spool: Spool) -> list[Result]:
    return [entry.result for entry in spool.pending()]


def test_results_come_back_as_they_were_in_order(tmp_path: Path) -> None:
    failure = Result(1, 7, 3, 0, failure=Failure("bad-model", "ä\n"))
    spool = Spool(tmp_path / "spool")
    written = [result(9), failure, result(2), result(2, repeat=1), result(2, lease=2)]
    for each in written:
        spool.put(each)
    assert results(spool) == written
    assert results(Spool(tmp_path / "spool")) == written
    assert len(spool) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which file a descriptor stands for")
def test_a_result_and_its_name_are_flushed_to_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    flushed: list[Path] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    path = spool.put(result(1))
    content, folder = flushed
    assert (content.parent, content.suffix) == (path.parent, ".tmp"), "first what it says, under another name"
    assert folder == path.parent, "then the folder, with the name that it has now"


def test_the_same_result_twice_is_one_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.put(result(1)) == spool.put(result(1))
    assert results(spool) == [result(1)]


def test_what_is_acknowledged_is_gone_and_order_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for job in (1, 2, 3):
        spool.put(result(job))
    first, second, _ = spool.pending()
    spool.acknowledged(first)
    spool.acknowledged(first)
    spool.acknowledged(second)
    spool.put(result(4))
    assert [each.job_id for each in results(spool)] == [3, 4]


def test_what_is_refused_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    path = spool.put(result(1))
    (entry,) = spool.pending()
    spool.refused(entry, NotFound("no such job", field="job_id"))
    assert results(spool) == []
    assert json.loads((tmp_path / "refused" / path.name).read_text().splitlines()[1])["job_id"] == 1
    assert "not-found: job_id: no such job" in (tmp_path / "refused" / f"{path.name}.reason").read_text()


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_file_is_set_aside_and_the_others_go_on(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder)
    paths = [spool.put(result(job)) for job in (1, 2, 3)]
    content = paths[1].read_bytes()
    at = data.draw(st.integers(0, len(content) - 2))
    cut = data.draw(st.booleans())
    damaged = content[:at] if cut else content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
    paths[1].write_bytes(damaged)
    assert [each.job_id for each in results(spool)] == [1, 3]
    assert (folder / "damaged" / paths[1].name).read_bytes() == damaged
    assert len(spool) == 2


def test_a_whole_file_with_nonsense_in_it_is_set_aside(tmp_path: Path) -> None:
    import hashlib

    spool = Spool(tmp_path)
    for number, text in enumerate((b"[]", b"{}", b'{"job_id": "x"}', b"[" * 100_000)):
        digest = hashlib.sha256(text).hexdigest().encode()
        (tmp_path / f"{number:012d}-1-0-1.json").write_bytes(digest + b"\n" + text + b"\n")
    assert results(spool) == []
    assert len(list((tmp_path / "damaged").iterdir())) == 4


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".000000000000-1-0-1.json.99.tmp").write_text("half")
    assert results(spool) == []
    spool.put(result(1))
    assert results(spool) == [result(1)]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_had_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        Spool(tmp_path / "file" / "spool")
    assert caught.value.remedy


def test_a_folder_that_has_gone_is_a_storage_error(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    shutil.rmtree(tmp_path / "spool")
    with pytest.raises(StorageError):
        spool.put(result(1))


WRITER = """
import sys
from pathlib import Path
from leti.core.codec import from_json
from leti.core.farm import Result
from leti.device_agents.spool import Spool
import dataclasses, json
template = from_json(Result, json.loads(sys.stdin.read()))
spool = Spool(Path(sys.argv[1]))
for job in range(1_000_000):
    spool.put(dataclasses.replace(template, job_id=job))
    print(job, flush=True)
"""


@pytest.mark.parametrize("after_s", [0.05, 0.11, 0.23])
def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_put(tmp_path: Path, after_s: float) -> None:
    from leti.core.codec import to_json

    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(json.dumps(to_json(result(0, passes=200))))
    writer.stdin.close()
    assert writer.stdout.readline() == "0\n"
    time.sleep(after_s)
    writer.send_signal(signal.SIGKILL)
    put = 1 + len(writer.stdout.read().split())
    writer.stdout.close()
    assert writer.wait(60) == -signal.SIGKILL
    found = [each.job_id for each in results(Spool(tmp_path))]
    assert found[:put] == list(range(put))
    assert len(found) <= put + 1  # one may have been written but not yet told
    assert not list((tmp_path / "damaged").iterdir())


def test_a_disk_that_is_full_keeps_nothing_of_what_it_could_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.put(result(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            spool.put(result(2))
    assert results(spool) == [result(1)]
    assert list(tmp_path.glob(".*")) == []
