"""The whole line on real data: CSV, training, export, server, REST and gRPC."""

import grpc
import numpy as np
import ovmsclient
import pytest
from served import serve
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from estimator_serving.examples.titanic import client_grpc, client_rest, train
from estimator_serving.training import numpy_input_fn
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb

NUMBERS = ("age", "fare", "sibsp", "parch")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    made = train.make_classifier(tmp_path_factory.mktemp("model"))
    train.train(made)
    return made


@pytest.fixture(scope="module")
def served(classifier, tmp_path_factory):
    base = tmp_path_factory.mktemp("servable")
    train.export(classifier, base)
    with serve(base, name="titanic") as running:
        yield running


def table(dataset):
    """All rows of a Dataset as one matrix of columns, and the labels."""
    ((features, labels),) = dataset.batch(10_000)
    return np.column_stack([features[key].astype(object) for key in sorted(features)]), labels


def logistic_regression_accuracy():
    columns = sorted(("gender", "class", "embarked", *NUMBERS))
    numbers = [columns.index(key) for key in NUMBERS]
    words = [index for index in range(len(columns)) if index not in numbers]
    prepare = make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore"), words))
    model = make_pipeline(prepare, LogisticRegression(max_iter=1000))
    model.fit(*table(train.read_passengers().skip(train.HELD_OUT_ROWS)))
    return model.score(*table(train.read_passengers().take(train.HELD_OUT_ROWS)))


def test_it_learns_as_well_as_logistic_regression(classifier):
    accuracy = classifier.evaluate(train.evaluation_input_fn)["accuracy"]
    assert accuracy >= logistic_regression_accuracy() - 0.01


def held_out_passengers(count):
    ((features, _),) = train.read_passengers().take(count).batch(count)
    return [
        {key: float(value[row]) if key in NUMBERS else value[row] for key, value in features.items()}
        for row in range(count)
    ]


def test_rest_grpc_and_predict_agree(classifier, served):
    passengers = held_out_passengers(50)
    columns = {key: np.array([one[key] for one in passengers]) for key in passengers[0]}
    predicted = [row["logistic"] for row in classifier.predict(numpy_input_fn(columns, shuffle=False))]
    body = {"signature_name": "predict", "instances": passengers}
    by_rest = [row["logistic"] for row in client_rest.ask(served.rest, "predict", body)["predictions"]]
    with grpc.insecure_channel(served.grpc) as channel:
        by_grpc = [client_grpc.predict(channel, one)["logistic"][0] for one in passengers]
    # One batch of 50 over REST, 50 of one over gRPC: the order of float32 sums may differ in the last digit.
    np.testing.assert_allclose(by_rest, by_grpc, rtol=0, atol=1e-6)
    np.testing.assert_allclose(by_rest, np.array(predicted), rtol=0, atol=1e-5)


@pytest.mark.parametrize("passenger", held_out_passengers(5))
def test_one_passenger_gets_one_answer(served, passenger):
    """Equal as float32, to the last bit."""
    body = {"signature_name": "predict", "instances": [passenger]}
    (by_rest,) = client_rest.ask(served.rest, "predict", body)["predictions"]
    with grpc.insecure_channel(served.grpc) as channel:
        by_grpc = client_grpc.predict(channel, passenger)
    for alias in ("logits", "logistic", "probabilities"):
        assert np.float32(by_rest[alias]).tolist() == by_grpc[alias][0].tolist()


def test_classify_and_regress_agree_over_both(served):
    (scores,) = client_rest.ask(served.rest, "classify", {"examples": [client_rest.PASSENGER]})["results"]
    body = {"signature_name": "regression", "examples": [client_rest.PASSENGER]}
    (value,) = client_rest.ask(served.rest, "regress", body)["results"]
    request = serving_pb.RegressionRequest()
    request.model_spec.name = "titanic"
    request.model_spec.signature_name = "regression"
    request.input.example_list.examples.append(encode_example(client_grpc.PASSENGER))
    with grpc.insecure_channel(served.grpc) as channel:
        (classified,) = client_grpc.classify(channel, client_grpc.PASSENGER).classifications
        (regressed,) = client_grpc.call(channel, "Regress", request).result.regressions
    assert [[one.label, np.float32(one.score)] for one in classified.classes] == [[a, np.float32(b)] for a, b in scores]
    assert np.float32(regressed.value) == np.float32(value)
    # One is a sigmoid, the other a softmax over two: the same number up to the last digit.
    assert value == pytest.approx(scores[1][1], abs=1e-6)


@pytest.mark.parametrize("front", ["grpc", "rest"])
def test_a_client_of_others_sends_examples(served, front):
    """ovmsclient, over both fronts: status, then serialized Examples to the default signature."""
    make = {"grpc": ovmsclient.make_grpc_client, "rest": ovmsclient.make_http_client}[front]
    client = make(getattr(served, front).removeprefix("http://"))
    _, status = served.ask("/v1/models/titanic")
    version = int(status["model_version_status"][0]["version"])
    assert client.get_model_status("titanic", version)[version]["state"] == "AVAILABLE"
    serialized = encode_example(client_grpc.PASSENGER)
    answer = client.predict({"inputs": [serialized, serialized]}, "titanic", version)
    (scores,) = client_rest.ask(served.rest, "classify", {"examples": [client_rest.PASSENGER]})["results"]
    np.testing.assert_allclose(answer["scores"], [[score for _, score in scores]] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"examples": [{"age": 22}]}, "Feature: fare (data type: float) is required but could not be found."),
        ({"examples": [{**client_rest.PASSENGER, "age": "old"}]}, "age"),
        ({"examples": [{**client_rest.PASSENGER, "age": [1, 2]}]}, "Key: age, Index: 0."),
    ],
)
def test_a_bad_passenger_gets_a_sentence_and_the_next_an_answer(served, body, text):
    status, answer = served.ask("/v1/models/titanic:classify", body)
    assert status == 400
    assert text in answer["error"]
    assert served.ask("/v1/models/titanic:classify", {"examples": [client_rest.PASSENGER]})[0] == 200


def test_garbage_bytes_over_grpc(served):
    request = serving_pb.ClassificationRequest()
    request.model_spec.name = "titanic"
    request.input.example_list.examples.append(b"hello")
    with grpc.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            client_grpc.call(channel, "Classify", request)
        assert client_grpc.classify(channel, client_grpc.PASSENGER).classifications
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("Could not parse example input, value: 'hello'")
