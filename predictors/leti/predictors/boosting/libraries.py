"""Boosted trees of three libraries, behind one promise: numbers in, a number a row out, and what each column adds.

XGBoost (Chen and Guestrin, 2016), LightGBM (Ke et al., 2017), CatBoost (Prokhorenkova et al., 2018). The contributions
of columns are SHAP values (Lundberg et al., "From Local Explanations to Global Understanding with Explainable AI for
Trees", 2020), which every one of them computes itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from typing_extensions import override

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.predictors.batch import Matrix, Vector
from leti.predictors.boosting.forest import MOST_ROWS, Forest, of_catboost, of_lightgbm, of_xgboost

with needs("boosting"):
    import numpy as np

if TYPE_CHECKING:
    from typing import Self

TREES: Final = 300


class Trees(ABC):
    """Boosted trees of one library, trained."""

    file: ClassVar[str]
    """Name of the file that the library's own format is kept in."""

    @classmethod
    @abstractmethod
    def train(cls, inputs: Matrix, target: Vector, *, seed: int, threads: int) -> Self:
        """Learn ``target`` ``(n,)`` from ``inputs`` ``(n, columns)`` by squared error."""

    def predict(self, inputs: Matrix) -> Vector:
        """Return the target ``(n,)`` of inputs ``(n, columns)``, n not zero."""
        if len(inputs) <= MOST_ROWS and self._forest is not None:
            return self._forest.predict(inputs)
        return self.predict_many(inputs)

    @cached_property
    def _forest(self) -> Forest | None:
        """The trees for few rows, which the library takes long to begin with."""
        return self.as_forest()

    @abstractmethod
    def as_forest(self) -> Forest | None:
        """Return the trees taken out of the library; nothing where they are of a sort that only it knows."""

    @abstractmethod
    def predict_many(self, inputs: Matrix) -> Vector:
        """Return the same as :meth:`predict` by the library's own call."""

    @abstractmethod
    def contributions(self, inputs: Matrix) -> Matrix:
        """Return what each column adds, ``(n, columns + 1)``; the last is what is there before. They add up."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return the trees in the library's own format."""

    @classmethod
    @abstractmethod
    def read(cls, content: bytes, columns: int) -> Self:
        """Read what :meth:`to_bytes` returned; raise :class:`~leti.core.errors.ArtifactError` if it is not that."""


@final
@dataclass(frozen=True, eq=False)
class XGBoostTrees(Trees):
    """Trees of XGBoost, kept as UBJSON; ``booster`` is an ``xgboost.Booster``."""

    booster: Any
    file: ClassVar[str] = "booster.ubj"

    @classmethod
    @override
    def train(cls, inputs: Matrix, target: Vector, *, seed: int, threads: int) -> Self:
        with needs("boosting"):
            import xgboost
        parameters = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_depth": 6,
            "eta": 0.05,
            "subsample": 0.8,
            "colsample_bytree": 0.3,
            "min_child_weight": 1,
            "base_score": 0.0,
            "nthread": threads,
            "seed": seed,
        }
        data = xgboost.DMatrix(inputs, label=target, nthread=threads)
        return cls(xgboost.train(parameters, data, TREES))

    @override
    def predict_many(self, inputs: Matrix) -> Vector:
        return np.asarray(self.booster.inplace_predict(inputs), dtype=np.float64)

    @override
    def as_forest(self) -> Forest | None:
        return of_xgboost(self.booster)

    @override
    def contributions(self, inputs: Matrix) -> Matrix:
        import xgboost

        data = xgboost.DMatrix(inputs, nthread=1)
        return np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)

    @override
    def to_bytes(self) -> bytes:
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    @override
    def read(cls, content: bytes, columns: int) -> Self:
        with needs("boosting"):
            import xgboost
        booster = xgboost.Booster({"nthread": 1})
        try:
            booster.load_model(_written(content, cls.file))
        except xgboost.core.XGBoostError as error:
            raise ArtifactError("is not a model that XGBoost reads", field=cls.file) from error
        return cls(_checked(booster, booster.num_features(), columns, cls.file))


@final
@dataclass(frozen=True, eq=False)
class LightGBMTrees(Trees):
    """Trees of LightGBM, kept as its text; ``booster`` is a ``lightgbm.Booster``."""

    booster: Any
    file: ClassVar[str] = "booster.txt"

    @classmethod
    @override
    def train(cls, inputs: Matrix, target: Vector, *, seed: int, threads: int) -> Self:
        with needs("boosting"):
            import lightgbm
        parameters = {
            "objective": "regression",
            "boost_from_average": False,
            "learning_rate": 0.05,
            "num_leaves": 31,
            "max_depth": 6,
            "min_data_in_leaf": 5,
            "min_sum_hessian_in_leaf": 1e-3,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "feature_fraction": 0.3,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": threads,
            "seed": seed,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(inputs, label=target, params={"verbosity": -1})
        return cls(lightgbm.train(parameters, data, TREES))

    @override
    def predict_many(self, inputs: Matrix) -> Vector:
        return np.asarray(self.booster.predict(inputs, num_threads=1), dtype=np.float64)

    @override
    def as_forest(self) -> Forest | None:
        return of_lightgbm(self.booster)

    @override
    def contributions(self, inputs: Matrix) -> Matrix:
        return np.asarray(self.booster.predict(inputs, pred_contrib=True, num_threads=1), dtype=np.float64)

    @override
    def to_bytes(self) -> bytes:
        text: str = self.booster.model_to_string(num_iteration=-1)
        return text.encode()

    @classmethod
    @override
    def read(cls, content: bytes, columns: int) -> Self:
        with needs("boosting"):
            import lightgbm
        try:
            booster = lightgbm.Booster(model_str=_written(content, cls.file).decode("utf-8"))
        except lightgbm.basic.LightGBMError as error:
            raise ArtifactError("is not a model that LightGBM reads", field=cls.file) from error
        return cls(_checked(booster, booster.num_feature(), columns, cls.file))


@final
@dataclass(frozen=True, eq=False)
class CatBoostTrees(Trees):
    """Trees of CatBoost, kept as its cbm; ``booster`` is a ``catboost.CatBoostRegressor`` that ``content`` holds."""

    booster: Any
    content: bytes
    file: ClassVar[str] = "booster.cbm"

    @classmethod
    @override
    def train(cls, inputs: Matrix, target: Vector, *, seed: int, threads: int) -> Self:
        with needs("catboost"):
            import catboost
        booster = catboost.CatBoostRegressor(
            loss_function="RMSE",
            boost_from_average=False,
            boosting_type="Plain",
            iterations=TREES,
            learning_rate=0.1,
            depth=5,
            l2_leaf_reg=1.0,
            rsm=0.3,
            border_count=64,
            bootstrap_type="Bernoulli",
            subsample=0.8,
            allow_writing_files=False,
            logging_level="Silent",
            thread_count=threads,
            random_seed=seed,
        )
        if np.ptp(target) == 0:  # CatBoost refuses a target that never changes
            target = target + np.where(np.arange(len(target)) == 0, 1e-12, 0.0)
        booster.fit(inputs, target)
        described = booster.get_metadata()
        for key in ("model_guid", "train_finish_time"):
            described[key] = ""  # the same trees are the same bytes
        return cls(booster, booster._serialize_model())  # which would not be the same again after a reload

    @override
    def predict_many(self, inputs: Matrix) -> Vector:
        return np.asarray(self.booster.predict(inputs, thread_count=1), dtype=np.float64)

    @override
    def as_forest(self) -> Forest | None:
        return of_catboost(self.booster)

    @override
    def contributions(self, inputs: Matrix) -> Matrix:
        import catboost

        found = self.booster.get_feature_importance(catboost.Pool(inputs), type="ShapValues", thread_count=1)
        return np.asarray(found, dtype=np.float64)

    @override
    def to_bytes(self) -> bytes:
        return self.content

    @classmethod
    @override
    def read(cls, content: bytes, columns: int) -> Self:
        with needs("catboost"):
            import catboost
        booster = catboost.CatBoostRegressor()
        try:
            booster.load_model(blob=bytes(_written(content, cls.file)))
        except catboost.CatBoostError as error:
            raise ArtifactError("is not a model that CatBoost reads", field=cls.file) from error
        return cls(_checked(booster, len(booster.feature_names_), columns, cls.file), content)


def _written(content: bytes, file: str) -> bytearray:
    """Return what a file holds; raise :class:`~leti.core.errors.ArtifactError` for nothing, on which XGBoost aborts."""
    if not content:
        raise ArtifactError("is empty", field=file)
    return bytearray(content)


def _checked(booster: Any, has: int, columns: int, file: str) -> Any:
    """Return a booster; raise :class:`~leti.core.errors.ArtifactError` where it reads other columns."""
    if has != columns:
        raise ArtifactError(f"reads {has} columns, {columns} are given", field=file)
    return booster
