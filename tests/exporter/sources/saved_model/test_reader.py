"""The files of a SavedModel directory: which graph is read, its assets, variables and extra files; and damaged ones."""

from contextlib import suppress

import numpy as np
import pytest
import saved_graphs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError
from estimator_serving.exporter.sources.saved_model.reader import open_saved_model
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensor_bundle import TensorBundleError

ONE_GRAPH_WITHOUT_LIMITS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved_model"


def with_assets(names, where="asset_file_def"):
    """A graph with an asset for each of these names: in its own field, as 2.x writes it, or in a collection, as 1.x."""
    meta_graph = saved_graphs.meta_graph()
    for index, name in enumerate(names):
        asset = tensorflow_pb.AssetFileDef(filename=name)
        asset.tensor_info.name = f"path_{index}:0"
        if where == "asset_file_def":
            meta_graph.asset_file_def.append(asset)
        else:
            meta_graph.collection_def["saved_model_assets"].any_list.value.add(
                type_url="type.googleapis.com/tensorflow.AssetFileDef", value=asset.SerializeToString()
            )
    return meta_graph


# ---- which graph ----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_graphs(path):
    serve, train = saved_graphs.meta_graph("serve"), saved_graphs.meta_graph("train", "gpu")
    serve.meta_info_def.tensorflow_version = "2.15.1"
    return saved_graphs.write(path, train, serve)


def test_the_graph_with_these_tags_is_read(two_graphs):
    opened = open_saved_model(two_graphs, ["serve"])
    assert (opened.path, opened.tensorflow_version) == (two_graphs, "2.15.1")


def test_tags_are_a_set(two_graphs):
    opened = open_saved_model(str(two_graphs), ["gpu", "train"])
    assert list(opened.meta_graph.meta_info_def.tags) == ["train", "gpu"]


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        (["train"], "has no graph with the tags train; it has graphs with: gpu, train; serve. Give --tag"),
        ([], "has no graph with the tags none; it has graphs with: gpu, train; serve"),
        (["serve", "gpu"], "has no graph with the tags gpu, serve"),
    ],
)
def test_tags_that_no_graph_has(two_graphs, tags, text):
    with pytest.raises(SavedModelError, match=text):
        open_saved_model(two_graphs, tags)


def test_a_graph_without_tags(path):
    meta_graph = saved_graphs.meta_graph()
    del meta_graph.meta_info_def.tags[:]
    saved_graphs.write(path, meta_graph)
    assert open_saved_model(path, []).assets == {}
    with pytest.raises(SavedModelError, match="it has graphs with: none"):
        open_saved_model(path, ["serve"])


def test_a_file_without_graphs(path):
    saved_graphs.write(path)
    with pytest.raises(SavedModelError, match="it has graphs with: no graph at all"):
        open_saved_model(path, ["serve"])


def test_the_newest_of_versions_is_offered(tmp_path):
    for version in ("9", "10"):
        saved_graphs.write(tmp_path / version, saved_graphs.meta_graph())
    with pytest.raises(SavedModelError, match=r"It holds versions: give .*/10\.$"):
        open_saved_model(tmp_path, ["serve"])


@pytest.mark.parametrize("version", [0, -1])
def test_another_schema(path, version):
    path.mkdir()
    message = tensorflow_pb.SavedModel(saved_model_schema_version=version)
    (path / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(SavedModelError, match=f"has schema version {version}; this reader knows 1"):
        open_saved_model(path, ["serve"])


@pytest.mark.parametrize("content", [b"not a message", b"\xff" * 20])
def test_a_file_of_something_else(path, content):
    path.mkdir()
    (path / "saved_model.pb").write_bytes(content)
    with pytest.raises(SavedModelError, match="is not a SavedModel, or was cut"):
        open_saved_model(path, ["serve"])


# ---- assets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["asset_file_def", "collection"])
def test_assets_by_the_names_of_their_tensors(path, where):
    saved_graphs.write(path, with_assets(["a.txt", "b.txt"], where), assets={"a.txt": b"", "b.txt": b""})
    assets = open_saved_model(path, ["serve"]).assets
    assert assets == {"path_0": path / "assets" / "a.txt", "path_1": path / "assets" / "b.txt"}


def test_a_collection_holds_other_messages_too(path):
    meta_graph = with_assets(["a.txt"], "collection")
    meta_graph.collection_def["saved_model_assets"].any_list.value.add(type_url="other", value=b"\xff")
    saved_graphs.write(path, meta_graph, assets={"a.txt": b""})
    assert list(open_saved_model(path, ["serve"]).assets) == ["path_0"]


def test_an_asset_that_is_no_message(path):
    meta_graph = with_assets(["a.txt"], "collection")
    meta_graph.collection_def["saved_model_assets"].any_list.value[0].value = b"\xff"
    saved_graphs.write(path, meta_graph)
    with pytest.raises(SavedModelError, match="The SavedModel's list of assets is damaged"):
        open_saved_model(path, ["serve"])


@pytest.mark.parametrize("name", ["missing.txt", "n" * 300, "folder"])
def test_an_asset_that_is_not_there(path, name):
    saved_graphs.write(path, with_assets([name]))
    (path / "assets" / "folder").mkdir(parents=True)
    with pytest.raises(SavedModelError, match=f"asset .*{name} is not there; copy the whole directory"):
        open_saved_model(path, ["serve"])


def test_an_asset_that_is_a_link_is_not_followed(path, tmp_path):
    saved_graphs.write(path, with_assets(["link"]))
    (tmp_path / "secret").write_bytes(b"secret")
    (path / "assets").mkdir()
    (path / "assets" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SavedModelError, match="link is not there"):
        open_saved_model(path, ["serve"])


@pytest.mark.parametrize("name", [".", "a\0b"])
def test_an_asset_outside_of_its_directory(path, name):
    saved_graphs.write(path, with_assets([name]))
    with pytest.raises(SavedModelError, match=r"which would lie outside assets/; nothing was read from it"):
        open_saved_model(path, ["serve"])


# ---- variables and extra files --------------------------------------------------------------------------------------


def test_variables_are_opened_when_they_are_read(path):
    saved_graphs.write(path, saved_graphs.meta_graph(), variables={"w": np.array([1.5, 2.0], np.float32)})
    assert open_saved_model(path, ["serve"]).variables.read("w").tolist() == [1.5, 2.0]


def test_no_variables_are_missed_only_when_they_are_read(path):
    opened = open_saved_model(saved_graphs.write(path, saved_graphs.meta_graph()), ["serve"])
    with pytest.raises(SavedModelError, match=r"has no variables/variables\.index, and its graph reads variables"):
        _ = opened.variables


def test_extra_files_by_their_paths(path):
    saved_graphs.write(path, saved_graphs.meta_graph())
    opened = open_saved_model(path, ["serve"])
    assert opened.extra_files() == {}
    extra = path / "assets.extra"
    (extra / "inner").mkdir(parents=True)
    (extra / "inner" / "b").write_bytes(b"")
    (extra / "a").write_bytes(b"")
    (extra / "link").symlink_to(extra / "a")
    assert opened.extra_files() == {"a": extra / "a", "inner/b": extra / "inner" / "b"}


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    meta_graph = with_assets(["a.txt"])
    meta_graph.MergeFrom(with_assets(["a.txt"], "collection"))
    meta_graph.meta_info_def.ClearField("tags")
    meta_graph.meta_info_def.tags.append("serve")
    variables = {"w": np.arange(12, dtype=np.float32).reshape(4, 3), "s": np.array([b"a", b"bc"], object)}
    path = tmp_path_factory.mktemp("whole") / "saved_model"
    return saved_graphs.write(path, meta_graph, variables=variables, assets={"a.txt": b"x"})


def damaged(data, content):
    """`content` with a few bytes changed, put in or taken out, and maybe without its end."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    return bytes(changed[: data.draw(st.integers(0, len(changed)))])


@ONE_GRAPH_WITHOUT_LIMITS
@given(st.data())
def test_a_damaged_message_is_read_or_refused(path, whole, data):
    path.mkdir(exist_ok=True)
    (path / "saved_model.pb").write_bytes(damaged(data, (whole / "saved_model.pb").read_bytes()))
    with suppress(SavedModelError):
        assert open_saved_model(path, ["serve"]).meta_graph is not None


@ONE_GRAPH_WITHOUT_LIMITS
@given(st.data(), st.sampled_from(["variables.index", "variables.data-00000-of-00001"]))
def test_damaged_variables_are_read_or_refused(path, whole, data, name):
    if not path.exists():
        saved_graphs.write(path, saved_graphs.meta_graph())
    for one in (whole / "variables").iterdir():
        content = one.read_bytes()
        (path / "variables" / one.name).write_bytes(damaged(data, content) if one.name == name else content)
    with suppress(SavedModelError, TensorBundleError):
        bundle = open_saved_model(path, ["serve"]).variables
        assert bundle.read("w").shape == (4, 3)
        assert bundle.read("s").dtype == object
