"""`estimator-serving show`: what a servable can be asked, and where it comes from.

Owns the text and the JSON form. Reads what the exporter wrote into the file without opening a session, so that it can
also show a model that cannot run on this machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from estimator_serving.cli.peers import add_credential_flags, is_server, open_peer, read_credentials
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.in_process import find_version, load
from estimator_serving.serving.models.model_files import MODEL_FILE
from estimator_serving.wire import signatures
from estimator_serving.wire.features import (
    Feature,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
)
from estimator_serving.wire.onnx_model import read_model
from estimator_serving.wire.signatures import Metadata, TensorInfo


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `show`."""
    parser.add_argument(
        "path", help="a version directory, or the base path above it; or grpc://HOST:PORT/MODEL[/VERSION] of a server"
    )
    add_credential_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def main(chosen: argparse.Namespace) -> int:
    """Prints the description of a servable. Raises ValueError if there is none at the path or address."""
    try:
        if is_server(chosen.path):
            peer = open_peer(chosen.path, credentials=read_credentials(chosen))
            described = _describe(chosen.path, Metadata(peer.signatures))
        else:
            described = describe(find_version(Path(chosen.path)))
    except ServingError as error:
        raise ValueError(str(error)) from error
    print(json.dumps(described, indent=2) if chosen.json else "\n".join(_lines(described)))
    return 0


def describe(directory: Path) -> dict[str, Any]:
    """Signatures, features and provenance of a version directory, as JSON objects.

    A model without signatures is opened in a session, which shows the signature that the server would give it.
    """
    model = read_model(directory / MODEL_FILE)
    metadata = signatures.from_properties(model.metadata) or Metadata(
        {key: called.signature for key, called in load(directory).signatures.items()}
    )
    return _describe(str(directory), metadata, model.opsets, model.metadata)


def _describe(
    path: str, metadata: Metadata, opsets: Mapping[str, int] = MappingProxyType({}),
    properties: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:  # fmt: skip
    return {
        "path": path,
        "signatures": {
            key: {
                "method_name": signature.method_name,
                "inputs": {alias: _tensor(info) for alias, info in signature.inputs.items()},
                "outputs": {alias: _tensor(info) for alias, info in signature.outputs.items()},
            }
            for key, signature in metadata.signatures.items()
        },
        "features": {key: _feature(one) for key, one in (metadata.feature_spec or {}).items()},
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(opsets.items())},
        "parity_tolerance": _property(properties, signatures.TOLERANCE_PROPERTY),
        "provenance": _property(properties, signatures.PROVENANCE_PROPERTY),
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype.name, "shape": None if info.shape is None else list(info.shape)}


def _feature(feature: Feature) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": type(feature).__name__, "dtype": feature.dtype.name}
    if hasattr(feature, "shape"):
        described["shape"] = list(feature.shape)
    match feature:
        case FixedLenFeature() | FixedLenSequenceFeature():
            default = feature.default_array
            described["default"] = None if default is None else _readable(default.tolist())
        case SparseFeature():
            described |= {"index_keys": list(feature.index_keys), "size": list(feature.sizes)}
            described["value_key"] = feature.value_key
        case RaggedFeature():
            described |= {"value_key": feature.value_key, "row_splits_dtype": feature.row_splits_dtype.name}
            described["partitions"] = [{"kind": type(one).__name__, **vars(one)} for one in feature.partitions]
    return described


def _readable(value: Any) -> Any:
    """The value with bytes as text, at any depth of lists."""
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _property(metadata: Mapping[str, str], name: str) -> Any:
    """The JSON object in a metadata property; {} if the property is missing or is not an object."""
    try:
        value = json.loads(metadata.get(name, "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# -- text -------------------------------------------------------------------------------------------------------------


def _lines(described: Mapping[str, Any]) -> Iterator[str]:
    yield described["path"]
    yield "\nSignatures"
    for key, signature in described["signatures"].items():
        yield f"  {key}  ({signature['method_name']})"
        yield from (f"    in   {alias}  {_typed(tensor)}" for alias, tensor in signature["inputs"].items())
        yield from (f"    out  {alias}  {_typed(tensor)}" for alias, tensor in signature["outputs"].items())
    if described["features"]:
        yield "\nFeatures of an Example"
        for key, feature in described["features"].items():
            shape = f" {feature['shape']}" if "shape" in feature else ""
            yield f"  {key}  {feature['dtype']}{shape}, {_contents(feature)}"
    if described["opsets"]:
        yield "\nNeeds"
    yield from (f"  {domain} {version}" for domain, version in described["opsets"].items())
    if own := described["provenance"].get("ops"):
        yield f"  operators of the op library: {', '.join(own)}"
    provenance = described["provenance"]
    if provenance:
        yield "\nProvenance"
    kept = ("git_revision", "global_step", "transform_sha256")
    yield from (f"  {name}  {provenance[name]}" for name in kept if name in provenance)
    yield from (f"  {package}  {version}" for package, version in provenance.get("versions", {}).items())
    if data := provenance.get("training_data"):
        yield f"\nTraining data, the first {data['rows']} rows  ({data['fingerprint']})"
        yield from (f"  {key}  {_summary(one)}" for key, one in data["features"].items())


def _typed(tensor: Mapping[str, Any]) -> str:
    shape = "?" if tensor["shape"] is None else ", ".join("?" if dim < 0 else str(dim) for dim in tensor["shape"])
    return f"{tensor['dtype']} [{shape}]"


def _contents(feature: Mapping[str, Any]) -> str:
    """How many values a feature carries, and what stands in for missing ones, in words."""
    default = json.dumps(feature.get("default"), ensure_ascii=False)
    match feature["kind"]:
        case "FixedLenFeature":
            return "required" if feature["default"] is None else f"default {default}"
        case "FixedLenSequenceFeature":
            return "any number of steps" + (f", filled up with {default}" if feature["default"] is not None else "")
        case "SparseFeature":
            places = zip(feature["index_keys"], feature["size"], strict=True)
            indices = " and ".join(f"{key} (below {size})" for key, size in places)
            return f"any number of values under {feature['value_key']}, at the indices under {indices}"
        case "RaggedFeature":
            under = f" under {feature['value_key']}" if feature["value_key"] is not None else ""
            cut = ", ".join(f"{one['kind']} {one.get('key', one.get('length'))}" for one in feature["partitions"])
            return f"any number of values{under}" + (f", cut by {cut}" if cut else "")
    return "any number of values"


def _summary(one: Mapping[str, Any]) -> str:
    """The statistics of a feature in one line."""
    counts = f"{one['count']} values, {one['missing']} missing"
    if "top" in one:
        top = ", ".join(f"{word} ({count})" for word, count in list(one["top"].items())[:5])
        return f"{counts}, {one['distinct']} distinct: {top}"
    if "mean" in one:
        quantiles = one["quantiles"]
        return f"{counts}, mean {one['mean']:g}, std {one['std']:g}, {quantiles['0.0']:g} to {quantiles['1.0']:g}"
    return counts
