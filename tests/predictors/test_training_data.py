"""What is learnt from: networks that are given more than once are one."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="needs the extra boosting")

from leti.predictors.training_data import check_training_data


def test_a_network_that_is_given_more_than_once_is_merged_with_its_median_and_its_first_group(networks):
    graphs, measured = [*networks[:20], networks[5], networks[5]], [1.0 + i for i in range(20)]
    data = check_training_data(graphs, [*measured, 6.0, 9e3], [*map(str, range(20)), "other", "another"], None)
    assert data.graphs == networks[:20]
    assert list(data.latencies_ms) == measured
    assert data.groups == tuple(map(str, range(20)))
    (remark,) = data.remarks
    assert "1 network is given more than once, 3 times in all" in remark
    assert check_training_data(networks[:20], measured, None, None).remarks == ()
