"""TensorFlow Serving's REST bodies <-> arrays: `:predict`, `:classify`, `:regress`.

Owns the shapes of these bodies and the order in which they are checked. Pure functions; URLs are in `rest`, statuses in
`http_status`. Source: TensorFlow Serving's REST API. An addition of ours: if the model's features are known, `:predict`
takes plain feature dictionaries for serialized tf.Examples, and an integer stands for a float feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.json_text import kind, quote
from estimator_serving.serving.dialects.tfs import json_tensor, outcomes
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import InvalidArgumentError, ServingError
from estimator_serving.serving.predictor import Codec, ShortWay
from estimator_serving.serving.request import Array, Document, ModelSpec, Outputs, Request, as_strings
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.running.session import AtOnce
from estimator_serving.wire import dtypes, native
from estimator_serving.wire.examples import ExampleEncoder, ExampleError, FeatureSpec, encode_example
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
    TensorInfo,
)

ENTRYPOINT = "REST"
# How a predict request wrote its tensors, which is how its answer is written.
ROW, COLUMN = "instances", "inputs"
# An object of this key alone stands for bytes.
_BASE64 = "b64"
FLOAT32_MAX = 2.0**128 - 2.0**104


def _parse(payload: bytes, target: ModelSpec | None) -> Document:
    """The body, and which signature it asks for. Raises InvalidArgumentError for anything but a JSON object."""
    assert target is not None, "the URL names the model"
    members = json_text.parse(payload)
    if not isinstance(members, dict):
        raise InvalidArgumentError(f"JSON Value: {quote(members)} Is not object")
    name = members.get("signature_name")
    if name is None and "signature_name" not in members:
        return Document(target, members, payload)
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"JSON Value: {quote(members)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return Document(target._replace(signature_name=name or target.signature_name), members, payload)


# --- predict ---


def _parse_predict(payload: bytes, target: ModelSpec | None) -> Document:
    assert target is not None, "the URL names the model"
    read = native.read_body(payload)
    if read is None:
        return _parse(payload, target)
    name = read[1]
    return Document(target._replace(signature_name=name) if name else target, read, payload)


def _read_plain(
    layout: str, content: Any, signature_name: str, signature: Signature, servable: Servable, exact: bool
) -> dict[str, Array] | None:
    """The inputs of a body as `native.read_body` gives it, which holds nothing but numbers and plain text: most do.

    None if `_Reader` has something to say about it, or reads it in another way.
    """
    infos = signature.inputs
    (alias, *_) = infos or ("",)
    if type(content) is tuple:
        # Rows are a list, and a row of several inputs is an object.
        if len(infos) != 1 or (layout == ROW and not content[0]):
            return None
        shape, are_integers, values = content
        array = json_tensor.to_array(shape, are_integers, values, infos[alias].dtype, exact)
        return None if array is None or alias == _BASE64 else {alias: array}
    if type(content) is dict:
        return _as_arrays(content, infos, exact) if infos.keys() == content.keys() else None
    if len(infos) == 1 and servable.takes_examples(signature_name, alias):
        encoder = servable.encoder
        if encoder is None or alias in encoder.keys or _BASE64 in encoder.keys:
            return None  # an object of such a key may be no feature dictionary
        examples = encoder.encode_rows(content)
        return None if examples is None else {alias: as_strings(examples)}
    columns = native.read_columns(content)
    return _as_arrays(columns, infos, exact) if columns is not None and columns.keys() == infos.keys() else None


def _as_arrays(
    tensors: Mapping[str, native.Tensor], infos: Mapping[str, TensorInfo], exact: bool
) -> dict[str, Array] | None:
    arrays = {}
    for alias, info in infos.items():
        array = None if alias == _BASE64 else json_tensor.to_array(*tensors[alias], info.dtype, exact)
        if array is None:
            return None
        arrays[alias] = array
    return arrays


def _decode_predict(options: Options, document: Document, servable: Servable) -> Request:
    spec, members, payload = document
    signature = servable.signatures.get(spec.signature_name)
    if signature is None:
        raise InvalidArgumentError(
            f'Serving signature name: "{spec.signature_name}" not found in signature def. '
            f"There are: {', '.join(sorted(servable.signatures))}."
        )
    if options.check_method_names:
        outcomes.check_method_name(signature, "prediction", PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if type(members) is tuple:
        layout, _, content = members
        inputs = _read_plain(layout, content, spec.signature_name, signature, servable, options.exact)
        if inputs is not None:
            return Request(spec.signature_name, inputs, (), layout)
        members = json_text.parse(payload)
    if ROW not in members and COLUMN not in members:
        raise InvalidArgumentError(f"JSON Value: {quote(members)} Missing 'inputs' or 'instances' key")
    if ROW in members and COLUMN in members:
        raise InvalidArgumentError(
            f"JSON Value: {quote(members)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
            "to exist "
        )
    layout = ROW if ROW in members else COLUMN
    reader = _Reader(spec.signature_name, signature, servable, options.exact)
    inputs = (reader.read_instances if layout == ROW else reader.read_inputs)(members[layout])
    return Request(spec.signature_name, inputs, (), layout)


class _Reader(NamedTuple):
    """Reads the tensors of one signature from a predict body."""

    signature_name: str
    signature: Signature
    servable: Servable
    exact: bool

    def read_instances(self, instances: Any) -> dict[str, Array]:
        """Row form: a list of values, or of objects with one value for each input.

        Rows of a single input may be plain values, {"b64": …}, {input: value}, or feature dictionaries.
        """
        if not isinstance(instances, list):
            raise InvalidArgumentError(f"JSON Value: {quote(instances)} Expecting 'instances' to be an list/array")
        if not instances:
            raise InvalidArgumentError("JSON Value: [] No values in 'instances' array")
        infos = self.signature.inputs
        first = instances[0]
        if len(infos) == 1:
            ((alias, info),) = infos.items()
            if not isinstance(first, dict) or json_text.is_base64(first):
                rows = json_tensor.Rows(info.dtype, exact=self.exact)
                for index, row in enumerate(instances):
                    if isinstance(row, dict) and not json_text.is_base64(row):
                        raise InvalidArgumentError(f"Expecting value/list but got object at item {index} of input list")
                    try:
                        rows.add(row)
                    except ServingError as error:
                        text = json_tensor.row_text(index, str(error))
                        raise InvalidArgumentError(f"{text} (input {alias})") from None
                return {alias: rows.tensor()}
            if first.keys() != {alias} and self.servable.takes_examples(self.signature_name, alias):
                return {alias: _read_features(instances, self.servable.encoder, self.exact)}
        return _read_objects(instances, infos, self.exact)

    def read_inputs(self, inputs: Any) -> dict[str, Array]:
        """Columnar form: one tensor, or an object with a tensor for each input."""
        infos = self.signature.inputs
        if len(infos) == 1 and (not isinstance(inputs, dict) or json_text.is_base64(inputs)):
            return {alias: self._read_tensor(alias, info, inputs) for alias, info in infos.items()}
        if not isinstance(inputs, dict):
            raise InvalidArgumentError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                f"tensorinfo_map: {', '.join(infos)}"
            )
        for alias in infos:
            if alias not in inputs:
                raise InvalidArgumentError(f"Missing named input: {alias} in 'inputs' object.")
        for alias in inputs:
            if alias not in infos:
                raise InvalidArgumentError(
                    f"Unknown input: {quote(alias)} in 'inputs' object. The signature {self.signature_name} takes "
                    f"{', '.join(infos)}."
                )
        return {alias: self._read_tensor(alias, info, inputs[alias]) for alias, info in infos.items()}

    def _read_tensor(self, alias: str, info: TensorInfo, value: Any) -> Array:
        try:
            return json_tensor.read_tensor(value, info.dtype, exact=self.exact)
        except ServingError as error:
            raise type(error)(f"{error} (input {alias})") from None


def _read_objects(instances: list[Any], infos: Mapping[str, TensorInfo], exact: bool) -> dict[str, Array]:
    """The tensor of each input, from objects that name all inputs and nothing else; the first wrong row is told."""
    if not isinstance(instances[0], dict):
        raise InvalidArgumentError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            f"tensorinfo_map: {', '.join(infos)}"
        )
    rows = {alias: json_tensor.Rows(info.dtype, exact=exact) for alias, info in infos.items()}
    for index, row in enumerate(instances):
        if not isinstance(row, dict):
            raise InvalidArgumentError(f"Expecting object but got list at item {index} of input list")
        for alias in infos:
            if alias not in row:
                text = f"JSON object: does not have named input: {alias}"
                raise InvalidArgumentError(json_tensor.row_text(index, text))
        if row.keys() != infos.keys():
            text = f"JSON object: {quote(row)} keys must be equal to: {','.join(infos)}"
            raise InvalidArgumentError(json_tensor.row_text(index, text))
        for alias, value in row.items():
            try:
                rows[alias].add(value)
            except ServingError as error:
                text = json_tensor.row_text(index, str(error), alias)
                raise InvalidArgumentError(f"{text} (input {alias})") from None
    return {alias: column.tensor() for alias, column in rows.items()}


# --- Examples from JSON ---


def _read_features(instances: list[Any], encoder: ExampleEncoder | None, exact: bool) -> Array:
    """Feature dictionaries as serialized Examples, by the model's own feature spec."""
    if encoder is None:
        raise InvalidArgumentError(
            'The model does not say which features its tf.Examples carry; send each one serialized, as {"b64": …}.'
        )
    examples = []
    for index, row in enumerate(instances):
        if not isinstance(row, dict):
            text = f"Example must be JSON object but got JSON {kind(row)}"
            raise InvalidArgumentError(json_tensor.row_text(index, text))
        try:
            features = {name: _feature_value(name, value) for name, value in row.items()}
            if exact:
                _check_floats(features)
            examples.append(encoder.encode(features))
        except (ExampleError, InvalidArgumentError) as error:
            raise InvalidArgumentError(json_tensor.row_text(index, str(error))) from None
    return as_strings(examples)


def _feature_value(name: str, value: Any) -> Any:
    """A feature's JSON value, {"b64": …} as bytes. Raises InvalidArgumentError for null, objects, nested lists."""
    if isinstance(value, list):
        return [_feature_element(name, one) for one in value]
    return _feature_element(name, value)


def _feature_element(name: str, value: Any) -> Any:
    if json_text.is_base64(value):
        return json_text.read_base64(value)
    if value is None or isinstance(value, dict | list):
        raise InvalidArgumentError(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int) and value >= 2**63:
        raise InvalidArgumentError(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    return value


def _check_floats(features: Mapping[str, Any]) -> None:
    """Refuse numbers that an Example, whose floats have 32 bits, would hold as infinities."""
    for name, value in features.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and math.isfinite(one) and abs(one) > FLOAT32_MAX:
                raise InvalidArgumentError(f"Feature: {name} has {one}, which float32 does not hold; send less.")


def _example_bytes(value: Any, spec: FeatureSpec | None, exact: bool = False) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"Example must be JSON object but got JSON {kind(value)}")
    features = {name: _widen(_feature_value(name, one), name, spec) for name, one in value.items()}
    if exact:
        _check_floats(features)
    for name, one in features.items():
        if isinstance(one, list) and len({_list_of(element) for element in one}) > 1:
            raise InvalidArgumentError(f"Unexpected element type in feature: {name} expecting type: {_list_of(one[0])}")
    try:
        return encode_example(features)
    except ExampleError as error:
        raise InvalidArgumentError(str(error)) from None


def _list_of(value: Any) -> str:
    return "float" if isinstance(value, float) else "bytes" if isinstance(value, bytes) else "int64"


def _widen(value: Any, name: str, spec: FeatureSpec | None) -> Any:
    """Integers as floats if the spec wants floats: JSON writes 2.0 and 2 alike."""
    if spec is None or name not in spec or spec[name].dtype != dtypes.float32:
        return value
    if isinstance(value, list):
        # A list with a bool in it is one of integers, whatever else it holds.
        return value if any(type(one) is bool for one in value) else [_widen(one, name, spec) for one in value]
    return float(value) if type(value) is int else value


# --- answers to predict ---


def _encode_predict(outputs: Outputs, request: Request, _servable: Servable) -> bytes:
    if not outputs:
        raise InvalidArgumentError(
            f"Cannot convert empty tensor map to JSON; the signature {request.signature_name} has no outputs."
        )
    if request.form != ROW:
        texts = {alias: json_tensor.write_tensor(array, alias) for alias, array in outputs.items()}
        if len(texts) == 1:
            return b'{"outputs":%b}' % next(iter(texts.values()))
        return b'{"outputs":{%b}}' % b",".join(json_tensor.key_text(alias) + text for alias, text in texts.items())
    expected = None
    for alias, array in outputs.items():
        if not array.ndim:
            raise InvalidArgumentError(f"Tensor name: {alias} has no shape information ")
        expected = len(array) if expected is None else expected
        if len(array) != expected:
            raise InvalidArgumentError(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {expected}"
            )
    if len(outputs) == 1:
        ((alias, array),) = outputs.items()
        return b'{"predictions":%b}' % json_tensor.write_tensor(array, alias)
    return b'{"predictions":%b}' % json_tensor.write_rows(outputs)


def _plain_run(servable: Servable, plain: AtOnce) -> native.PlainRun | None:
    """How `native.predict_plain` runs a version's signature; None where it cannot, or where bodies have to be told
    apart."""
    outputs = servable.signatures[plain.signature_name].outputs.values()
    bare = getattr(plain.runner.graph, "bare", None)
    if bare is None or plain.alias == _BASE64 or any(one.dtype.numpy.char not in native.WRITABLE for one in outputs):
        return None
    keys = tuple(map(json_tensor.key_text, plain.aliases))
    if not plain.takes_examples:
        return bare, plain.output_names, plain.input_names, keys, np.ndarray, (dtypes.float32.numpy,), None
    encoder = servable.encoder
    # An object of such a key may be no feature dictionary.
    if encoder is None or plain.alias in encoder.keys or _BASE64 in encoder.keys:
        return None
    fed = (dtypes.uint8.numpy, dtypes.int64.numpy)
    return bare, plain.output_names, plain.input_names, keys, np.ndarray, fed, encoder.writer


# What `_parse_predict`, `_decode_predict`, a run and `_encode_predict` come to.
_predict_at_once = ShortWay(_plain_run, native.predict_plain)


# --- classify and regress ---

# outcomes' check of a signature against Examples.
_Check = Callable[[Servable, str, Array, Options], Request]


def _decode_examples(method: str, check: _Check, options: Options, document: Document, servable: Servable) -> Request:
    """The run that a classify or regress body asks for, each Example with the context's features before its own."""
    members, spec = document.content, servable.feature_spec
    if "examples" not in members:
        raise InvalidArgumentError(f"When method is {method}, key 'examples' is expected and was not found")
    if not isinstance(members["examples"], list):
        raise InvalidArgumentError("Expecting 'examples' value to be an list/array")
    if not members["examples"]:
        raise InvalidArgumentError("'examples' value is an empty array")
    context = _example_bytes(members["context"], spec, options.exact) if "context" in members else b""
    examples = [_example_bytes(one, spec, options.exact) for one in members["examples"]]
    return check(servable, document.spec.signature_name, outcomes.join_context(context, examples), options)


def _encode_results(outputs: Outputs, request: Request, _servable: Servable) -> bytes:
    """{"results": …}, for each Example its classes as pairs of label and score, or its value."""
    if REGRESS_OUTPUTS in outputs:
        results = json_tensor.to_json(outcomes.read_regressions(outputs, request), "results")
    else:
        classes = outcomes.read_classes(outputs, request)
        labels, scores = classes.labels.tolist(), json_tensor.to_json(classes.scores, "scores")
        results = [list(zip(*row, strict=True)) for row in zip(labels, scores, strict=True)]
    return json_tensor.dump({"results": results})


def codecs(options: Options) -> Mapping[str, Codec]:
    """Verb of a URL -> how it reads and writes, as an operator chose."""
    predict = partial(_decode_predict, options)
    classify = partial(_decode_examples, "classify", outcomes.classify_request, options)
    regress = partial(_decode_examples, "regress", outcomes.regress_request, options)
    return {
        "predict": Codec(
            "Predict",
            ENTRYPOINT,
            _parse_predict,
            predict,
            _encode_predict,
            at_once=None if options.exact or options.check_method_names else _predict_at_once,
        ),
        "classify": Codec("Classify", ENTRYPOINT, _parse, classify, _encode_results, takes_examples=True),
        "regress": Codec("Regress", ENTRYPOINT, _parse, regress, _encode_results, takes_examples=True),
    }


CODECS = codecs(DEFAULT)
