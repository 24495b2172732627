"""SageMaker's contract: JSON, JSON lines or CSV at /invocations -> TensorFlow Serving's answers, and health at /ping.

Owns the media types, and the attributes by which a request chooses model, version, method and signature. Source: AWS's
requirements for inference containers, and how its TensorFlow Serving container reads requests. One thing differs: a
text of one JSON line is one instance, as each line of a longer text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.base import Reply, Target
from estimator_serving.serving.dialects.contracts.contract import Contract, Terms, media_type
from estimator_serving.serving.dialects.contracts.table import decode_table, parse_csv
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context, Document, ModelSpec
from estimator_serving.serving.routing import Route

PATH = "/invocations"
HEALTH_PATHS = ("/ping",)
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"

_ATTRIBUTE = re.compile(r"(tfs-[a-z-]+)=([^,]+)")
_ATTRIBUTE_NAMES = ("tfs-model-name", "tfs-model-version", "tfs-method", "tfs-signature-name")
_VERSION = re.compile(r"[0-9]{1,18}")


class SageMaker(Contract):
    """The contract. A request names its model if the server has several."""

    header_names = frozenset({b"content-type", b"accept", ATTRIBUTES})

    def __init__(self, predictor: Predictor, terms: Terms) -> None:
        super().__init__(predictor, terms, PATH, HEALTH_PATHS)
        self._names: Callable[[], list[str]] = predictor.manager.names

    def asked(
        self, spec: ModelSpec | None, headers: Mapping[bytes, bytes], context: Context
    ) -> tuple[ModelSpec, Codec]:
        attributes = dict(_ATTRIBUTE.findall(headers.get(ATTRIBUTES, b"").decode("latin-1")))
        for name in attributes:
            if name not in _ATTRIBUTE_NAMES:
                raise InvalidArgumentError(f"The attribute {name} is unknown; send {', '.join(_ATTRIBUTE_NAMES)}.")
        verb = attributes.get("tfs-method", "predict")
        if verb not in self.codecs:
            raise InvalidArgumentError(f"tfs-method={verb} is no method; send {', '.join(self.codecs)}.")
        model = attributes.get("tfs-model-name") or (spec.name if spec is not None else None)
        if model is None:
            names = [name for name in self._names() if context.may(Right.PREDICT, name)]
            if not names:
                context.require(Right.PREDICT)
            if len(names) != 1:
                raise InvalidArgumentError(
                    f"This server has the models {', '.join(names)}; name one, as tfs-model-name=NAME in the header "
                    "X-Amzn-SageMaker-Custom-Attributes."
                )
            (model,) = names
        version = attributes.get("tfs-model-version")
        if version is not None and not _VERSION.fullmatch(version):
            raise InvalidArgumentError(f"tfs-model-version={version} is no version; send its number.")
        spec = ModelSpec(model, None if version is None else int(version))
        spec = spec._replace(signature_name=attributes.get("tfs-signature-name", spec.signature_name))
        codec = self.codecs[verb]
        key = "instances" if verb == "predict" else "examples"
        name, parameters = media_type(headers, JSON, (JSON, LINES, "application/jsons", CSV))
        if name == CSV:
            parse = partial(parse_csv, has_names=parameters.get("header") == "present")
            return spec, codec._replace(parse=parse, decode=partial(decode_table, codec, key))
        return spec, codec._replace(
            parse=partial(parse_json, codec, key) if name == JSON else partial(parse_lines, key)
        )

    def infer(
        self, target: Target, route: Route | None, headers: Mapping[bytes, bytes], body: bytes, context: Context
    ) -> Reply:
        reply = super().infer(target, route, headers, body, context)
        if headers.get(b"accept", b"").split(b",")[0].strip() == LINES.encode():
            # The answer is one line, and so one line of such a file.
            reply = reply._replace(content_type=LINES.encode())
        given = headers.get(ATTRIBUTES)
        return reply if given is None else reply._replace(headers=(*reply.headers, (ATTRIBUTES, given)))


def parse_json(codec: Codec, key: str, payload: bytes, spec: ModelSpec | None) -> Document:
    """TensorFlow Serving's own bodies, a bare list of instances, or one bare instance."""
    assert spec is not None, "the request's attributes name the model"
    if payload.lstrip()[:1] != b"[":
        document = codec.parse(payload, spec)
        members = document.content
        if isinstance(members, dict) and not members.keys() & {"instances", "inputs", "examples", "signature_name"}:
            return document._replace(content={key: [members]})
        return document
    values = json_text.parse(payload)
    # Like the container: only lists of lists or objects are rows.
    return Document(spec, {key: values if not values or isinstance(values[0], list | dict) else [values]}, payload)


def parse_lines(key: str, payload: bytes, spec: ModelSpec | None) -> Document:
    """A JSON value on each line, each an instance."""
    assert spec is not None, "the request's attributes name the model"
    values = []
    for number, line in enumerate(payload.splitlines(), 1):
        if line.strip():
            try:
                values.append(json_text.parse_strictly(line))
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"Line {number} is no JSON value; send one on each line. {error}") from None
    return Document(spec, {key: values}, payload)
