import pytest

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
xgboost = pytest.importorskip("xgboost")
forest = pytest.importorskip("leti.predictors.boosting.forest")

PLAIN = {"objective": "reg:squarederror", "base_score": 0.0, "nthread": 1, "tree_method": "hist"}


def rows_and_target(seed):
    """Columns of counts, of large sums and of fractions, as features are."""
    chance = np.random.default_rng(seed)
    rows = np.column_stack(
        [chance.integers(0, 5, (400, 10)), chance.integers(0, 10**10, (400, 5)), chance.random((400, 5))]
    )
    return rows, rows[:, 0] * rows[:, 16] + rows[:, 12] / 1e10 + chance.normal(0, 0.1, 400)


@pytest.mark.parametrize(
    "more", [{"max_depth": 1}, {"max_depth": 6}, {"max_depth": 0, "grow_policy": "lossguide", "max_leaves": 20}]
)
def test_a_forest_says_what_xgboost_says_to_the_last_bit(more):
    rows, target = rows_and_target(0)
    booster = xgboost.train({**PLAIN, **more}, xgboost.DMatrix(rows[:300], label=target[:300]), 50)
    found = forest.Forest.of(booster)
    expected = booster.inplace_predict(rows)
    assert len(np.unique(expected)) > 40
    np.testing.assert_array_equal(found.predict(rows), expected.astype(np.float64))


def test_a_forest_of_leaves_alone():
    rows, _ = rows_and_target(1)
    booster = xgboost.train(PLAIN, xgboost.DMatrix(rows, label=np.full(400, 2.0), nthread=1), 3)
    np.testing.assert_array_equal(forest.Forest.of(booster).predict(rows[:3]), booster.inplace_predict(rows[:3]))


def test_what_is_no_plain_regression_is_left_to_xgboost():
    rows, target = rows_and_target(2)
    data = xgboost.DMatrix(rows, label=(target > 1).astype(float))
    assert forest.Forest.of(xgboost.train({"objective": "binary:logistic"}, data, 3)) is None
    assert forest.Forest.of(xgboost.train({**PLAIN, "base_score": 0.5}, data, 3)) is None
    linear = {"objective": "reg:squarederror", "base_score": 0.0, "booster": "gblinear", "nthread": 1}
    assert forest.Forest.of(xgboost.train(linear, data, 3)) is None
