"""Requests replayed before a version takes traffic: TensorFlow Serving's rules, and the comparison of answers."""

from __future__ import annotations

import json
import logging
from functools import partial

import numpy as np
import onnx.parser
import pytest
from servables import Uncounted

from estimator_serving.serving.dialects.tfs import proto_codec, replay
from estimator_serving.serving.dialects.tfs.options import DEFAULT
from estimator_serving.serving.errors import Code, ServingError
from estimator_serving.serving.models.loader import Batching, Loader, open_servable
from estimator_serving.serving.models.warmup import EXPECTED_FILE, RECORDS_MAX, WARMUP_FILE
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    Metadata,
    Signature,
    TensorInfo,
    to_properties,
)
from estimator_serving.wire.tensors import encode_tensor

MODEL = """<ir_version: 8, opset_import: ["" : 17, "estimator.ops" : 1]>
g (uint8[n] "input_example_tensor/values", int64[m] "input_example_tensor/row_splits")
=> (float[N,1] scores, string[N,1] classes, int64[N,1] ids)
<string[1] vocabulary = {"yes"}, int64[1,1] zero = {0}>
{
  scores = estimator.ops.ParseExample <kinds = [0], dtypes = [1], ranks = [1], dims = [1], key_0 = "x">
    ("input_example_tensor/values", "input_example_tensor/row_splits")
  shape = Shape(scores)
  ids = Expand(zero, shape)
  classes = Gather(vocabulary, ids)
}"""
EXAMPLES = TensorInfo("input_example_tensor:0", dtypes.string, (-1,))
SCORES = TensorInfo("scores:0", dtypes.float32, (-1, 1))
CLASSES = TensorInfo("classes:0", dtypes.string, (-1, 1))
IDS = TensorInfo("ids:0", dtypes.int64, (-1, 1))
SIGNATURES = {
    "serving_default": Signature({"inputs": EXAMPLES}, {"classes": CLASSES, "scores": SCORES}, CLASSIFY_METHOD),
    "regression": Signature({"inputs": EXAMPLES}, {"outputs": SCORES}, REGRESS_METHOD),
    "predict": Signature({"inputs": EXAMPLES}, {"s": SCORES, "c": CLASSES, "i": IDS}, PREDICT_METHOD),
}


def example(x):
    """A tf.Example with one float feature, written by hand: its message is not ours to import here."""
    value = b"\x12\x06\x0a\x04" + np.float32(x).tobytes()
    entry = b"\x0a\x01x\x12" + bytes([len(value)]) + value
    features = b"\x0a" + bytes([len(entry)]) + entry
    return b"\x0a" + bytes([len(features)]) + features


def examples(*values):
    message = serving_pb.Input()
    message.example_list.examples.extend(example(value) for value in values)
    return message


def spec(signature=""):
    return serving_pb.ModelSpec(name="another model", signature_name=signature, version={"value": 99})


def predict_log(*values):
    log = serving_pb.PredictionLog()
    log.predict_log.request.model_spec.CopyFrom(spec("predict"))
    rows = np.array([example(value) for value in values], object)
    log.predict_log.request.inputs["inputs"].CopyFrom(encode_tensor(rows))
    return log


def classify_log(*values):
    log = serving_pb.PredictionLog()
    log.classify_log.request.CopyFrom(serving_pb.ClassificationRequest(model_spec=spec(), input=examples(*values)))
    return log


def regress_log(*values):
    log = serving_pb.PredictionLog()
    request = serving_pb.RegressionRequest(model_spec=spec("regression"), input=examples(*values))
    log.regress_log.request.CopyFrom(request)
    return log


def multi_log(*values):
    log = serving_pb.PredictionLog()
    request = log.multi_inference_log.request
    request.input.CopyFrom(examples(*values))
    request.tasks.add(model_spec=spec("serving_default"), method_name=CLASSIFY_METHOD)
    request.tasks.add(model_spec=spec("regression"), method_name=REGRESS_METHOD)
    return log


LOGS = [predict_log, classify_log, regress_log, multi_log]


@pytest.fixture
def version(tmp_path):
    """Writes a version with records beside its model."""

    def write(file, logs, **properties):
        model = onnx.parser.parse_model(MODEL)
        for key, value in (to_properties(Metadata(SIGNATURES)) | properties).items():
            model.metadata_props.add(key=key, value=value)
        directory = tmp_path / "1"
        (directory / "assets.extra").mkdir(parents=True)
        (directory / "model.onnx").write_bytes(model.SerializeToString())
        records = [log if isinstance(log, bytes) else log.SerializeToString() for log in logs]
        write_records(directory / file, records)
        return directory

    return write


class Answers:
    """Answers as the server does, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, rpc, request, version):
        self.asked.append(rpc)
        return replay.answer(proto_codec.codecs(DEFAULT), rpc, request, version)


def load(directory, answer=None, **settings):
    open_ = partial(open_servable, intra_op_threads=1)
    return Loader(open_, answer or Answers(), "CPUExecutionProvider", **settings)("m", 1, directory)


def refusal(directory, **settings):
    with pytest.raises(ServingError) as refused:
        load(directory, **settings)
    return refused.value


# --- warmup ---


@pytest.mark.parametrize("iterations", [1, 3])
def test_every_kind_is_replayed(version, iterations):
    answers = Answers()
    load(version(WARMUP_FILE, [make(1.5) for make in LOGS]), answers, warmup_iterations=iterations)
    rpcs = ["Predict", "Classify", "Regress", "MultiInference"]
    assert answers.asked == [rpc for rpc in rpcs for _ in range(iterations)]


@pytest.mark.parametrize(
    ("logs", "iterations"),
    [([predict_log(1.5, 2.5)], 1), ([], 1), ([predict_log(1.5, 2.5)], 0)],
    ids=["records", "none", "turned off"],
)
def test_every_allowed_batch_size_is_run(version, logs, iterations, caplog):
    """After the records, and of their rows; Examples without a known spec are empty, which this model refuses."""
    caplog.set_level(logging.INFO)
    fed = []

    def around(bare):
        return lambda names, feeds, options: fed.append(feeds) or bare(names, feeds, options)

    parameters = BatchParameters(max_batch_size=4, allowed_batch_sizes=(1, 4))
    batching = Batching(parameters, False, lambda *_: Uncounted())
    open_ = partial(open_servable, intra_op_threads=1, batching=batching, around=around)
    directory = version(WARMUP_FILE, logs)
    Loader(open_, Answers(), "CPUExecutionProvider", warmup_iterations=iterations)("m", 1, directory)
    values = [feeds["input_example_tensor/values"].tobytes() for feeds in fed]
    if logs and iterations:
        both = example(1.5) + example(2.5)
        first = example(1.5)  # by which the two rows of the record are padded to four
        assert values == [both + first + first, first, both * 2]
        assert "was run at its allowed batch sizes, 2 times" in caplog.text
    else:
        assert values == ([b""] if iterations else [])
        assert ("could not be run on 1 rows" in caplog.text) == bool(iterations)


def test_without_a_file_and_when_turned_off(version, tmp_path):
    directory = version(WARMUP_FILE, [b"\xff"])
    load(directory, warmup_iterations=0)
    (directory / WARMUP_FILE).unlink()
    load(directory)


@pytest.mark.parametrize(
    ("logs", "code", "said"),
    [
        ([classify_log(1)] * (RECORDS_MAX + 1), Code.INVALID_ARGUMENT,
         "Number of warmup records exceeds the maximum (1000) at "),
        ([b"\xff\xff"], Code.INVALID_ARGUMENT, "Failed to parse warmup record: "),
        ([b"\x2a\x00"], Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 5"),
        ([b"\x3a\x00"], Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 7"),
        ([b""], Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 0"),
        ([regress_log(1), classify_log()], Code.INVALID_ARGUMENT, "Record 2 of "),
    ],
    ids=["1001", "no log", "session run", "streamed", "nothing", "a request that fails"],
)  # fmt: skip
def test_a_version_with_wrong_records_is_refused(version, logs, code, said):
    answers = (lambda *_: None) if len(logs) > RECORDS_MAX else None
    error = refusal(version(WARMUP_FILE, logs), answer=answers)
    assert (error.code, str(error).startswith(said)) == (code, True), error


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:20] + b"?" + data[21:], lambda _: b"no"])
def test_a_file_that_is_not_whole(version, change):
    directory = version(WARMUP_FILE, [classify_log(1)])
    (directory / WARMUP_FILE).write_bytes(change((directory / WARMUP_FILE).read_bytes()))
    error = refusal(directory)
    assert error.code is Code.DATA_LOSS
    assert str(error).endswith("Please verify your warmup data is in TFRecord format.")


def test_a_folder_for_a_file(version):
    directory = version(WARMUP_FILE, [])
    (directory / WARMUP_FILE).unlink()
    (directory / WARMUP_FILE).mkdir()
    assert "is no plain file" in str(refusal(directory))


# --- expected responses ---


def answered(directory, log):
    """The log with the response the version gives."""
    opened = open_servable("m", 1, directory, intra_op_threads=1)
    entry = getattr(log, log.WhichOneof("log_type"))
    rpc = {"predict_log": "Predict", "classify_log": "Classify", "regress_log": "Regress"}.get(
        log.WhichOneof("log_type"), "MultiInference"
    )
    renamed = type(entry.request).FromString(entry.request.SerializeToString())
    for model_spec in [task.model_spec for task in renamed.tasks] if rpc == "MultiInference" else [renamed.model_spec]:
        model_spec.name = "m"
    entry.response.CopyFrom(replay.answer(proto_codec.codecs(DEFAULT), rpc, renamed, opened))
    return log


def rewrite(directory, logs):
    write_records(directory / EXPECTED_FILE, [log.SerializeToString() for log in logs])


def test_a_version_that_answers_as_expected_is_served(version):
    directory = version(EXPECTED_FILE, [])
    rewrite(directory, [answered(directory, make(1.5, -2, float("nan"))) for make in LOGS])
    answers = Answers()
    load(directory, answers)
    assert len(answers.asked) == 4


def nudge_score(log):
    log.classify_log.response.result.classifications[1].classes[0].score += 0.01


def change_label(log):
    log.classify_log.response.result.classifications[0].classes[0].label = "no"


def nudge_value(log):
    log.regress_log.response.result.regressions[1].value += 0.01


def nudge_tensor(log):
    log.predict_log.response.outputs["s"].float_val[1] += 0.01


def change_id(log):
    log.predict_log.response.outputs["i"].int64_val[1] = 7


def change_text(log):
    log.predict_log.response.outputs["c"].string_val[0] = b"no"


def lengthen(log):
    log.regress_log.response.result.regressions.add(value=1)


def add_output(log):
    log.predict_log.response.outputs["more"].CopyFrom(encode_tensor(np.float32([1])))


def nudge_multi(log):
    log.multi_inference_log.response.results[1].regression_result.regressions[0].value = 9


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (classify_log, nudge_score, "signature serving_default, output score, row 1: expected -1.99000001, got -2"),
        (classify_log, change_label, "signature serving_default, output label, row 0: expected 'no', got 'yes'"),
        (regress_log, nudge_value, "signature regression, output value, row 1: expected -1.99000001, got -2"),
        (regress_log, lengthen, "signature regression, output value, shape [2] instead of [3]"),
        (predict_log, nudge_tensor, "signature predict, output s, row 1: expected -1.99000001, got -2"),
        (predict_log, change_id, "signature predict, output i, row 1: expected 7, got 0"),
        (predict_log, change_text, "signature predict, output c, row 0: expected b'no', got b'yes'"),
        (predict_log, add_output, "signature predict, output more is missing"),
        (multi_log, nudge_multi, "signature regression, output value, row 0: expected 9, got 1.5"),
    ],
)
def test_a_version_that_answers_otherwise_is_refused(version, make, change, said):
    directory = version(EXPECTED_FILE, [])
    log = answered(directory, make(1.5, -2))
    change(log)
    rewrite(directory, [log])
    error = refusal(directory, warmup_iterations=0)  # it is no warmup, so turning that off does not spare it
    assert error.code is Code.FAILED_PRECONDITION
    assert f"does not answer as it was exported: {said}, tolerance 1e-05 (CPUExecutionProvider)" in str(error)


@pytest.mark.parametrize(
    ("tolerance", "is_served"),
    [('{"CPUExecutionProvider": 0.1}', True), ('{"CUDAExecutionProvider": 0.1}', False), (None, False)],
)
def test_the_models_own_tolerance(version, tolerance, is_served):
    properties = {"parity_tolerance": tolerance} if tolerance else {}
    directory = version(EXPECTED_FILE, [], **properties)
    log = answered(directory, regress_log(1.5, -2))
    nudge_value(log)
    rewrite(directory, [log])
    if is_served:
        load(directory)
    else:
        refusal(directory)


def test_tolerance_is_relative_above_one(version):
    directory = version(EXPECTED_FILE, [])
    log = answered(directory, regress_log(1.5, -2e6))
    log.regress_log.response.result.regressions[1].value += 1
    rewrite(directory, [log])
    load(directory)


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"CPUExecutionProvider": "small"})])
def test_a_tolerance_that_is_none(version, text):
    directory = version(EXPECTED_FILE, [], parity_tolerance=text)
    rewrite(directory, [answered(directory, regress_log(1.5))])
    assert "parity_tolerance is " in str(refusal(directory))
