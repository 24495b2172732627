"""KMeansClustering: Lloyd's steps as TensorFlow 2.15's full batches, mini batches by their formula, the servable."""

import numpy as np
import pytest

from estimator_serving.training import Dataset, RunConfig
from estimator_serving.training.experimental import KMeans

RANDOM = np.random.default_rng(0)
POINTS = np.concatenate([RANDOM.normal(size=(20, 2)) * 0.3 + c for c in ((0, 0), (5, 5), (0, 5))]).astype(np.float32)
POINTS = POINTS[RANDOM.permutation(60)]
CORNERS = np.float32([[0, 0], [5, 5], [0, 5]])


def points(batch_size=60, passes=1):
    return lambda: Dataset.from_tensor_slices(POINTS).repeat(passes).batch(batch_size)


def clustered(directory, batch_size=60, passes=4, **arguments):
    config = RunConfig(str(directory), tf_random_seed=1)
    return KMeans(3, config=config, **arguments).train(points(batch_size, passes))


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial_clusters": CORNERS + 1, "use_mini_batch": False},
        {"initial_clusters": CORNERS + 1, "batch_size": 20, "passes": 30, "mini_batch_steps_per_iteration": 3},
        {"initial_clusters": "kmeans_plus_plus", "use_mini_batch": False, "seed": 3},
        {"initial_clusters": lambda given, k: given[:k], "batch_size": 2, "passes": 1},
    ],
    ids=["full", "iterations", "far_points", "function"],
)
def test_centers_are_found(arguments, tmp_path):
    kmeans = clustered(tmp_path, **arguments)
    found = kmeans.cluster_centers()
    distances = np.linalg.norm(found[:, None] - CORNERS[None], axis=2)
    if "batch_size" not in arguments or arguments["batch_size"] > 2:
        assert distances.min(axis=0).max() < 0.4
    assert kmeans.score(points()) == pytest.approx(sum(min(row) for row in kmeans.transform(points())), rel=1e-4)


def test_mini_batches_follow_the_running_mean(tmp_path):
    kmeans = clustered(tmp_path, batch_size=20, passes=1, initial_clusters=CORNERS)
    centers, counts = CORNERS.astype(float), np.zeros(3)
    for batch in np.split(POINTS, 3):
        nearest = np.square(batch[:, None] - centers[None]).sum(2).argmin(1)
        for i in range(3):
            own = batch[nearest == i]
            counts[i] += len(own)
            centers[i] += (own.sum(0) - len(own) * centers[i]) / max(1, counts[i])
    np.testing.assert_allclose(kmeans.cluster_centers(), centers, rtol=1e-4, atol=1e-5)
    assert [*kmeans.predict_cluster_index(points())][:2] == [
        *np.square(POINTS[:2, None] - centers[None]).sum(2).argmin(1)
    ]


def test_cosine_distances_and_the_end_of_a_still_training(tmp_path):
    kmeans = clustered(tmp_path, initial_clusters=CORNERS + 1, distance_metric="cosine", relative_tolerance=0.9)
    assert kmeans.latest_checkpoint().endswith("model.ckpt-2")
    assert all(0 <= distance <= 2.0001 for row in kmeans.transform(points()) for distance in row)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"distance_metric": "far"}, "Unsupported distance metric passed to Kmeans far"),
        ({"initial_clusters": "best"}, "Unsupported initialization algorithm 'best'"),
        ({"initial_clusters": "kmeans_plus_plus", "batch_size": 2}, "the batch has 2 points"),
    ],
)
def test_misuse(arguments, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        clustered(tmp_path, **arguments)
