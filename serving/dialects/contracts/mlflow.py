"""MLflow's scoring contract: data frames, tensors or CSV at /invocations -> {"predictions": …}.

Owns the four payload forms. Source: MLflow's scoring server since 2.0. `params` may choose a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import metadata
from typing import Any

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.base import Page, Reply
from estimator_serving.serving.dialects.contracts.contract import Contract, Terms, media_type, select_signature
from estimator_serving.serving.dialects.contracts.table import Table, decode_table, name_columns, parse_csv
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context, Document, ModelSpec, Outputs, Request
from estimator_serving.serving.running.servable import Servable

PATH = "/invocations"
HEALTH_PATHS = ("/ping", "/health")
VERSION_PATH = "/version"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_PREDICTIONS, _OUTPUTS = b'{"predictions":', b'{"outputs":'


class MlflowScoring(Contract):
    """The contract, for one model. Its /version is this server's, for there is no MLflow."""

    def __init__(self, predictor: Predictor, terms: Terms) -> None:
        super().__init__(predictor, terms, PATH, HEALTH_PATHS)
        self.pages = (*self.pages, Page(VERSION_PATH, "The version of the server"))

    def asked(
        self, spec: ModelSpec | None, headers: Mapping[bytes, bytes], context: Context
    ) -> tuple[ModelSpec, Codec]:
        assert spec is not None, "this contract is for one model"
        name, _ = media_type(headers, "application/json", ("application/json", "text/csv"))
        codec = self.codecs["predict"]
        parse = partial(parse_csv, has_names=True) if name == "text/csv" else partial(parse_json, codec)
        return spec, codec._replace(
            parse=parse, decode=partial(decode_table, codec, "instances"), encode=partial(encode, codec)
        )

    def describe(self, method: str, path: str, headers: Mapping[bytes, bytes], context: Context) -> Reply:
        if method == "GET" and path == VERSION_PATH:
            return Reply(200, b"text/plain", metadata.version("estimator-serving").encode(), self.headers)
        return super().describe(method, path, headers, context)


def parse_json(codec: Codec, payload: bytes, spec: ModelSpec | None) -> Document:
    """A Table for a data frame; for tensors, what TensorFlow Serving's parser makes of them."""
    document = codec.parse(payload, spec)
    members = document.content
    # A body of nothing but numbers was read as a whole.
    if not isinstance(members, dict):
        return document
    forms = [form for form in FORMS if form in members]
    if len(forms) != 1:
        came = f"it has {' and '.join(forms)}" if forms else f"it has {', '.join(members) or 'nothing'}"
        raise InvalidArgumentError(f"The body must have exactly one of {', '.join(FORMS)}; {came}.")
    unknown = sorted(members.keys() - {*forms, "params", "signature_name"})
    if unknown:
        raise InvalidArgumentError(f"The body has {', '.join(unknown)} beside {forms[0]}; send only params beside it.")
    document = document._replace(spec=select_signature(document.spec, members.get("params"), "params"))
    frame = members[forms[0]]
    if forms[0] == "dataframe_split":
        return document._replace(content=read_split(frame))
    if forms[0] == "dataframe_records":
        if not isinstance(frame, list) or not frame or not all(isinstance(row, dict) for row in frame):
            raise InvalidArgumentError(
                "dataframe_records needs a list of at least one object, each a row of values by column. "
                f"Got {json_text.quote(frame)}."
            )
        return document._replace(content=Table(frame))
    return document


def read_split(frame: Any) -> Table:
    """A data frame as names and rows. Raises InvalidArgumentError."""
    is_frame = (
        isinstance(frame, dict) and isinstance(frame.get("columns"), list) and isinstance(frame.get("data"), list)
    )
    if not is_frame or not frame["data"]:
        raise InvalidArgumentError(
            'dataframe_split needs "columns", a list of names, and "data", a list of at least one row; an "index" is '
            f"ignored. Got {json_text.quote(frame)}."
        )
    return Table(name_columns(frame["columns"], frame["data"]))


def encode(codec: Codec, outputs: Outputs, request: Request, servable: Servable) -> bytes:
    """Rows for rows, columns for `inputs`, both as predictions."""
    text = codec.encode(outputs, request, servable)
    return _PREDICTIONS + text.removeprefix(_OUTPUTS) if text.startswith(_OUTPUTS) else text
