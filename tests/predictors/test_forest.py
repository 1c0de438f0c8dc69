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
    found = forest.of_xgboost(booster)
    expected = booster.inplace_predict(rows)
    assert len(np.unique(expected)) > 40
    np.testing.assert_array_equal(found.predict(rows), expected.astype(np.float64))


def test_a_forest_of_leaves_alone():
    rows, _ = rows_and_target(1)
    booster = xgboost.train(PLAIN, xgboost.DMatrix(rows, label=np.full(400, 2.0), nthread=1), 3)
    np.testing.assert_array_equal(forest.of_xgboost(booster).predict(rows[:3]), booster.inplace_predict(rows[:3]))


def test_what_is_no_plain_regression_is_left_to_xgboost():
    rows, target = rows_and_target(2)
    data = xgboost.DMatrix(rows, label=(target > 1).astype(float))
    assert forest.of_xgboost(xgboost.train({"objective": "binary:logistic"}, data, 3)) is None
    assert forest.of_xgboost(xgboost.train({**PLAIN, "base_score": 0.5}, data, 3)) is None
    linear = {"objective": "reg:squarederror", "base_score": 0.0, "booster": "gblinear", "nthread": 1}
    assert forest.of_xgboost(xgboost.train(linear, data, 3)) is None


def by_lightgbm(rows, target, **more):
    lightgbm = pytest.importorskip("lightgbm")
    plain = {"objective": "regression", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5}
    data = lightgbm.Dataset(rows, label=target, params={"verbosity": -1})
    booster = lightgbm.train({**plain, **more}, data, 50)
    return booster, forest.of_lightgbm(booster)


def by_catboost(rows, target, **more):
    catboost = pytest.importorskip("catboost")
    plain = {"iterations": 50, "allow_writing_files": False, "logging_level": "Silent", "thread_count": 1}
    booster = catboost.CatBoostRegressor(**plain, **more).fit(rows, target)
    return booster, forest.of_catboost(booster)


@pytest.mark.parametrize(
    ("trained", "more"),
    [
        (by_lightgbm, {}),
        (by_lightgbm, {"num_leaves": 2, "boost_from_average": False}),
        (by_lightgbm, {"max_depth": 3, "max_bin": 500}),
        (by_catboost, {}),
        (by_catboost, {"depth": 1}),
        (by_catboost, {"depth": 5, "border_count": 254, "boost_from_average": False}),
    ],
)
def test_a_forest_says_what_the_library_says_on_thresholds_too(trained, more):
    rows, target = rows_and_target(3)
    booster, found = trained(rows[:300], target[:300], **more)
    thresholds = np.resize(found.thresholds[found.thresholds != 0], (50, rows.shape[1])).astype(np.float64)
    below = np.nextafter(thresholds.astype(found.thresholds.dtype), found.thresholds.dtype.type(-np.inf))
    asked = np.vstack([rows, thresholds, below.astype(np.float64)])
    expected = booster.predict(asked)
    assert len(np.unique(expected)) > 20
    np.testing.assert_allclose(found.predict(asked), expected, rtol=1e-13)


def test_what_is_no_plain_regression_is_left_to_the_library():
    rows, target = rows_and_target(4)
    assert by_lightgbm(rows, target, boosting="rf", bagging_freq=1, bagging_fraction=0.5)[1] is None
    assert by_lightgbm(rows, np.abs(target), objective="poisson")[1] is None
    assert by_lightgbm(rows, target, zero_as_missing=True)[1] is None
    assert by_lightgbm(rows, target, linear_tree=True)[1] is None
    assert by_catboost(rows, target, grow_policy="Lossguide")[1] is None
