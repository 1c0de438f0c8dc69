"""What agents say of single operators reaches the predictors that can learn from it."""

import pytest

from leti.core.measurement import OperatorTime

pytest.importorskip("scipy", reason="needs the extra `boosting`")

from leti.predictors import artifacts
from leti.predictors.profiles.runtime_names import kernels_of, litert_kernels

NETWORKS = 40


def profile_of(graph):
    """A profile in LiteRT's words: a microsecond and what each kernel's work takes."""
    found = []
    for kernel, names in zip(kernels_of(graph), litert_kernels(graph), strict=True):
        time_us = 1 + sum(graph.ops[i].macs for i in kernel) / 1e4
        found += [OperatorTime(f"{name} (NHWC, F32)", "xnnpack", (time_us,) * 5) for name in names]
    return tuple(found)


def measure(house, profiled):
    """Measure everything; the first measurement of the first ``profiled`` networks has a profile."""
    fingerprints = []
    while (lease := house.lease(64)) is not None:
        for job in lease.jobs:
            (graph,) = house.store.networks.graphs([job.fingerprint])
            wanted = job.profile and len(fingerprints) < profiled
            times = profile_of(graph) if wanted else ()
            assert house.report(lease, job, operator_times=times).status == "stored"
            fingerprints += [job.fingerprint] * wanted
    return fingerprints


def test_profiles_can_be_had_by_network(house):
    house.add_campaign(count=6, repeats=2, profile=True)
    profiled = measure(house, 4)
    every = [name for (name,) in house.rows("SELECT DISTINCT fingerprint FROM measurements")]
    found = house.store.measurements.operator_times(house.platform_id, every)
    assert set(found) == set(profiled)
    for fingerprint, times in found.items():
        (graph,) = house.store.networks.graphs([fingerprint])
        assert times == profile_of(graph)
    assert house.store.measurements.operator_times(house.platform_id, []) == {}


def test_a_look_up_table_is_trained_on_them(house):
    house.add_campaign(count=NETWORKS, profile=True)
    measure(house, NETWORKS)
    (info,) = house.train("lookup_table").predictors
    predictor = artifacts.load(house.settings.predictors / info.artifact_sha256, info.artifact_sha256)
    assert {row.source for row in predictor.table()} == {"measured"}


def test_without_profiles_it_is_solved(house):
    house.add_campaign(count=NETWORKS, profile=False)
    assert measure(house, NETWORKS) == []
    (info,) = house.train("lookup_table").predictors
    predictor = artifacts.load(house.settings.predictors / info.artifact_sha256, info.artifact_sha256)
    assert {row.source for row in predictor.table()} == {"solved"}
