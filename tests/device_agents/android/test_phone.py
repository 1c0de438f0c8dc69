"""Clusters, masks, delegates: what a phone's answers say of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leti.core.errors import InvalidInput
from leti.device_agents.android.phone import Cluster, Phone, clusters_of, core_list, delegates_of, preferred

PIXEL_7 = "".join(
    f"{core} {khz} {capacity}\n"
    for cores, khz, capacity in (((0, 1, 2, 3), 1803000, 124), ((4, 5), 2348000, 427), ((6, 7), 2850000, 1024))
    for core in cores
)


def phone_of(*clusters: Cluster) -> Phone:
    return Phone(
        serial="S1",
        serial_number="N1",
        model="Toy",
        manufacturer="Maker",
        soc="SC1",
        abi="arm64-v8a",
        sdk=34,
        release="14",
        fingerprint="f",
        booted=True,
        clusters=clusters,
        delegates=(),
    )


def test_cores_fall_into_clusters_from_slow_to_fast() -> None:
    little, big, prime = clusters_of(PIXEL_7, "0-7")
    assert (little.name, little.cores, little.mask, little.max_mhz) == ("little", (0, 1, 2, 3), "f", 1803.0)
    assert (big.name, big.cores, big.mask, big.capacity) == ("big", (4, 5), "30", 427)
    assert (prime.name, prime.cores, prime.mask) == ("prime", (6, 7), "c0")


def test_sleeping_cores_are_left_out() -> None:
    assert [each.cores for each in clusters_of(PIXEL_7, "0-5,7")] == [(0, 1, 2, 3), (4, 5), (7,)]
    assert [each.name for each in clusters_of(PIXEL_7, "0-3")] == ["big"]


def test_cores_that_tell_nothing_are_one_cluster() -> None:
    assert clusters_of("0 - -\n1 - -\n", "0-1") == (Cluster("big", (0, 1)),)
    assert clusters_of("", "0-3") == (Cluster("big", (0, 1, 2, 3)),)
    assert clusters_of("junk\n* - -\n", "") == ()


def test_capacity_orders_cores_of_unknown_clocks() -> None:
    little, big = clusters_of("0 - 1024\n1 - 200\n", "0,1")
    assert (little.cores, big.cores) == ((1,), (0,))


def test_many_clusters_have_numbers() -> None:
    names = [each.name for each in clusters_of("".join(f"{i} {i + 1}000 -\n" for i in range(5)), "0-4")]
    assert names == ["cluster0", "cluster1", "cluster2", "cluster3", "cluster4"]


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3,6", (0, 1, 2, 3, 6)), ("0", (0,)), ("", ()), ("junk", ()), (" 1 , 2-3 ", (1, 2, 3)), ("3-1", ())],
)
def test_lists_of_cores(text: str, cores: tuple[int, ...]) -> None:
    assert core_list(text) == cores


def test_a_cluster_must_be_there_be_pinnable_and_large_enough() -> None:
    phone = phone_of(Cluster("little", (0, 1)), Cluster("big", (2,)), Cluster("prime", (3,), reason="not allowed"))
    assert phone.cluster("little", 2).cores == (0, 1)
    assert phone.cluster("any", 8).cores == ()
    for name, threads, field in (
        ("prime", 1, "cluster"),
        ("huge", 1, "cluster"),
        ("big", 2, "threads"),
        ("big", 0, "threads"),
    ):
        with pytest.raises(InvalidInput) as raised:
            phone.cluster(name, threads)
        assert raised.value.field == field
    with pytest.raises(InvalidInput, match=r"not allowed.*little, big, any"):
        phone.cluster("prime")


def test_a_phone_is_a_device_by_model_and_serial_number() -> None:
    device = phone_of(Cluster("big", (0, 1))).device()
    assert (device.name, device.kind, device.soc, device.cores) == ("Toy N1", "android", "SC1", 2)
    assert device.os == "Android 14 (arm64-v8a)"
    assert phone_of().device("mine").name == "mine"
    asleep = replace(phone_of(Cluster("big", (0,))), asleep=3)
    assert asleep.device().cores == 4, "the same device, whichever cores are awake"


def test_delegates_worth_trying() -> None:
    reasons = {each.delegate: each.reason for each in delegates_of(34, ["/vendor/lib64/libOpenCL.so"], 0)}
    assert reasons == {"xnnpack": "", "none": "", "gpu": "", "nnapi": ""}
    assert {each.delegate for each in delegates_of(25, [], 0x20000) if each.reason} == {"gpu", "nnapi"}
    assert not next(each for each in delegates_of(34, [], 0x30002) if each.delegate == "gpu").reason


def test_a_cable_is_preferred_to_the_network() -> None:
    assert preferred(["10.0.0.1:5555", "ABC"]) == "ABC"
    assert preferred(["10.0.0.2:5555", "10.0.0.1:5555"]) == "10.0.0.1:5555"


def test_cores_that_cannot_be_are_none() -> None:
    assert core_list(",".join(["0-9999"] * 1000)) == tuple(range(1024))
    assert [each.cores for each in clusters_of(f"0 - -\n999999999999 - -\n{'9' * 5000} - -\n", "")] == [(0,)]
