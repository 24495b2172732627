"""Boosted trees in checkpoints that are wrong in a single place: a sentence, and nothing written."""

import shutil

import bundles
import numpy as np
import pytest

from estimator_serving.exporter import SavedModelError, UnsupportedOps, import_saved_model
from estimator_serving.wire.pb import boosted_trees_pb
from estimator_serving.wire.tensor_bundle import open_bundle

ENSEMBLE = "boosted_trees:0_serialized"


@pytest.fixture
def changed(small, tmp_path):
    """A function from an edit of the ensemble, or its new bytes, to a SavedModel with it."""
    directory = shutil.copytree(small("tf115_boosted_trees") / "saved_model", tmp_path / "saved_model")

    def change(edit):
        prefix = directory / "variables" / "variables"
        bundle = open_bundle(prefix)
        tensors = {key: np.array(bundle.read(key)) for key in bundle.keys()}  # noqa: SIM118 - a bundle is no mapping
        content = edit
        if not isinstance(edit, bytes):
            ensemble = boosted_trees_pb.TreeEnsemble.FromString(tensors[ENSEMBLE].item())
            edit(ensemble)
            content = ensemble.SerializeToString()
        tensors[ENSEMBLE] = np.array(content, object)
        shutil.rmtree(prefix.parent)
        prefix.parent.mkdir()
        bundles.write_bundle(prefix, *bundles.make_bundle(tensors))
        return directory

    return change


def refuse(directory, error, match):
    with pytest.raises(error, match=match):
        import_saved_model(directory, directory.parent / "base")
    assert not (directory.parent / "base").exists()


def first_split(ensemble):
    return next(node for tree in ensemble.trees for node in tree.nodes if node.HasField("bucketized_split"))


def test_an_ensemble_that_is_the_same_imports(changed, tmp_path):
    assert import_saved_model(changed(lambda _: None), tmp_path / "base")


def test_no_message(changed):
    refuse(changed(b"\x0a\xff"), SavedModelError, "The trees of .* cannot be read")


def test_a_child_that_is_not_there(changed):
    def edit(ensemble):
        first_split(ensemble).bucketized_split.left_id = 10_000

    refuse(changed(edit), SavedModelError, "The trees of .* are damaged")


def test_a_circle(changed):
    def edit(ensemble):
        first_split(ensemble).bucketized_split.left_id = 0

    refuse(changed(edit), SavedModelError, "The trees of .* are damaged")


def test_a_feature_that_is_not_there(changed):
    def edit(ensemble):
        first_split(ensemble).bucketized_split.feature_id = 99

    refuse(changed(edit), SavedModelError, "split by a feature that they do not get")


def test_a_tree_without_a_weight(changed):
    refuse(changed(lambda ensemble: ensemble.tree_weights.pop()), SavedModelError, "trees and .* weights")


def test_a_leaf_of_too_many_logits(changed):
    def edit(ensemble):
        leaf = next(node for tree in ensemble.trees for node in tree.nodes if node.HasField("leaf"))
        leaf.leaf.vector.value.extend([1.0, 2.0])

    refuse(changed(edit), UnsupportedOps, "a leaf has 2 values for 1 logits")


def test_a_split_of_another_kind(changed):
    def edit(ensemble):
        first_split(ensemble).ClearField("bucketized_split")

    refuse(changed(edit), UnsupportedOps, "splits of a kind that is not converted")


def test_no_trees_give_zeros(changed, tmp_path):
    def edit(ensemble):
        ensemble.Clear()

    assert import_saved_model(changed(edit), tmp_path / "base")
