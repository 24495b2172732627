"""TensorFlow Serving's REST bodies <-> arrays: `:predict`, `:classify`, `:regress`.

Owns the shapes of these bodies and the order in which they are checked. Pure functions; URLs and statuses are in
`rest`. Source: TensorFlow Serving's REST API. An addition of ours: where the model's features are known, `:predict`
takes plain feature dictionaries for serialized tf.Examples, and an integer stands for a float feature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.json_text import kind, quote
from estimator_serving.serving.dialects.tfs import json_tensor, outcomes
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import InvalidArgumentError, ServingError
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import Array, Document, ModelSpec, Outputs, Request, as_strings
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import ExampleError, FeatureSpec, encode_example, encode_example_by_spec
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    Signature,
    TensorInfo,
)

ENTRYPOINT = "REST"


# How a predict request wrote its tensors, which is how its answer is written.
ROW, COLUMN = "instances", "inputs"


def _parse(payload: bytes, target: ModelSpec | None) -> Document:
    """The body and which signature it asks for. Raises InvalidArgumentError for what is no JSON object."""
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
    layout = _layout(members)
    inputs = _read_numbers(members[layout], signature, payload)
    if inputs is None:
        reader = _Reader(spec.signature_name, signature, servable)
        inputs = (reader.read_instances if layout is ROW else reader.read_inputs)(members[layout])
    return Request(spec.signature_name, inputs, (), layout)


# What a text of numbers without exponents is made of; and what is then left of a request that holds nothing else.
_NUMBER_CHARACTERS = b"0123456789+-.,[] \t\r\n"
_ONLY_NUMBERS = frozenset({b'{"instances":}', b'{"inputs":}'})


def _read_numbers(value: Any, signature: Signature, payload: bytes) -> dict[str, Array] | None:
    """The only input of a request whose text holds nothing but numbers; None where it takes a closer look.

    Most requests are of this kind, and what numpy would silently convert (true, "3", null) cannot be in them.
    """
    if len(signature.inputs) != 1 or payload.translate(None, _NUMBER_CHARACTERS) not in _ONLY_NUMBERS:
        return None
    ((alias, info),) = signature.inputs.items()
    array = json_tensor.read_numbers(value, info.dtype)
    return None if array is None or (array.ndim == 0 or not len(array)) else {alias: array}


def _layout(members: dict[str, Any]) -> str:
    if ROW not in members and COLUMN not in members:
        raise InvalidArgumentError(f"JSON Value: {quote(members)} Missing 'inputs' or 'instances' key")
    if ROW in members and COLUMN in members:
        raise InvalidArgumentError(
            f"JSON Value: {quote(members)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
            "to exist "
        )
    return ROW if ROW in members else COLUMN


class _Reader(NamedTuple):
    """Reads the tensors of one signature from a predict body."""

    signature_name: str
    signature: Signature
    servable: Servable

    def read_instances(self, instances: Any) -> dict[str, Array]:
        """Row form: a list of values, or of objects with one value for each input."""
        if not isinstance(instances, list):
            raise InvalidArgumentError(f"JSON Value: {quote(instances)} Expecting 'instances' to be an list/array")
        if not instances:
            raise InvalidArgumentError("JSON Value: [] No values in 'instances' array")
        infos = self.signature.inputs
        if len(infos) == 1:
            alias, info = next(iter(infos.items()))
            return {alias: self._read_single(alias, info, instances)}
        columns = _columns(instances, infos)
        return {alias: self._read_rows(alias, infos[alias], column, keyed=True) for alias, column in columns.items()}

    def read_inputs(self, inputs: Any) -> dict[str, Array]:
        """Columnar form: one tensor, or an object with a tensor for each input."""
        infos = self.signature.inputs
        if len(infos) == 1 and (not isinstance(inputs, dict) or json_tensor.is_base64(inputs)):
            return {alias: self._read_tensor(alias, info, inputs) for alias, info in infos.items()}
        if not isinstance(inputs, dict):
            raise InvalidArgumentError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                f"tensorinfo_map: {', '.join(infos)}"
            )
        for alias in infos:
            if alias not in inputs:
                raise InvalidArgumentError(f"Missing named input: {alias} in 'inputs' object.")
        return {alias: self._read_tensor(alias, info, inputs[alias]) for alias, info in infos.items()}

    def _read_single(self, alias: str, info: TensorInfo, instances: list[Any]) -> Array:
        """The rows of the only input: plain values, {"b64": …}, {input: value}, or feature dictionaries."""
        first = instances[0]
        if not isinstance(first, dict) or json_tensor.is_base64(first):
            return self._read_rows(alias, info, _plain(instances), keyed=False)
        if first.keys() != {alias} and self.servable.takes_examples(self.signature_name, alias):
            return _read_features(instances, self.servable.feature_spec)
        return self._read_rows(alias, info, _columns(instances, self.signature.inputs)[alias], keyed=True)

    def _read_rows(self, alias: str, info: TensorInfo, rows: list[Any], *, keyed: bool) -> Array:
        try:
            return json_tensor.read_rows(rows, info.dtype)
        except ServingError as error:
            text = str(error).replace(" of 'instances'", f" key: {alias} of 'instances'", 1) if keyed else str(error)
            raise type(error)(f"{text} (input {alias})") from None

    def _read_tensor(self, alias: str, info: TensorInfo, value: Any) -> Array:
        try:
            return json_tensor.read_tensor(value, info.dtype)
        except ServingError as error:
            raise type(error)(f"{error} (input {alias})") from None


def _plain(instances: list[Any]) -> list[Any]:
    for index, row in enumerate(instances):
        if isinstance(row, dict) and not json_tensor.is_base64(row):
            raise InvalidArgumentError(f"Expecting value/list but got object at item {index} of input list")
    return instances


def _columns(instances: list[Any], infos: Mapping[str, TensorInfo]) -> dict[str, list[Any]]:
    if not isinstance(instances[0], dict):
        raise InvalidArgumentError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            f"tensorinfo_map: {', '.join(infos)}"
        )
    for index, row in enumerate(instances):
        _check_row(index, row, infos)
    return {alias: [row[alias] for row in instances] for alias in infos}


def _check_row(index: int, row: Any, infos: Mapping[str, TensorInfo]) -> None:
    if not isinstance(row, dict):
        raise InvalidArgumentError(f"Expecting object but got {kind(row).lower()} at item {index} of input list")
    for alias in infos:
        if alias not in row:
            raise InvalidArgumentError(json_tensor.row_text(index, f"JSON object: does not have named input: {alias}"))
    if row.keys() != infos.keys():
        raise InvalidArgumentError(
            json_tensor.row_text(index, f"JSON object: {quote(row)} keys must be equal to: {','.join(infos)}")
        )


# --- Examples from JSON ---


def _read_features(instances: list[Any], spec: FeatureSpec | None) -> Array:
    """Feature dictionaries as serialized Examples, by the model's own feature spec."""
    if spec is None:
        raise InvalidArgumentError(
            'The model does not say which features its tf.Examples carry; send each one serialized, as {"b64": …}.'
        )
    return as_strings(
        [_encode(index, row, lambda row: encode_example_by_spec(row, spec)) for index, row in enumerate(instances)]
    )


def _encode(index: int, row: Any, encode: Callable[[dict[str, Any]], bytes]) -> bytes:
    if not isinstance(row, dict):
        raise InvalidArgumentError(json_tensor.row_text(index, f"Example must be JSON object but got JSON {kind(row)}"))
    try:
        return encode({name: _feature_value(name, value) for name, value in row.items()})
    except (ExampleError, InvalidArgumentError) as error:
        raise InvalidArgumentError(json_tensor.row_text(index, str(error))) from None


def _feature_value(name: str, value: Any) -> Any:
    """A feature's JSON value, {"b64": …} as bytes. Raises InvalidArgumentError for null, objects, nested lists."""
    if isinstance(value, list):
        return [_feature_element(name, one) for one in value]
    return _feature_element(name, value)


def _feature_element(name: str, value: Any) -> Any:
    if json_tensor.is_base64(value):
        return json_tensor.read_base64(value)
    if value is None or isinstance(value, dict | list):
        raise InvalidArgumentError(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int) and value >= 2**63:
        raise InvalidArgumentError(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    return value


def _read_examples(members: dict[str, Any], method: str, spec: FeatureSpec | None) -> Array:
    """The Examples of a classify or regress body, each with the context's features before its own."""
    if "examples" not in members:
        raise InvalidArgumentError(f"When method is {method}, key 'examples' is expected and was not found")
    examples = members["examples"]
    if not isinstance(examples, list):
        raise InvalidArgumentError("Expecting 'examples' value to be an list/array")
    if not examples:
        raise InvalidArgumentError("'examples' value is an empty array")
    context = _example_bytes(members["context"], spec) if "context" in members else b""
    return outcomes.join_context(context, [_example_bytes(example, spec) for example in examples])


def _example_bytes(value: Any, spec: FeatureSpec | None) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"Example must be JSON object but got JSON {kind(value)}")
    features = {name: _widen(_feature_value(name, one), name, spec) for name, one in value.items()}
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
    """Integers as floats where the spec wants floats: JSON writes 2.0 and 2 alike."""
    if spec is None or name not in spec or spec[name].dtype != dtypes.float32:
        return value
    if isinstance(value, list):
        # A list with a bool in it is one of integers, whatever else it holds.
        return value if any(type(one) is bool for one in value) else [_widen(one, name, spec) for one in value]
    return float(value) if type(value) is int else value


# --- answers ---


def _encode_predict(outputs: Outputs, request: Request, _servable: Servable) -> bytes:
    if not outputs:
        raise InvalidArgumentError(
            f"Cannot convert empty tensor map to JSON; the signature {request.signature_name} has no outputs."
        )
    if request.form is ROW:
        _check_rows(outputs)
    columns = {alias: json_tensor.to_json(array, alias) for alias, array in outputs.items()}
    if request.form is ROW:
        return json_tensor.dump({"predictions": _as_rows(columns)})
    return json_tensor.dump({"outputs": columns if len(columns) > 1 else next(iter(columns.values()))})


def _check_rows(outputs: Outputs) -> None:
    expected = None
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgumentError(f"Tensor name: {alias} has no shape information ")
        expected = len(array) if expected is None else expected
        if len(array) != expected:
            raise InvalidArgumentError(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {expected}"
            )


def _as_rows(columns: dict[str, Any]) -> list[Any]:
    if len(columns) == 1:
        rows: list[Any] = next(iter(columns.values()))
        return rows
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _decode_classify(options: Options, document: Document, servable: Servable) -> Request:
    examples = _read_examples(document.content, "classify", servable.feature_spec)
    return outcomes.classify_request(servable, document.spec.signature_name, examples, options)


def _encode_classify(outputs: Outputs, request: Request, _servable: Servable) -> bytes:
    classes = outcomes.read_classes(outputs, request)
    labels, scores = classes.labels.tolist(), json_tensor.to_json(classes.scores, "scores")
    results = [list(zip(*row, strict=True)) for row in zip(labels, scores, strict=True)]
    return json_tensor.dump({"results": results})


def _decode_regress(options: Options, document: Document, servable: Servable) -> Request:
    examples = _read_examples(document.content, "regress", servable.feature_spec)
    return outcomes.regress_request(servable, document.spec.signature_name, examples, options)


def _encode_regress(outputs: Outputs, request: Request, _servable: Servable) -> bytes:
    return json_tensor.dump({"results": json_tensor.to_json(outcomes.read_regressions(outputs, request), "results")})


def codecs(options: Options) -> Mapping[str, Codec]:
    """Verb of a URL -> how it reads and writes, as an operator chose."""
    return {
        "predict": Codec("Predict", ENTRYPOINT, _parse, partial(_decode_predict, options), _encode_predict),
        "classify": Codec("Classify", ENTRYPOINT, _parse, partial(_decode_classify, options), _encode_classify),
        "regress": Codec("Regress", ENTRYPOINT, _parse, partial(_decode_regress, options), _encode_regress),
    }


CODECS = codecs(DEFAULT)
