"""Protocol E on tables made by hand, and on the published ones where they are at hand."""

import csv
import gzip
import io
import random
from pathlib import Path

import pytest

from leti.core.errors import InvalidInput

pytest.importorskip("scipy", reason="needs the extra `boosting`")
protocol_e = pytest.importorskip("leti.cli.protocol_e")

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "data"
MODELS = 40


def write(path: Path, rows: list[dict[str, object]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Networks of 10 to 60 operators: 900 µs and a tenth more than the sum."""
    chance = random.Random(0)
    operators, networks = [], []
    for i in range(MODELS):
        times = [chance.lognormvariate(5, 1) for _ in range(chance.randint(10, 60))]
        for time in times:
            row = {"model": f"net{i}", "operation": "CONV_2D", "feature": "{'Kernel': '3'}"}
            operators.append(row | {f"{platform}|gpu|float": time for platform in protocol_e.PLATFORMS})
        end = (900 + 1.1 * sum(times)) * chance.lognormvariate(0, 0.005)
        ends = {f"{platform}|gpu|float|mean": end for platform in protocol_e.PLATFORMS}
        networks.append({"model": f"net{i}", "FLOPS": 10**9, "size": chance.randint(10**6, 10**8), **ends})
    write(tmp_path / protocol_e.OPERATORS, operators)
    write(tmp_path / protocol_e.NETWORKS, networks)
    return tmp_path


def test_the_correction_mends_the_sum(folder):
    rows = protocol_e.run(folder, [0, 1])
    assert [(row["platform"], row["seed"]) for row in rows] == [(p, s) for p in protocol_e.PLATFORMS for s in (0, 1)]
    for row in rows:
        assert (row["n_train"], row["n_test"]) == (20, MODELS - 20)
        assert row["plain_sum"]["within_10"] < 0.5
        assert row["corrected"]["within_10"] == 1.0
        assert row["corrected"]["within_1"] <= row["corrected"]["within_5"]
        assert row["terms"]["overhead"] == pytest.approx(0.9, rel=0.1)  # ms, where the file has µs
    assert protocol_e.run(folder, [0, 1]) == rows


def test_the_test_networks_are_not_looked_at(folder):
    """Whatever the others take end to end: what is learnt from the 20 stays."""
    before = protocol_e.run(folder, [3])[0]["terms"]
    order = list(range(MODELS))
    random.Random(3).shuffle(order)
    models = protocol_e.read_tables(folder)[0].models
    kept = {models[i] for i in order[: protocol_e.TRAIN]}
    rows = list(csv.DictReader(gzip.decompress((folder / protocol_e.NETWORKS).read_bytes()).decode().splitlines()))
    for row in rows:
        if row["model"] not in kept:
            row |= {f"{platform}|gpu|float|mean": 1e9 for platform in protocol_e.PLATFORMS}
    write(folder / protocol_e.NETWORKS, rows)
    assert protocol_e.run(folder, [3])[0]["terms"] == before


@pytest.mark.parametrize("bad", ["-5", "nan", "inf", "soon", ""])
def test_a_time_that_is_none_is_told(folder, bad):
    path = folder / protocol_e.OPERATORS
    rows = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
    rows[7]["mi8se|gpu|float"] = bad
    write(path, rows)
    with pytest.raises(InvalidInput) as caught:
        protocol_e.run(folder, [0])
    assert "mi8se|gpu|float" in caught.value.field


def test_files_that_are_none_are_told(folder):
    path = folder / protocol_e.NETWORKS
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    for content in (
        flipped,
        b"",
        b"no gzip",
        whole[:-30],
        gzip.compress(b"", mtime=0),
        gzip.compress(b"a,b\n1,2\n", mtime=0),
        gzip.compress(b"\xff\xfe", mtime=0),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidInput) as caught:
            protocol_e.run(folder, [0])
        assert caught.value.field == protocol_e.NETWORKS
    path.unlink()
    with pytest.raises(InvalidInput):
        protocol_e.run(folder, [0])


def test_a_file_that_unpacks_to_too_much_is_not_read_to_its_end(folder, monkeypatch):
    monkeypatch.setattr(protocol_e, "_MAX_BYTES", 1000)
    with pytest.raises(InvalidInput, match="larger than 1000 bytes"):
        protocol_e.run(folder, [0])


def test_on_the_published_tables():
    """What is known of the plain sum over all 102 networks: 18 / 49 / 6 % within 10 %."""
    if not (PUBLISHED / protocol_e.OPERATORS).exists():
        pytest.skip("the published tables are not at hand")
    seeds = range(10)
    rows = protocol_e.run(PUBLISHED, seeds)
    for platform in protocol_e.PLATFORMS:
        here = [row for row in rows if row["platform"] == platform]
        assert {(row["n_train"], row["n_test"]) for row in here} == {(20, 82)}
        assert sum(row["corrected"]["within_10"] for row in here) / len(here) >= 0.9
        assert sum(row["plain_sum"]["within_10"] for row in here) / len(here) < 0.6
