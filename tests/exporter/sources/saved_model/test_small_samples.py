"""Recorded SavedModels of one subject each: open sequences, text, ragged features, SequenceExamples, boosted trees."""

import numpy as np
import pytest
import saved_models

from estimator_serving import ops
from estimator_serving.exporter import import_saved_model
from estimator_serving.wire import signatures

CASES = ["tf115_boosted_trees", "tf215_ragged", "tf215_recurrent", "tf215_sequences", "tf215_text"]


def load(version):
    """The session, and the signatures, of a servable."""
    session = ops.session(f"{version}/model.onnx")
    return session, signatures.from_properties(session.get_modelmeta().custom_metadata_map).signatures


@pytest.mark.parametrize("name", CASES)
def test_every_signature_gives_tensorflows_answers(small, name, tmp_path):
    compared = saved_models.compare(small(name), import_saved_model(small(name) / "saved_model", tmp_path))
    assert compared.equal
    assert not compared.missing
    assert not compared.wrong


@pytest.fixture(scope="module")
def recurrent(small, tmp_path_factory):
    """A function from ids and numbers to the outputs of the recurrent layers, by alias."""
    path = small("tf215_recurrent") / "saved_model"
    session, found = load(import_saved_model(path, tmp_path_factory.mktemp("base")))
    signature = found["serving_default"]
    names = {alias: info.value_name for alias, info in signature.outputs.items()}

    def run(ids, x):
        feeds = {signature.inputs["ids"].value_name: ids, signature.inputs["x"].value_name: x}
        return dict(zip(names, session.run(list(names.values()), feeds), strict=True))

    return run


@pytest.fixture(scope="module")
def recorded(small):
    """The recurrent layers' inputs, and TensorFlow's answers by alias."""
    case = small("tf215_recurrent")
    answers = np.load(case / "answers.npz")
    given = {name.split("|")[1]: answers[name] for name in answers.files if name.endswith("|all")}
    return np.load(case / "inputs.npz"), given


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_first_steps_are_those_of_a_longer_sequence(recurrent, recorded, length):
    inputs, answers = recorded
    made = recurrent(inputs["ids"][:, :length], inputs["x"][:, :length])
    assert made["steps"].shape == (24, length, 4)
    np.testing.assert_allclose(made["steps"], answers["steps"][:, :length], atol=1e-6)


@pytest.mark.parametrize("length", [1, 4])
def test_backwards_the_last_steps_come_first(recurrent, recorded, length):
    inputs, answers = recorded
    made = recurrent(inputs["ids"][:, -length:], inputs["x"][:, -length:])
    np.testing.assert_allclose(made["back"], answers["back"][:, :length], atol=1e-6)


def test_padding_changes_no_state(recurrent, recorded):
    inputs, answers = recorded
    padded = np.pad(inputs["ids"], ((0, 0), (0, 9)))
    made = recurrent(padded, np.zeros((24, 1, 2), np.float32))
    for alias in ("hidden", "cell", "both"):
        np.testing.assert_allclose(made[alias], answers[alias], atol=1e-6)
