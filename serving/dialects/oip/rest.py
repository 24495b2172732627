"""The protocol's URLs: which request is an inference, and what every other one asks.

Owns the URL grammar, the methods that each path takes, and the bodies of calls that are no inference. Documents and
actions come from the modules beside it. Beyond the protocol: `/v2/` is `/v2`, and health answers have JSON bodies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.base import JSON, HttpError, Page, Reply, Target
from estimator_serving.serving.dialects.oip import describe, infer, settings
from estimator_serving.serving.dialects.oip.describe import Models
from estimator_serving.serving.dialects.oip.repository import Repository
from estimator_serving.serving.dialects.oip.shared_memory import CUDA_TEXT, Regions
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.serving.request import Context, ModelSpec

PREFIX = "/v2"
PAGES = (
    Page("/v2", "Name, version and extensions of the server"),
    Page("/v2/health/live", "Whether the server answers at all", is_health=True),
    Page("/v2/health/ready", "Whether every model answers, and why not", is_health=True),
    Page("/v2/models/{name}", "Inputs and outputs of the newest version"),
    Page("/v2/models/{name}/versions/{version}", "Inputs and outputs of one version"),
    Page("/v2/models/{name}/ready", "Whether a model answers"),
    Page("/v2/models/{name}/versions/{version}/ready", "Whether one version answers"),
    Page("/v2/models/{name}/config", "Configuration of a model"),
    Page("/v2/models/{name}/stats", "Counts and times of a model's versions"),
    Page("/v2/models/stats", "Counts and times of all models"),
    Page("/v2/logging", "Which lines the server logs"),
)

_MODEL = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[0-9]+))?"
_INFER = re.compile(rf"{_MODEL}/infer")


def find_target(method: bytes, path: bytes) -> Target | None:
    """What an inference or another POST names; None for any other request."""
    if method != b"POST":
        return None
    text = path.decode("latin-1")
    match = _INFER.fullmatch(text)
    if match is None:
        return (
            Target(None, text) if any(call.method == "POST" and call.path.fullmatch(text) for call in _CALLS) else None
        )
    try:
        return Target(_read_spec(match))
    except InvalidArgumentError:
        return None


class Calls(NamedTuple):
    """What calls that are no inference ask. unready: why requests cannot be answered now, empty when they can."""

    models: Models
    repository: Repository
    regions: Regions
    unready: Callable[[], str]

    def answer(self, method: str, path: str, context: Context, body: bytes = b"") -> Reply:
        """The reply to a call. Raises ServingError, and HttpError for a path or method that there is not."""
        allowed = []
        for call in _CALLS:
            match = call.path.fullmatch(path)
            if match and call.method == method:
                # An empty body is an empty object.
                content = json_text.parse_strictly(body) if body else {}
                if type(content) is not dict:
                    raise InvalidArgumentError(
                        f"The body must be a JSON object, but it is {json_text.kind(content).lower()}."
                    )
                if call.right is not None:
                    name = match.groupdict().get("name")
                    context.require(call.right, None if name is None else unquote(name))
                value = call.answer(self, match, content, context)
                return (
                    value
                    if isinstance(value, Reply)
                    else Reply(200, JSON, b"" if value is None else orjson.dumps(value))
                )
            if match:
                allowed.append(call.method)
        match = _INFER.fullmatch(path)
        if match:
            if method == "POST":
                _read_spec(match)  # raises: it is why this request was no target
            allowed.append("POST")
        if allowed:
            text = f"Method Not Allowed: {method} {path}. Here one may {', '.join(sorted(set(allowed)))}."
            raise HttpError(405, text, ((b"allow", ", ".join(sorted(set(allowed))).encode()),))
        raise HttpError(
            404,
            f"Not Found: {method} {path}. Models are at /v2/models/NAME[/versions/N]; POST to /infer below it.",
        )

    # --- the server ---

    def server(self, _match: re.Match[str], _body: Any, _context: Context) -> Any:
        return describe.server(shared_memory=self.regions.is_enabled)

    def live(self, _match: re.Match[str], _body: Any, _context: Context) -> Any:
        return {"live": True}

    def ready(self, _match: re.Match[str], _body: Any, context: Context) -> Any:
        reason = self.unready()
        if not reason:
            return {"ready": True, "live": True}
        return Reply(
            503,
            JSON,
            orjson.dumps({"ready": False, "live": True, "error": context.shown(reason)}),
            ((b"retry-after", b"1"),),
        )

    def log(self, _match: re.Match[str], body: Any, context: Context) -> Any:
        if body:
            self.repository.check_right(None, context)
        return settings.change_log(body)

    def trace(self, _match: re.Match[str], body: Any, _context: Context) -> Any:
        # Over REST, a setting with one value is that value; trace_level is always a list.
        changed = settings.change_trace(body)
        return {name: values if name == "trace_level" else values[0] for name, values in changed.items()}

    # --- models ---

    def model_metadata(self, match: re.Match[str], _body: Any, _context: Context) -> Any:
        return self.models.metadata(_read_spec(match))

    def model_config(self, match: re.Match[str], _body: Any, _context: Context) -> Any:
        return self.models.config(_read_spec(match))

    def model_ready(self, match: re.Match[str], _body: Any, _context: Context) -> Any:
        spec = _read_spec(match)
        if not self.models.is_ready(spec):
            raise infer.unknown_model(spec)
        return {"name": spec.name, "ready": True}

    def model_statistics(self, match: re.Match[str], _body: Any, _context: Context) -> Any:
        return self.models.statistics(_read_spec(match) if "name" in match.groupdict() else None)

    # --- the repository ---

    def repository_index(self, match: re.Match[str], body: Any, _context: Context) -> Any:
        ready = body.get("ready", False)
        if type(ready) is not bool:
            raise InvalidArgumentError("'ready' must be true or false.")
        return self.repository.index(match["repository"] or "", ready=ready)

    def load(self, match: re.Match[str], body: Any, context: Context) -> Any:
        self.repository.load(unquote(match["name"]), _parameters(body), context, match["repository"] or "")

    def unload(self, match: re.Match[str], body: Any, context: Context) -> Any:
        self.repository.unload(unquote(match["name"]), _parameters(body), context, match["repository"] or "")

    # --- shared memory ---

    def region_status(self, match: re.Match[str], _body: Any, _context: Context) -> Any:
        return self.regions.status(unquote(match["region"] or ""))

    def region_register(self, match: re.Match[str], body: Any, _context: Context) -> Any:
        key, offset, size = body.get("key"), body.get("offset", 0), body.get("byte_size")
        if type(key) is not str or type(offset) is not int or type(size) is not int:
            raise InvalidArgumentError(
                "A region needs a 'key', which is a string, and a 'byte_size', which is a number of bytes; it may have "
                "an 'offset'."
            )
        self.regions.register(unquote(match["region"]), key, offset, size)

    def region_unregister(self, match: re.Match[str], _body: Any, _context: Context) -> Any:
        self.regions.unregister(unquote(match["region"] or ""))

    def refuse_cuda(self, _match: re.Match[str], _body: Any, _context: Context) -> Any:
        raise UnimplementedError(CUDA_TEXT)


class _Call(NamedTuple):
    """A method and path, and what answers them: a value for JSON, a whole Reply, or None for an empty body.

    right: what the caller needs for the model that the path names; for every model, if it names none.
    """

    method: str
    path: re.Pattern[str]
    answer: Callable[[Calls, re.Match[str], Any, Context], Any]
    right: Right | None


def _call(
    method: str, path: str, answer: Callable[[Calls, re.Match[str], Any, Context], Any], right: Right | None = None
) -> _Call:
    return _Call(method, re.compile(path), answer, right)


_REPOSITORY = r"/v2/repository(?:/(?P<repository>[^/]+))?"
_REGION = r"(?:/region/(?P<region>[^/]+))?"
_CALLS = (
    _call("GET", r"/v2/?", Calls.server),
    _call("GET", r"/v2/health/live", Calls.live),
    _call("GET", r"/v2/health/ready", Calls.ready),
    _call("GET", r"/v2/models/stats", Calls.model_statistics, Right.METADATA),
    _call("GET", _MODEL, Calls.model_metadata, Right.METADATA),
    _call("GET", rf"{_MODEL}/ready", Calls.model_ready, Right.METADATA),
    _call("GET", rf"{_MODEL}/config", Calls.model_config, Right.METADATA),
    _call("GET", rf"{_MODEL}/stats", Calls.model_statistics, Right.METADATA),
    _call("POST", rf"{_REPOSITORY}/index", Calls.repository_index, Right.METADATA),
    _call("POST", rf"{_REPOSITORY}/models/(?P<name>[^/]+)/load", Calls.load),
    _call("POST", rf"{_REPOSITORY}/models/(?P<name>[^/]+)/unload", Calls.unload),
    _call("GET", rf"/v2/systemsharedmemory{_REGION}/status", Calls.region_status, Right.PREDICT),
    _call("POST", r"/v2/systemsharedmemory/region/(?P<region>[^/]+)/register", Calls.region_register, Right.PREDICT),
    _call("POST", rf"/v2/systemsharedmemory{_REGION}/unregister", Calls.region_unregister, Right.PREDICT),
    _call("GET", rf"/v2/cudasharedmemory{_REGION}/status", Calls.refuse_cuda),
    _call("POST", rf"/v2/cudasharedmemory{_REGION}/(?:un)?register", Calls.refuse_cuda),
    *(_call(method, r"/v2/trace/setting", Calls.trace) for method in ("GET", "POST")),
    *(_call(method, r"/v2/models/[^/]+/trace/setting", Calls.trace) for method in ("GET", "POST")),
    *(_call(method, r"/v2/logging", Calls.log) for method in ("GET", "POST")),
)


def _parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = body.get("parameters") or {}
    if type(parameters) is not dict:
        raise InvalidArgumentError("'parameters' must be a JSON object.")
    return parameters


def _read_spec(match: re.Match[str]) -> ModelSpec:
    """The model that a path names. Raises InvalidArgumentError for a version that does not fit int64."""
    return ModelSpec(unquote(match["name"]), infer.read_version(match["version"] or ""))
