"""K-means clustering as an Estimator (TF 2.15's tf.compat.v1.estimator.experimental.KMeans).

Owns the choice of the first centers and how a batch moves them. There is no gradient: a step is Lloyd's, on a batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.canned.common import listed
from estimator_serving.training.columns.base import FeatureColumn
from estimator_serving.training.columns.layers import input_layer
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.hooks import SessionRunHook
from estimator_serving.training.hooks.base import SessionRunArgs, SessionRunContext, SessionRunValues
from estimator_serving.training.model_fn import EstimatorSpec, PredictOutput
from estimator_serving.training.nn import initializers, metrics, summaries
from estimator_serving.training.nn.variables import current_store, get_variable
from estimator_serving.training.optimizers.base import Replicas, TrainOp
from estimator_serving.training.run_config import RunConfig

InitialClusters = str | np.ndarray | Tensor | Callable[[Tensor, int], Tensor]

SQUARED_EUCLIDEAN, COSINE = "squared_euclidean", "cosine"
RANDOM, KMEANS_PLUS_PLUS = "random", "kmeans_plus_plus"


class KMeansClustering(Estimator):
    """Groups points: each belongs to its nearest center, and centers move to the mean of their points.

    `features` are points f32 [B, n], or a dict of columns [B, k], side by side by name; `feature_columns` reads them as
    input_layer does. The first centers come from the first batches: `initial_clusters` is 'random' (points drawn),
    'kmeans_plus_plus' (points far from each other, of one batch that must have num_clusters points), an array
    [num_clusters, n], or a function (points, k) -> up to k centers. `distance_metric` is 'squared_euclidean' or
    'cosine'. With `use_mini_batch` a center is the mean of all points it was given in the training, or with
    `mini_batch_steps_per_iteration` above 1 of those in so many batches, after which it moves. Without `use_mini_batch`
    a batch is all the data, and a center is the mean of its points in that batch. Training ends when the loss changes
    by less than `relative_tolerance`.

    Predictions are `cluster_index` int64 [B] and `all_distances` f32 [B, num_clusters]; evaluations have `score`, the
    sum of the distances of a batch. A servable's default signature gives `cluster_index`.
    """

    SQUARED_EUCLIDEAN_DISTANCE = SQUARED_EUCLIDEAN
    COSINE_DISTANCE = COSINE
    RANDOM_INIT = RANDOM
    KMEANS_PLUS_PLUS_INIT = KMEANS_PLUS_PLUS
    SCORE = "score"
    CLUSTER_INDEX = "cluster_index"
    ALL_DISTANCES = "all_distances"
    CLUSTER_CENTERS_VAR_NAME = "clusters"

    def __init__(
        self,
        num_clusters: int,
        model_dir: str | os.PathLike[str] | None = None,
        initial_clusters: InitialClusters = RANDOM,
        distance_metric: str = SQUARED_EUCLIDEAN,
        seed: int | None = None,
        use_mini_batch: bool = True,
        mini_batch_steps_per_iteration: int = 1,
        kmeans_plus_plus_num_retries: int = 2,
        relative_tolerance: float | None = None,
        config: RunConfig | None = None,
        feature_columns: Iterable[FeatureColumn] | None = None,
    ) -> None:
        if distance_metric not in (SQUARED_EUCLIDEAN, COSINE):
            raise ValueError(f"Unsupported distance metric passed to Kmeans {distance_metric}")
        if isinstance(initial_clusters, str) and initial_clusters not in (RANDOM, KMEANS_PLUS_PLUS):
            raise ValueError(f"Unsupported initialization algorithm '{initial_clusters}'")
        if isinstance(initial_clusters, np.ndarray | Tensor):
            num_clusters = len(initial_clusters)
        clustering = _Clustering(
            num_clusters,
            initial_clusters,
            distance_metric == COSINE,
            seed,
            use_mini_batch,
            mini_batch_steps_per_iteration,
            kmeans_plus_plus_num_retries,
            relative_tolerance,
            listed(feature_columns),
        )
        super().__init__(clustering.model_fn, model_dir, config)

    def cluster_centers(self) -> np.ndarray:
        """The centers f32 [num_clusters, n] of the newest checkpoint. ValueError before training."""
        return self.get_variable_value(self.CLUSTER_CENTERS_VAR_NAME)

    def predict_cluster_index(self, input_fn: Callable[..., Any]) -> Iterator[Any]:
        """The nearest center of each point."""
        for found in self.predict(input_fn, self.CLUSTER_INDEX):
            yield found[self.CLUSTER_INDEX]

    def transform(self, input_fn: Callable[..., Any]) -> Iterator[Any]:
        """The distances of each point to all centers: of squared_euclidean, the squared ones."""
        for found in self.predict(input_fn, self.ALL_DISTANCES):
            yield found[self.ALL_DISTANCES]

    def score(self, input_fn: Callable[..., Any]) -> Any:
        """The sum of the distances of all points to their centers, if the input is one batch."""
        return self.evaluate(input_fn, steps=1)[self.SCORE]


@dataclass(frozen=True, eq=False)
class _Clustering:
    num_clusters: int
    initial_clusters: InitialClusters
    is_cosine: bool
    seed: int | None
    use_mini_batch: bool
    steps_per_iteration: int
    retries: int
    relative_tolerance: float | None
    feature_columns: tuple[FeatureColumn, ...]

    def model_fn(self, features: Any, mode: str) -> EstimatorSpec:
        if not isinstance(features, Mapping):
            points = features.float()
        elif self.feature_columns:
            points = input_layer(features, self.feature_columns)
        else:
            columns = [features[key].float() for key in sorted(features)]
            points = torch.cat([column.reshape(len(column), -1) for column in columns], 1)
        points = points.detach()
        state = _State.of(self, points.shape[1])
        if mode == "train" and not current_store().without_steps:
            self._choose_first_centers(points, state)
        distances = self._distances(points, state.centers)
        nearest, index = distances.min(1)
        loss = nearest.sum()
        summaries.scalar("loss/raw", loss)
        cluster, every = KMeansClustering.CLUSTER_INDEX, KMeansClustering.ALL_DISTANCES
        return EstimatorSpec(
            mode,
            predictions={every: distances, cluster: index},
            loss=loss,
            train_op=_Step(current_store(), loss, (), self, state, points, index),
            eval_metric_ops={KMeansClustering.SCORE: metrics.mean(loss)},
            training_hooks=[] if self.relative_tolerance is None else [_StopWhenStill(self.relative_tolerance)],
            export_outputs={
                every: PredictOutput(distances),
                cluster: PredictOutput(index),
                "serving_default": PredictOutput(index),
            },
        )

    def _distances(self, points: Tensor, centers: Tensor) -> Tensor:
        """f32 [B, clusters]: squared Euclidean distances, or 1 − the cosine."""
        if self.is_cosine:
            normalize = torch.nn.functional.normalize
            return 1.0 - normalize(points, dim=1) @ normalize(centers, dim=1).t()
        products = points @ centers.t()
        squares = points.square().sum(1, keepdim=True) + centers.square().sum(1) - 2.0 * products
        return squares.clamp(min=0.0)

    def _choose_first_centers(self, points: Tensor, state: _State) -> None:
        """Take centers from this batch until there are enough; a batch may have too few points to begin with."""
        taken = int(state.chosen)
        missing = self.num_clusters - taken
        if not missing:
            return
        generator = torch.Generator().manual_seed(current_store().step_seed if self.seed is None else self.seed)
        given = self.initial_clusters
        if callable(given):
            found = given(points, missing)
        elif not isinstance(given, str):
            found = torch.as_tensor(given, dtype=torch.float32)
        elif given == RANDOM:
            found = points[torch.randperm(len(points), generator=generator)[:missing]]
        else:
            if len(points) < self.num_clusters:
                raise ValueError(
                    f"kmeans_plus_plus chooses {self.num_clusters} centers from one batch, and the batch has "
                    f"{len(points)} points. Make batches larger, or take initial_clusters='random'."
                )
            found = self._far_points(points, generator)
        with torch.no_grad():
            state.centers[taken : taken + len(found)] = found
            state.chosen.add_(len(found))
        if taken + len(found) < self.num_clusters:  # until then, every missing center is one that is there
            state.centers[taken + len(found) :] = state.centers[0]

    def _far_points(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """k-means++: each next center is drawn by its distance to the centers so far, the best of some draws."""
        centers = points[torch.randint(len(points), (1,), generator=generator)]
        nearest = self._distances(points, centers)[:, 0]
        for _ in range(self.num_clusters - 1):
            chances = nearest if nearest.sum() > 0 else torch.ones_like(nearest)
            drawn = torch.multinomial(chances, 1 + self.retries, replacement=True, generator=generator)
            after = torch.minimum(nearest.unsqueeze(1), self._distances(points, points[drawn]))
            best = int(after.sum(0).argmin())
            centers, nearest = torch.cat([centers, points[drawn[best]].unsqueeze(0)]), after[:, best]
        return centers


@dataclass(frozen=True, eq=False)
class _State:
    """The variables: centers, how many are chosen, how many points each has had, and what the iteration adds up."""

    centers: Tensor
    chosen: Tensor
    counts: Tensor
    sums: Tensor
    new_counts: Tensor

    @classmethod
    def of(cls, clustering: _Clustering, width: int) -> _State:
        k = clustering.num_clusters

        def variable(name: str, shape: tuple[int, ...]) -> Tensor:
            return get_variable(name, shape, initializer=initializers.zeros, trainable=False)

        return cls(
            variable("clusters", (k, width)),
            variable("initialized", ()),
            variable("total_counts", (k,)),
            variable("update_in_steps/sums", (k, width)),
            variable("update_in_steps/counts", (k,)),
        )


@dataclass(frozen=True, slots=True)
class _Step(TrainOp):
    clustering: _Clustering
    state: _State
    points: Tensor
    index: Tensor

    def run(self, strategy: Replicas | None = None) -> None:
        """Add the batch's points up by their centers, move the centers at the end of an iteration, count the step.

        Raises ValueError for several replicas: each would choose other first centers.
        """
        if strategy is not None and strategy.num_replicas > 1:
            raise ValueError(
                f"KMeansClustering trains in one process, and {strategy.num_replicas} replicas train together. Train "
                "it with a cluster of one."
            )
        state, clustering = self.state, self.clustering
        points = torch.nn.functional.normalize(self.points, dim=1) if clustering.is_cosine else self.points
        with torch.no_grad():
            state.sums.index_add_(0, self.index, points)
            state.new_counts.index_add_(0, self.index, torch.ones(len(points)))
            self.store.global_step += 1
            if clustering.use_mini_batch and self.store.global_step % clustering.steps_per_iteration:
                return
            if not clustering.use_mini_batch or clustering.steps_per_iteration > 1:
                state.counts.zero_()
            state.counts.add_(state.new_counts)
            # A center without points stays where it is; TensorFlow's full batches move it to 0.
            beyond = state.sums - state.new_counts.unsqueeze(1) * state.centers
            state.centers.add_(beyond / state.counts.clamp(min=1).unsqueeze(1))
            state.sums.zero_()
            state.new_counts.zero_()


class _StopWhenStill(SessionRunHook):
    """Stop when the loss changes by less than a share `tolerance` from step to step (TF 2.15's formula)."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._previous: float | None = None

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        return SessionRunArgs("loss")

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        loss = float(run_values.results)
        if self._previous and abs(loss - self._previous) / (1 + abs(self._previous)) < self._tolerance:
            run_context.request_stop()
        self._previous = loss
