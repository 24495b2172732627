"""The files of a SavedModel directory: saved_model.pb, variables/, assets/, assets.extra/.

Owns which of them are read and under which names. The file of messages holds paths of the machine that trained: none is
followed. Knows no op.
Source: TensorFlow's saved_model.proto, meta_graph.proto and saved_model/constants.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensor_bundle import TensorBundle, open_bundle

PROTO_FILE = "saved_model.pb"
SERVE = "serve"
_SCHEMA_VERSION = 1
_ASSETS = "saved_model_assets"
_ASSET_TYPE = "type.googleapis.com/tensorflow.AssetFileDef"


@dataclass(frozen=True)
class SavedModel:
    """One MetaGraphDef of a SavedModel, and the files beside it.

    Attributes:
        path: the directory.
        meta_graph: the message.
        assets: the file of each asset, by the name of the tensor that carries its path.
    """

    path: Path
    meta_graph: Any
    assets: Mapping[str, Path]

    @cached_property
    def variables(self) -> TensorBundle:
        """Raises SavedModelError where the SavedModel has none."""
        prefix = self.path / "variables" / "variables"
        if not prefix.with_suffix(".index").is_file():
            raise SavedModelError(
                f"{self.path} has no variables/variables.index, and its graph reads variables. Copy the whole "
                "directory."
            )
        return open_bundle(prefix)

    @property
    def tensorflow_version(self) -> str:
        return str(self.meta_graph.meta_info_def.tensorflow_version)

    def extra_files(self) -> dict[str, Path]:
        """The files of assets.extra/ by their paths there."""
        directory = self.path / "assets.extra"
        if not directory.is_dir():
            return {}
        files = sorted(one for one in directory.rglob("*") if one.is_file() and not one.is_symlink())
        return {str(one.relative_to(directory)): one for one in files}


def open_saved_model(path: str | os.PathLike[str], tags: Sequence[str]) -> SavedModel:
    """Reads `path/saved_model.pb` and picks the graph with these tags.

    Raises SavedModelError where it is no SavedModel, has no such graph, or names an asset that is not there.
    """
    directory = Path(path)
    file = directory / PROTO_FILE
    if not file.is_file():
        hint = ""
        if directory.is_dir() and (versions := [one for one in directory.iterdir() if (one / PROTO_FILE).is_file()]):
            hint = f" It holds versions: give {max(versions, key=lambda one: (len(one.name), one.name))}."
        raise SavedModelError(f"{directory} holds no {PROTO_FILE}; give the directory of a SavedModel.{hint}")
    saved_model = tensorflow_pb.SavedModel()
    try:
        saved_model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise SavedModelError(f"{file} is not a SavedModel, or was cut ({error}); copy it again.") from None
    if saved_model.saved_model_schema_version != _SCHEMA_VERSION:
        raise SavedModelError(
            f"{file} has schema version {saved_model.saved_model_schema_version}; this reader knows "
            f"{_SCHEMA_VERSION}. Write it with TensorFlow 1.x or 2.x."
        )
    wanted = set(tags)
    meta_graph = next((one for one in saved_model.meta_graphs if set(one.meta_info_def.tags) == wanted), None)
    if meta_graph is None:
        there = "; ".join(", ".join(sorted(one.meta_info_def.tags)) or "none" for one in saved_model.meta_graphs)
        raise SavedModelError(
            f"{file} has no graph with the tags {', '.join(sorted(wanted)) or 'none'}; it has graphs with: "
            f"{there or 'no graph at all'}. Give --tag for each tag of one of them."
        )
    return SavedModel(directory, meta_graph, _assets(meta_graph, directory))


def _assets(meta_graph: Any, directory: Path) -> dict[str, Path]:
    definitions = list(meta_graph.asset_file_def)
    # Where 1.x and every Estimator write them.
    if _ASSETS in meta_graph.collection_def:
        messages = meta_graph.collection_def[_ASSETS].any_list.value
        try:
            definitions += [
                tensorflow_pb.AssetFileDef.FromString(one.value) for one in messages if one.type_url == _ASSET_TYPE
            ]
        except DecodeError as error:
            raise SavedModelError(
                f"The SavedModel's list of assets is damaged ({error}); copy {PROTO_FILE} again."
            ) from None
    assets: dict[str, Path] = {}
    for one in definitions:
        if one.filename in ("", ".", "..") or any(character in one.filename for character in "/\\\0"):
            raise SavedModelError(
                f"The SavedModel names an asset {one.filename!r}, which would lie outside assets/; nothing was read "
                "from it."
            )
        file = directory / "assets" / one.filename
        if not os.path.isfile(file) or file.is_symlink():  # noqa: PTH113 - Path's raises where a name is too long
            raise SavedModelError(f"The SavedModel's asset {file} is not there; copy the whole directory.")
        assets[one.tensor_info.name.partition(":")[0]] = file
    return assets
