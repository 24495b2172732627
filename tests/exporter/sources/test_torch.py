"""torch modules: arguments, outputs, and sentences for what cannot be traced."""

import numpy as np
import pytest
import torch
from library_models import EXAMPLES, X, as_examples
from torch import nn

from estimator_serving.exporter import (
    build_parsing_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.exporter.sources.torch import TorchSource
from estimator_serving.serving import load
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.training import FixedLenFeature
from estimator_serving.wire import dtypes


class Named(nn.Module):
    """Arguments by the features' names, outputs by name."""

    def forward(self, u, v, w=None):
        return {"sum": u + v, "product": u * v}


@pytest.mark.parametrize(
    ("model", "options", "signature", "outputs"),
    [
        (
            nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)),
            {"method": "classify"},
            "classification",
            {"classes", "scores"},
        ),
        (nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), {"method": "classify"}, "regression", {"outputs"}),
        (nn.Linear(3, 1), {"method": "regress"}, "serving_default", {"outputs"}),
        (nn.Linear(3, 2), {}, "predict", {"output"}),
        (Named(), {}, "serving_default", {"sum", "product"}),
    ],
)
def test_a_torch_module(tmp_path, model, options, signature, outputs):
    model.train()
    loaded = load(export_model(model, tmp_path, EXAMPLES, **options))
    assert model.training
    called = loaded.signatures[signature]
    answer = called(**{alias: as_examples(X[:5]) for alias in called.signature.inputs})
    assert set(answer) == outputs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_is_the_module(tmp_path):
    module = nn.Linear(3, 2)
    got = load(export_model(torch.compile(module), tmp_path, EXAMPLES)).signatures["predict"](
        examples=as_examples(X[:2])
    )
    np.testing.assert_allclose(got["output"], module(torch.from_numpy(np.float32(X[:2]))).detach().numpy(), atol=1e-6)


class Table(nn.Module):
    """Ten rows: neither -2 nor 11 is one of them. Hands its ids on, too."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, ids):
        return {"found": self.table(ids.long()), "ids": ids}


@pytest.mark.parametrize("kind", [int, float])
def test_ids_of_a_small_table(tmp_path, kind):
    module = Table()
    receiver_fn = build_parsing_serving_input_receiver_fn({"ids": FixedLenFeature([], kind)})
    predict = load(export_model(module, tmp_path, receiver_fn)).signatures["predict"]
    got = predict(examples=[{"ids": kind(9)}, {"ids": kind(0)}])
    np.testing.assert_array_equal(got["found"], module.table.weight.detach().numpy()[[9, 0]])
    assert got["ids"].tolist() == [9, 0]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(3, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x[:, None])[0][:, 0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_what_cannot_run_on_no_row_is_never_run_on_none(tmp_path, kind):
    """ONNX Runtime would end the process: the exporter's, or the server's."""
    module = Recurrent(kind)
    predict = load(export_model(module, tmp_path, EXAMPLES)).signatures["predict"]
    with torch.no_grad():
        expected = module(torch.from_numpy(np.float32(X[:4]))).numpy()
    np.testing.assert_allclose(predict(examples=as_examples(X[:4]))["output"], expected, atol=1e-6)
    with pytest.raises(
        InvalidArgumentError, match=r"Input examples has shape \[0\], and ONNX Runtime cannot run this model on nothing"
    ):
        predict(examples=[])


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.tanh(x.numpy()))


class OneBatchSize(nn.Module):
    def forward(self, x):
        return x.reshape(16, 3).sum(1)


class NoOperator(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x[:, :, None] @ x[:, None, :])


@pytest.mark.parametrize(
    ("module", "texts"),
    [
        (
            Branches(),
            ["Branches (", "branches in Python", "test_torch.py:", '"if x.sum() > 0:"', "torch.where("],
        ),
        (Numpy(), ["leaves torch for numpy", '"return torch.from_numpy(np.tanh(x.numpy()))"', "torch.log"]),
        (OneBatchSize(), ["OneBatchSize (", "a batch of one certain size", "x.shape[0]"]),
        (NoOperator(), ["ONNX has no operator", "aten._linalg_svd", '"return torch.linalg.svdvals(']),
    ],
)
def test_a_module_that_cannot_be_traced(tmp_path, capfd, module, texts):
    with pytest.raises(ValueError, match="cannot become a graph") as raised:
        export_model(module, tmp_path / "base", EXAMPLES)
    assert [text for text in texts if text not in str(raised.value)] == []
    assert not (tmp_path / "base").exists()
    assert "def forward" not in capfd.readouterr().err


class TwoArguments(nn.Module):
    def forward(self, u, v, w=None):
        return u


@pytest.mark.parametrize(
    ("module", "features", "text"),
    [
        (TwoArguments(), {"u": "float"}, "takes u, v, w, and the receiver gives u; give the features the names of the"),
        (TwoArguments(), {"u": "float", "z": "float"}, "takes u, v, w, and the receiver gives u, z; give"),
        (nn.Linear(1, 1), {"input": "string"}, "takes tensors of numbers, and the receiver gives text for input; turn"),
        (nn.Linear(1, 1), {"word": "string"}, "takes tensors of numbers, and the receiver gives text for word; turn"),
        (nn.Linear(2, 1), {"a": "float", "b": "string"}, "takes numbers, and the receiver gives text for b; encode"),
    ],
)
def test_features_that_fit_no_argument_are_refused(module, features, text):
    with pytest.raises(ValueError, match=f"The torch module {text}"):
        TorchSource(module).inputs({key: dtypes.as_dtype(dtype) for key, dtype in features.items()})


@pytest.mark.parametrize(
    ("module", "features", "keys"),
    [
        (TwoArguments(), ("v", "u"), [("u", ("u",)), ("v", ("v",))]),
        (TwoArguments(), ("w", "v", "u"), [("u", ("u",)), ("v", ("v",)), ("w", ("w",))]),
        (nn.Linear(3, 1), ("a", "b", "c"), [("input", ("a", "b", "c"))]),
        (nn.Linear(1, 1), ("a",), [("input", ("a",))]),
    ],
)
def test_features_find_their_arguments(module, features, keys):
    inputs = TorchSource(module).inputs(dict.fromkeys(features, dtypes.float32))
    assert [(one.name, one.keys) for one in inputs] == keys


class Gives(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, x):
        return self.give(x)


@pytest.mark.parametrize(
    ("give", "names"),
    [
        (lambda x: x, ["output"]),
        (lambda x: (x, x + 1), ["output", "output_1"]),
        (lambda x: {"a": x, 7: x}, ["a", "7"]),
        (lambda x: torch.max(x[:, None], dim=1), ["output", "output_1"]),
    ],
)
def test_outputs_by_their_names_or_their_order(give, names):
    module = Gives(give).train()
    answered = TorchSource(module).answer({"x": np.float32([1, 2])})
    assert list(answered) == names
    assert module.training


def test_an_output_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="outputs must be tensors, by name or in order: a is a int; b is a list"):
        TorchSource(Gives(lambda x: {"a": 3, "b": [x]})).answer({"x": np.float32([1])})
