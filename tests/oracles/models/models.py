"""Models of other libraries, fitted to real data: the rows of the table that `make oracle-models` prints.

Owns the data sets, which packages ship, and the models, made as their owners would. Knows nothing of exporting.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    isotonic,
    kernel_ridge,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline, make_union

Fit = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Case:
    """A model and the data it is fitted to.

    Attributes:
        name: what the table calls it.
        data: a key of DATA.
        fit: makes the fitted model of the rows and their labels.
    """

    name: str
    data: str
    fit: Fit


def _sklearn(load: Any) -> tuple[Any, Any]:
    rows, labels = load(return_X_y=True)
    return rows, labels


def _penguins() -> tuple[pd.DataFrame, Any]:
    """344 penguins: numbers and text, some of both missing."""
    import palmerpenguins

    table = palmerpenguins.load_penguins()
    return table.drop(columns="species"), table["species"].to_numpy(object)


def _cars() -> tuple[pd.DataFrame, Any]:
    """406 cars: text, missing numbers, a date and a boolean; the weight is to be found."""
    from vega_datasets import local_data

    table = local_data.cars()
    rows = pd.DataFrame(
        {
            "origin": table["Origin"].astype(object),
            "mpg": table["Miles_per_Gallon"],
            "power": table["Horsepower"],
            "acceleration": table["Acceleration"],
            "cylinders": table["Cylinders"],
            "is_american": table["Origin"] == "USA",
            "year": table["Year"].dt.year.astype(np.int64),
        }
    )
    return rows, table["Weight_in_lbs"].to_numpy(np.float64)


def _weather() -> tuple[pd.DataFrame, Any]:
    """1,461 days in Seattle: numbers, the date as a month and a number of days; the weather's word is to be found."""
    from vega_datasets import local_data

    table = local_data.seattle_weather()
    rows = table[["precipitation", "temp_max", "temp_min", "wind"]].copy()
    rows["month"] = table["date"].dt.month.astype(np.int64)
    rows["days"] = (table["date"] - pd.Timestamp("2012-01-01")).dt.days.astype(np.int64)
    return rows, table["weather"].to_numpy(object)


def _breast_cancer_frame() -> tuple[pd.DataFrame, Any]:
    """Columns whose names have spaces."""
    bunch = datasets.load_breast_cancer(as_frame=True)
    return bunch.data, bunch.target.to_numpy()


DATA: dict[str, Callable[[], tuple[Any, Any]]] = {
    "iris": lambda: _sklearn(datasets.load_iris),
    "wine": lambda: _sklearn(datasets.load_wine),
    "digits": lambda: _sklearn(datasets.load_digits),
    "breast_cancer": lambda: _sklearn(datasets.load_breast_cancer),
    "breast_cancer_frame": _breast_cancer_frame,
    "diabetes": lambda: _sklearn(datasets.load_diabetes),
    "linnerud": lambda: _sklearn(datasets.load_linnerud),
    "penguins": _penguins,
    "cars": _cars,
    "weather": _weather,
}


@cache
def data(name: str) -> tuple[Any, Any]:
    """The rows and labels of a data set: an array or a data frame, and a vector or matrix."""
    return DATA[name]()


def _encoded(numbers: list[str], words: list[str], **options: Any) -> compose.ColumnTransformer:
    """Missing numbers are filled, text becomes columns of 0 and 1."""
    encoder = preprocessing.OneHotEncoder(**({"handle_unknown": "ignore"} | options))
    filled = make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    return compose.make_column_transformer((filled, numbers), (encoder, words))


_PENGUIN_NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year"]
_CAR_NUMBERS = ["mpg", "power", "acceleration", "cylinders", "is_american", "year"]


def _of(model: Any) -> Fit:
    return lambda rows, labels: model.fit(rows, labels)


def _scaled(model: Any) -> Fit:
    return _of(make_pipeline(preprocessing.StandardScaler(), model))


def _penguin(model: Any, **options: Any) -> Fit:
    return _of(make_pipeline(_encoded(_PENGUIN_NUMBERS, ["island", "sex"], **options), model))


def _car(model: Any) -> Fit:
    return _of(make_pipeline(_encoded(_CAR_NUMBERS, ["origin"]), model))


_LGBM = {"n_estimators": 20, "verbose": -1, "n_jobs": 1}
_XGB = {"n_estimators": 20, "n_jobs": 1}
_CAT = {"iterations": 20, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def _lgbm(kind: Any = lightgbm.LGBMRegressor, **options: Any) -> Any:
    return kind(**(_LGBM | options))


def _xgb(kind: Any = xgboost.XGBRegressor, **options: Any) -> Any:
    return kind(**(_XGB | options))


def _cat(kind: Any = catboost.CatBoostRegressor, **options: Any) -> Any:
    return kind(**(_CAT | options))


def _positive(model: Any) -> Fit:
    """Fitted to labels above 0."""
    return lambda rows, labels: model.fit(rows, np.abs(labels) + 1.0)


def _categories(frame: pd.DataFrame, words: list[str]) -> pd.DataFrame:
    return frame.assign(**{word: frame[word].astype("category") for word in words})


def _sklearn_cases() -> list[Case]:
    lm, en, pre = linear_model, ensemble, preprocessing
    binary, numbers = "breast_cancer", "diabetes"
    vote = [("a", lm.LogisticRegression(max_iter=300)), ("b", tree.DecisionTreeClassifier(max_depth=3))]
    return [
        # Linear models.
        Case("LinearRegression", numbers, _of(lm.LinearRegression())),
        Case("Ridge", numbers, _of(lm.Ridge())),
        Case("RidgeCV", numbers, _of(lm.RidgeCV())),
        Case("Lasso", numbers, _of(lm.Lasso(0.1))),
        Case("ElasticNet", numbers, _of(lm.ElasticNet(0.01))),
        Case("BayesianRidge", numbers, _of(lm.BayesianRidge())),
        Case("ARDRegression", numbers, _of(lm.ARDRegression())),
        Case("HuberRegressor", numbers, _of(lm.HuberRegressor())),
        Case("Lars", numbers, _of(lm.Lars())),
        Case("OrthogonalMatchingPursuit", numbers, _of(lm.OrthogonalMatchingPursuit())),
        Case("SGDRegressor", numbers, _scaled(lm.SGDRegressor(random_state=0))),
        Case("QuantileRegressor", numbers, _of(lm.QuantileRegressor(alpha=0.01))),
        Case("TheilSenRegressor", numbers, _of(lm.TheilSenRegressor(random_state=0))),
        Case("RANSACRegressor", numbers, _of(lm.RANSACRegressor(random_state=0))),
        Case("PoissonRegressor", numbers, _positive(lm.PoissonRegressor())),
        Case("GammaRegressor", numbers, _positive(lm.GammaRegressor())),
        Case("TweedieRegressor", numbers, _positive(lm.TweedieRegressor(power=1.5))),
        Case("LogisticRegression", "iris", _of(lm.LogisticRegression(max_iter=1000))),
        Case("LogisticRegression, not scaled", binary, _of(lm.LogisticRegression(max_iter=300))),
        Case("LogisticRegressionCV", "wine", _scaled(lm.LogisticRegressionCV())),
        Case("SGDClassifier, log loss", "wine", _scaled(lm.SGDClassifier(loss="log_loss", random_state=0))),
        Case("RidgeClassifier", "wine", _of(lm.RidgeClassifier())),
        Case("Perceptron", "iris", _of(lm.Perceptron())),
        Case("LinearRegression of three targets", "linnerud", _of(lm.LinearRegression())),
        Case("MultiOutputRegressor", "linnerud", _of(multioutput.MultiOutputRegressor(lm.Ridge()))),
        Case("PLSRegression", "linnerud", _of(cross_decomposition.PLSRegression(2))),
        Case(
            "TransformedTargetRegressor",
            numbers,
            _of(compose.TransformedTargetRegressor(lm.Ridge(), func=np.log1p, inverse_func=np.expm1)),
        ),
        # Trees and forests.
        Case("DecisionTreeClassifier", "digits", _of(tree.DecisionTreeClassifier(random_state=0))),
        Case("DecisionTreeRegressor", numbers, _of(tree.DecisionTreeRegressor(random_state=0))),
        Case("ExtraTreeClassifier", "wine", _of(tree.ExtraTreeClassifier(random_state=0))),
        Case("RandomForestClassifier", "digits", _of(en.RandomForestClassifier(20, random_state=0))),
        Case(
            "RandomForestClassifier, shallow", binary, _of(en.RandomForestClassifier(20, max_depth=3, random_state=0))
        ),
        Case("RandomForestClassifier, text classes", "weather", _of(en.RandomForestClassifier(20, random_state=0))),
        Case("RandomForestRegressor", numbers, _of(en.RandomForestRegressor(20, random_state=0))),
        Case("RandomForestRegressor of three targets", "linnerud", _of(en.RandomForestRegressor(10, random_state=0))),
        Case("ExtraTreesClassifier", "wine", _of(en.ExtraTreesClassifier(20, random_state=0))),
        Case("ExtraTreesRegressor", numbers, _of(en.ExtraTreesRegressor(20, random_state=0))),
        Case("GradientBoostingClassifier", "wine", _of(en.GradientBoostingClassifier(n_estimators=20))),
        Case("GradientBoostingRegressor", numbers, _of(en.GradientBoostingRegressor(n_estimators=50))),
        Case(
            "GradientBoostingRegressor, huber",
            numbers,
            _of(en.GradientBoostingRegressor(loss="huber", n_estimators=50)),
        ),
        Case("HistGradientBoostingClassifier", "wine", _of(en.HistGradientBoostingClassifier(max_iter=20))),
        Case("HistGradientBoostingClassifier, two", binary, _of(en.HistGradientBoostingClassifier(max_iter=30))),
        Case("HistGradientBoostingRegressor", numbers, _of(en.HistGradientBoostingRegressor())),
        Case(
            "HistGradientBoostingRegressor, poisson",
            numbers,
            _positive(en.HistGradientBoostingRegressor(loss="poisson")),
        ),
        Case("HistGradientBoostingRegressor, scaled", numbers, _scaled(en.HistGradientBoostingRegressor())),
        Case(
            "HistGradientBoostingRegressor, text",
            "cars",
            _of(
                make_pipeline(
                    compose.make_column_transformer((pre.OrdinalEncoder(), ["origin"]), remainder="passthrough"),
                    en.HistGradientBoostingRegressor(),
                )
            ),
        ),
        Case(
            "HistGradientBoostingClassifier, categories",
            "weather",
            _of(en.HistGradientBoostingClassifier(max_iter=10, categorical_features=["month"])),
        ),
        Case("AdaBoostClassifier", "wine", _of(en.AdaBoostClassifier(n_estimators=10, random_state=0))),
        Case("AdaBoostRegressor", numbers, _of(en.AdaBoostRegressor(n_estimators=10, random_state=0))),
        Case("BaggingClassifier", "wine", _of(en.BaggingClassifier(n_estimators=10, random_state=0))),
        Case("BaggingRegressor", numbers, _of(en.BaggingRegressor(n_estimators=10, random_state=0))),
        Case("VotingClassifier, soft", binary, _of(en.VotingClassifier(vote, voting="soft"))),
        Case("VotingClassifier, hard", binary, _of(en.VotingClassifier(vote))),
        Case(
            "VotingRegressor",
            numbers,
            _of(en.VotingRegressor([("a", lm.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))])),
        ),
        Case("StackingClassifier", "wine", _of(en.StackingClassifier(vote, cv=2))),
        Case(
            "StackingRegressor",
            numbers,
            _of(en.StackingRegressor([("a", lm.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))], cv=2)),
        ),
        Case("IsolationForest", "wine", lambda rows, _: en.IsolationForest(n_estimators=20, random_state=0).fit(rows)),
        # Neighbours, kernels, networks, Bayes.
        Case("KNeighborsClassifier", "wine", _scaled(neighbors.KNeighborsClassifier())),
        Case("KNeighborsClassifier, ties", "iris", _of(neighbors.KNeighborsClassifier(4))),
        Case("KNeighborsClassifier, by distance", "digits", _of(neighbors.KNeighborsClassifier(3, weights="distance"))),
        Case("KNeighborsRegressor", numbers, _of(neighbors.KNeighborsRegressor())),
        Case("RadiusNeighborsRegressor", "linnerud", _of(neighbors.RadiusNeighborsRegressor(100.0))),
        Case("NearestCentroid", "iris", _of(neighbors.NearestCentroid())),
        Case("SVC with probabilities", "iris", _of(svm.SVC(probability=True, random_state=0))),
        Case("SVC", "iris", _of(svm.SVC())),
        Case("SVC, calibrated", "wine", _scaled(calibration.CalibratedClassifierCV(svm.SVC(), cv=2))),
        Case("SVR", numbers, _of(svm.SVR())),
        Case("NuSVR", numbers, _of(svm.NuSVR())),
        Case("LinearSVR", numbers, _scaled(svm.LinearSVR(random_state=0))),
        Case("LinearSVC, calibrated", binary, _scaled(calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2))),
        Case(
            "Random forest, isotonic calibration",
            binary,
            _of(
                calibration.CalibratedClassifierCV(
                    en.RandomForestClassifier(10, random_state=0), method="isotonic", cv=2
                )
            ),
        ),
        Case("KernelRidge", numbers, _of(kernel_ridge.KernelRidge(kernel="rbf"))),
        Case(
            "GaussianProcessRegressor",
            numbers,
            _of(
                gaussian_process.GaussianProcessRegressor(
                    gaussian_process.kernels.RBF() + gaussian_process.kernels.WhiteKernel()
                )
            ),
        ),
        Case("GaussianProcessClassifier", binary, _scaled(gaussian_process.GaussianProcessClassifier(optimizer=None))),
        Case(
            "GaussianProcessClassifier, three classes",
            "iris",
            _of(gaussian_process.GaussianProcessClassifier(optimizer=None)),
        ),
        Case("MLPClassifier", "digits", _scaled(neural_network.MLPClassifier([16], max_iter=50, random_state=0))),
        Case(
            "MLPRegressor",
            numbers,
            _scaled(neural_network.MLPRegressor(hidden_layer_sizes=[16], max_iter=50, random_state=0)),
        ),
        Case("GaussianNB", "iris", _of(naive_bayes.GaussianNB())),
        Case("MultinomialNB", "digits", _of(naive_bayes.MultinomialNB())),
        Case("ComplementNB", "digits", _of(naive_bayes.ComplementNB())),
        Case("BernoulliNB", "digits", _of(naive_bayes.BernoulliNB(binarize=8.0))),
        Case("LinearDiscriminantAnalysis", "wine", _of(discriminant_analysis.LinearDiscriminantAnalysis())),
        Case("QuadraticDiscriminantAnalysis", "wine", _of(discriminant_analysis.QuadraticDiscriminantAnalysis())),
        Case("OneVsRestClassifier", "iris", _of(multiclass.OneVsRestClassifier(lm.LogisticRegression()))),
        Case("OneVsOneClassifier", "iris", _of(multiclass.OneVsOneClassifier(lm.LogisticRegression()))),
        Case(
            "OutputCodeClassifier",
            "iris",
            _of(multiclass.OutputCodeClassifier(lm.LogisticRegression(), random_state=0)),
        ),
        Case(
            "GridSearchCV",
            "iris",
            _of(model_selection.GridSearchCV(lm.LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, cv=2)),
        ),
        Case("KMeans", "iris", lambda rows, _: cluster.KMeans(3, random_state=0, n_init=1).fit(rows)),
        Case(
            "MiniBatchKMeans", "digits", lambda rows, _: cluster.MiniBatchKMeans(5, random_state=0, n_init=1).fit(rows)
        ),
        Case("GaussianMixture", "iris", lambda rows, _: mixture.GaussianMixture(3, random_state=0).fit(rows)),
        Case(
            "IsotonicRegression",
            "linnerud",
            lambda rows, labels: isotonic.IsotonicRegression(out_of_bounds="clip").fit(rows[:, 0], labels[:, 0]),
        ),
        # Steps in front.
        Case("PCA", "digits", _of(make_pipeline(decomposition.PCA(10), lm.LogisticRegression(max_iter=300)))),
        Case("PolynomialFeatures", numbers, _of(make_pipeline(pre.PolynomialFeatures(2), lm.Ridge()))),
        Case("QuantileTransformer", numbers, _of(make_pipeline(pre.QuantileTransformer(n_quantiles=100), lm.Ridge()))),
        Case(
            "QuantileTransformer, normal",
            numbers,
            _of(make_pipeline(pre.QuantileTransformer(n_quantiles=100, output_distribution="normal"), lm.Ridge())),
        ),
        Case("PowerTransformer", binary, _of(make_pipeline(pre.PowerTransformer(), lm.LogisticRegression()))),
        Case(
            "KBinsDiscretizer",
            numbers,
            _of(make_pipeline(pre.KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf"), lm.Ridge())),
        ),
        Case("SplineTransformer", numbers, _of(make_pipeline(pre.SplineTransformer(), lm.Ridge()))),
        Case(
            "Normalizer, MinMaxScaler, RobustScaler",
            "wine",
            _of(make_pipeline(pre.RobustScaler(), pre.MinMaxScaler(), pre.Normalizer(), lm.LogisticRegression())),
        ),
        Case(
            "SelectKBest, FeatureUnion",
            "wine",
            _of(
                make_pipeline(
                    pre.MaxAbsScaler(),
                    make_union(feature_selection.SelectKBest(k=3), decomposition.PCA(2)),
                    lm.LogisticRegression(),
                )
            ),
        ),
        Case("ColumnTransformer, OneHotEncoder", "penguins", _penguin(lm.LogisticRegression(max_iter=1000))),
        Case(
            "OneHotEncoder, min_frequency",
            "penguins",
            _penguin(lm.LogisticRegression(max_iter=1000), handle_unknown="infrequent_if_exist", min_frequency=60),
        ),
        Case(
            "OneHotEncoder, drop first",
            "penguins",
            _penguin(lm.LogisticRegression(max_iter=1000), drop="first", handle_unknown="error"),
        ),
        Case(
            "SimpleImputer on text",
            "penguins",
            _of(
                make_pipeline(
                    compose.make_column_transformer(
                        (
                            make_pipeline(
                                impute.SimpleImputer(strategy="most_frequent"),
                                pre.OneHotEncoder(handle_unknown="ignore"),
                            ),
                            ["island", "sex"],
                        ),
                        (impute.SimpleImputer(add_indicator=True), _PENGUIN_NUMBERS),
                    ),
                    lm.LogisticRegression(max_iter=300),
                )
            ),
        ),
        Case(
            "OrdinalEncoder, forest",
            "penguins",
            _of(
                make_pipeline(
                    compose.make_column_transformer(
                        (pre.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["island", "sex"]),
                        (impute.SimpleImputer(strategy="median"), _PENGUIN_NUMBERS),
                    ),
                    en.RandomForestClassifier(20, random_state=0),
                )
            ),
        ),
        Case(
            "TargetEncoder",
            "cars",
            _of(
                make_pipeline(
                    compose.make_column_transformer(
                        (pre.TargetEncoder(target_type="continuous", random_state=0), ["origin"]),
                        (impute.SimpleImputer(), _CAR_NUMBERS),
                    ),
                    lm.Ridge(),
                )
            ),
        ),
        Case(
            "KNNImputer",
            "cars",
            _of(make_pipeline(compose.make_column_transformer((impute.KNNImputer(), _CAR_NUMBERS)), lm.Ridge())),
        ),
        Case("ColumnTransformer, Ridge", "cars", _car(lm.Ridge())),
    ]


def _boosted_cases() -> list[Case]:
    binary, numbers, frame = "breast_cancer", "diabetes", "breast_cancer_frame"
    lgbm_class, xgb_class, cat_class = lightgbm.LGBMClassifier, xgboost.XGBClassifier, catboost.CatBoostClassifier
    lgbm = [
        Case("LGBMClassifier", "wine", _of(_lgbm(lgbm_class))),
        Case("LGBMClassifier, spaces in names", frame, _of(_lgbm(lgbm_class))),
        Case("LGBMClassifier, dart", binary, _of(_lgbm(lgbm_class, boosting_type="dart"))),
        Case("LGBMClassifier, one against all", "iris", _of(_lgbm(lgbm_class, objective="multiclassova"))),
        Case(
            "LGBMClassifier, random forest",
            binary,
            _of(_lgbm(lgbm_class, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5)),
        ),
        Case(
            "LGBMClassifier, missing numbers",
            "penguins",
            lambda rows, labels: _lgbm(lgbm_class).fit(rows[_PENGUIN_NUMBERS], labels),
        ),
        Case(
            "LGBMClassifier, categories",
            "penguins",
            lambda rows, labels: _lgbm(lgbm_class, min_data_per_group=1).fit(
                _categories(rows, ["island", "sex"]), labels
            ),
        ),
        Case("LGBMRegressor", numbers, _of(_lgbm())),
        Case("LGBMRegressor, l1", numbers, _of(_lgbm(objective="l1"))),
        Case("LGBMRegressor, huber", numbers, _of(_lgbm(objective="huber"))),
        Case("LGBMRegressor, quantile", numbers, _of(_lgbm(objective="quantile"))),
        Case("LGBMRegressor, poisson", numbers, _positive(_lgbm(objective="poisson"))),
        Case("LGBMRegressor, gamma", numbers, _positive(_lgbm(objective="gamma"))),
        Case("LGBMRegressor, tweedie", numbers, _positive(_lgbm(objective="tweedie"))),
        Case(
            "LGBMRegressor, categories of numbers",
            "weather",
            lambda rows, _: _lgbm().fit(rows[["month", "wind"]], rows["temp_max"], categorical_feature=["month"]),
        ),
        Case("LGBMRegressor, linear trees", numbers, _of(_lgbm(linear_tree=True))),
        Case(
            "LGBMRanker",
            numbers,
            lambda rows, labels: _lgbm(lightgbm.LGBMRanker).fit(
                rows, np.digitize(labels, [100, 200]), group=[len(rows)]
            ),
        ),
        Case(
            "lightgbm.Booster",
            numbers,
            lambda rows, labels: lightgbm.train({"verbose": -1}, lightgbm.Dataset(rows, labels), 20),
        ),
        Case("Pipeline, LGBMClassifier", "penguins", _penguin(_lgbm(lgbm_class))),
        Case("Pipeline, LGBMRegressor", "cars", _car(_lgbm())),
        Case(
            "VotingClassifier of LGBM and XGB",
            binary,
            _of(
                ensemble.VotingClassifier([("a", _lgbm(lgbm_class)), ("b", _xgb(xgboost.XGBClassifier))], voting="soft")
            ),
        ),
    ]
    codes: Fit = lambda rows, labels: _xgb(xgb_class).fit(rows, np.unique(labels, return_inverse=True)[1])  # noqa: E731
    xgb = [
        Case("XGBClassifier", "wine", _of(_xgb(xgb_class))),
        Case("XGBClassifier, spaces in names", frame, _of(_xgb(xgb_class))),
        Case("XGBClassifier, multi:softmax", "iris", _of(_xgb(xgb_class, objective="multi:softmax"))),
        Case("XGBClassifier, dart", binary, _of(_xgb(xgb_class, booster="dart", rate_drop=0.3))),
        Case("XGBClassifier, gblinear", binary, _scaled(_xgb(xgb_class, booster="gblinear"))),
        Case("XGBClassifier, hinge", binary, _of(_xgb(xgb_class, objective="binary:hinge"))),
        Case("XGBClassifier, forest of each round", binary, _of(_xgb(xgb_class, num_parallel_tree=3, subsample=0.5))),
        Case("XGBClassifier, missing numbers", "penguins", lambda rows, labels: codes(rows[_PENGUIN_NUMBERS], labels)),
        Case(
            "XGBClassifier, categories",
            "penguins",
            lambda rows, labels: _xgb(xgb_class, enable_categorical=True).fit(
                _categories(rows, ["island", "sex"]), np.unique(labels, return_inverse=True)[1]
            ),
        ),
        Case("XGBRFClassifier", binary, _of(_xgb(xgboost.XGBRFClassifier))),
        Case("XGBRegressor", numbers, _of(_xgb())),
        Case("XGBRegressor, dart", numbers, _of(_xgb(booster="dart", rate_drop=0.3))),
        Case("XGBRegressor, gblinear", numbers, _of(_xgb(booster="gblinear"))),
        Case("XGBRegressor, poisson", numbers, _positive(_xgb(objective="count:poisson"))),
        Case("XGBRegressor, gamma", numbers, _positive(_xgb(objective="reg:gamma"))),
        Case("XGBRegressor, tweedie", numbers, _positive(_xgb(objective="reg:tweedie"))),
        Case("XGBRegressor, absolute error", numbers, _of(_xgb(objective="reg:absoluteerror"))),
        Case("XGBRegressor, quantile", numbers, _of(_xgb(objective="reg:quantileerror", quantile_alpha=0.7))),
        Case("XGBRegressor of three targets", "linnerud", _of(_xgb())),
        Case("XGBRegressor, a tree of three targets", "linnerud", _of(_xgb(multi_strategy="multi_output_tree"))),
        Case("xgboost.Booster", numbers, lambda rows, labels: xgboost.train({}, xgboost.DMatrix(rows, labels), 20)),
        Case(
            "xgboost.Booster, multi:softmax",
            "iris",
            lambda rows, labels: xgboost.train(
                {"objective": "multi:softmax", "num_class": 3}, xgboost.DMatrix(rows, labels), 10
            ),
        ),
        Case("Pipeline, XGBRegressor", "cars", _car(_xgb())),
        Case("Scaler, XGBRegressor", numbers, _scaled(_xgb())),
        Case("Pipeline, XGBClassifier", frame, _scaled(_xgb(xgb_class))),
    ]
    cat = [
        Case("CatBoostClassifier", "wine", _of(_cat(cat_class))),
        Case("CatBoostClassifier, two", binary, _of(_cat(cat_class))),
        Case("CatBoostClassifier, text classes", "weather", _of(_cat(cat_class))),
        Case(
            "CatBoostClassifier, missing numbers",
            "penguins",
            lambda rows, labels: _cat(cat_class).fit(rows[_PENGUIN_NUMBERS], labels),
        ),
        Case("CatBoostClassifier, one against all", "iris", _of(_cat(cat_class, loss_function="MultiClassOneVsAll"))),
        Case("CatBoostClassifier, Lossguide", binary, _of(_cat(cat_class, grow_policy="Lossguide"))),
        Case(
            "CatBoostClassifier, text features",
            "penguins",
            lambda rows, labels: _cat(cat_class, cat_features=["island", "sex"]).fit(
                rows.fillna({"island": "", "sex": ""}), labels
            ),
        ),
        Case("CatBoostRegressor", numbers, _of(_cat())),
        Case("CatBoostRegressor, Depthwise", numbers, _of(_cat(grow_policy="Depthwise"))),
        Case("CatBoostRegressor, poisson", numbers, _positive(_cat(loss_function="Poisson"))),
        Case("CatBoostRegressor, MAE", numbers, _of(_cat(loss_function="MAE"))),
        Case("CatBoostRegressor of three targets", "linnerud", _of(_cat(loss_function="MultiRMSE"))),
        Case("catboost.CatBoost", numbers, _of(catboost.CatBoost(_CAT | {"loss_function": "RMSE"}))),
        Case("Pipeline, CatBoostClassifier", "penguins", _penguin(_cat(cat_class))),
        Case("Pipeline, CatBoostRegressor", "cars", _car(_cat())),
    ]
    return lgbm + xgb + cat


def cases() -> list[Case]:
    """All rows of the table, in its order."""
    return _sklearn_cases() + _boosted_cases()


def fitted(case: Case) -> Any:
    """The model of a case. Its libraries' warnings are no matter of the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return case.fit(*data(case.data))
