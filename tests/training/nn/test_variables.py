import pytest
import torch
from torch import nn

from estimator_serving.training import CheckpointMismatchError, initializers, layers, losses, summaries
from estimator_serving.training.nn.variables import (
    VariableStore,
    gather_rows,
    get_global_step,
    get_variable,
    module,
    variable_scope,
)


def test_names_scopes_and_reuse():
    store = VariableStore(seed=1)
    for _ in range(2):
        with store.activate(training=True), variable_scope("dnn"):
            with variable_scope("layer.0"):
                first = get_variable("w", (2, 3))
            layers.dense(torch.ones(1, 2), 3)
            layers.dense(torch.ones(1, 3), 2)
    names = ["dnn/layer.0/w", "dnn/dense/kernel", "dnn/dense/bias", "dnn/dense_1/kernel", "dnn/dense_1/bias"]
    assert list(store.trainable_variables) == names
    assert store.get("dnn/layer.0/w") is first
    assert set(store.values()) == {*names, "global_step"}


def test_a_seed_fixes_first_values_whatever_the_order():
    def values(*names):
        store = VariableStore(seed=5)
        with store.activate(training=True):
            return {name: get_variable(name, (4, 4)).detach() for name in names}

    forth, back = values("a", "b"), values("b", "a")
    assert all(torch.equal(forth[name], back[name]) for name in "ab")
    assert not torch.equal(forth["a"], forth["b"])


def test_modules_are_variables_too():
    global_state = torch.random.get_rng_state()
    store = VariableStore(seed=5)
    with store.activate(training=True), variable_scope("net"):
        made = module("block", lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        assert module("block", lambda: pytest.fail("made twice")) is made
        assert made.training
    assert torch.equal(torch.random.get_rng_state(), global_state)
    assert set(store.trainable_variables) == {
        f"net/block/{name}" for name in ("0/weight", "0/bias", "1/weight", "1/bias")
    }
    restored = VariableStore(values={k: v.clone() + 1 for k, v in store.values().items()}, frozen=True)
    with restored.activate(training=False), variable_scope("net"):
        again = module("block", lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    assert torch.equal(again[0].weight, made[0].weight + 1)
    assert not again.training
    assert not any(p.requires_grad for p in restored.parameters())
    assert restored.global_step == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: get_variable("a", (3,)),
            r"Trying to share variable a, but specified shape \(3,\) and found",
        ),
        (lambda: get_variable("modules", (3,)), "Variable name modules is reserved"),
    ],
)
def test_names_that_clash(call, text):
    store = VariableStore()
    with store.activate(training=True):
        get_variable("a", (2,))
        with pytest.raises(ValueError, match=f"^{text}"):
            call()


def test_outside_a_model_fn():
    for call in (lambda: get_variable("a", (2,)), get_global_step, lambda: summaries.scalar("a", 1.0)):
        with pytest.raises(ValueError, match="inside a model_fn"):
            call()


def test_a_checkpoint_that_does_not_fit():
    store = VariableStore(values={"a": torch.zeros(2), "global_step": torch.tensor(3)}, source="model.ckpt-3")
    with store.activate(training=True):
        assert get_global_step() == 3
        with pytest.raises(CheckpointMismatchError, match=r"asks for b with shape \(2,\), and model.ckpt-3 holds"):
            get_variable("b", (2,))
        with pytest.raises(CheckpointMismatchError, match=r"variable a has shape \(3,\) in the model and \(2,\) in"):
            get_variable("a", (3,))


@pytest.mark.parametrize("ids", [[[0, 3], [3, 3]], [[-1, 2], [2, -1]], [[-1, -1]], [[], []]])
def test_gather_rows_and_its_gradient(ids):
    ids = torch.tensor(ids, dtype=torch.int64)
    table = torch.arange(10.0).reshape(5, 2).requires_grad_()
    rows = gather_rows(table, ids)
    expected = torch.stack([table[i] if i >= 0 else torch.zeros(2) for i in ids.reshape(-1)]) if ids.numel() else rows
    assert torch.equal(rows, expected.reshape(*ids.shape, 2))
    assert torch.equal(gather_rows(table.detach(), ids), rows)
    (gradient,) = torch.autograd.grad((rows * 2).sum(), table)
    gradient = gradient.coalesce()
    assert gradient.is_sparse
    assert gradient.indices()[0].tolist() == sorted({i for i in ids.reshape(-1).tolist() if i >= 0})
    counts = [ids.reshape(-1).tolist().count(row) * 2.0 for row in range(5)]
    assert gradient.to_dense()[:, 0].tolist() == counts
    table.takes_whole_gradient = True
    (whole,) = torch.autograd.grad((gather_rows(table, ids) * 2).sum(), table)
    assert torch.equal(whole, gradient.to_dense())


def test_initializers():
    generator = torch.Generator().manual_seed(0)
    kernel = initializers.glorot_uniform((300, 100), generator)
    assert kernel.abs().max() <= (6 / 400) ** 0.5
    assert kernel.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    table = initializers.truncated_normal(1.0, 0.5)((200, 200), generator)
    assert (table - 1).abs().max() <= 1.0
    assert table.std().item() == pytest.approx(0.5 * 0.88, rel=0.02)
    assert initializers.constant([1.0, 2.0])((3, 2), generator).tolist() == [[1.0, 2.0]] * 3
    assert initializers.zeros((), generator).shape == initializers.ones((), generator).shape == ()


# -- layers and losses ------------------------------------------------------------------------------------------------


def test_dense_is_an_affine_map():
    store = VariableStore()
    inputs = torch.randn(4, 5, 2)
    with store.activate(training=True):
        outputs = layers.dense(inputs, 3, torch.relu, name="d", bias_initializer=initializers.ones)
        flat = layers.dense(inputs[:, 0], 3, torch.relu, name="d", reuse=True)
        bare = layers.dense(inputs, 3, use_bias=False, name="bare")
    expected = torch.relu(inputs @ store.get("d/kernel") + 1)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(flat, expected[:, 0])
    torch.testing.assert_close(bare, inputs @ store.get("bare/kernel"))


def test_dropout_scales_and_follows_seed_and_step():
    def dropped(step):
        store = VariableStore(seed=3)
        store.global_step = step
        with store.activate(training=True):
            return layers.dropout(torch.ones(1000), 0.25, training=True)

    first = dropped(0)
    assert sorted(set(first.tolist())) == pytest.approx([0, 1 / 0.75])
    assert first.mean().item() == pytest.approx(1, abs=0.06)
    assert torch.equal(dropped(0), first)
    assert not torch.equal(dropped(1), first)
    assert layers.dropout(first, 0.25) is first
    with pytest.raises(ValueError, match="^Invalid value 1.0 received for `rate`"):
        layers.dropout(first, 1.0, training=True)


def test_batch_normalization_follows_moments_when_the_step_is_taken():
    store = VariableStore()
    inputs = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    with store.activate(training=True):
        outputs = layers.batch_normalization(inputs, momentum=0.9, epsilon=0.0, training=True, name="bn")
    torch.testing.assert_close(outputs.detach(), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert store.get("bn/moving_mean").tolist() == [0, 0]
    store.run_pending_updates()
    torch.testing.assert_close(store.get("bn/moving_mean"), torch.tensor([0.2, 2.0]))
    torch.testing.assert_close(store.get("bn/moving_variance"), torch.tensor([1.0, 10.9]))
    with store.activate(training=False):
        outputs = layers.batch_normalization(inputs, epsilon=0.0, name="bn")
    torch.testing.assert_close(outputs[0, 0].item(), 0.8, check_dtype=False)


LOGITS, LABELS = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
EACH = torch.nn.functional.cross_entropy(LOGITS, LABELS, reduction="none")


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("none", EACH * torch.tensor([3.0, 0.0])),
        ("sum", EACH[0] * 3),
        ("sum_over_batch_size", EACH[0] * 3 / 2),
        ("auto", EACH[0] * 3 / 2),
        ("sum_by_nonzero_weights", EACH[0] * 3),
        ("mean", EACH[0]),
    ],
)
def test_reductions(reduction, expected):
    weights = torch.tensor([[3.0], [0.0]])
    found = losses.sparse_softmax_cross_entropy(LABELS[:, None], LOGITS, weights, reduction=reduction)
    torch.testing.assert_close(found, expected)


def test_sigmoid_and_squared_losses():
    x, z = torch.tensor([[2.0], [-1.0]]), torch.tensor([[1], [0]])
    each = torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0) - x * z
    torch.testing.assert_close(losses.sigmoid_cross_entropy(z, x), each.mean())
    smooth = z * 0.8 + 0.1
    torch.testing.assert_close(
        losses.sigmoid_cross_entropy(z, x, 2.0, label_smoothing=0.2), 2 * losses.sigmoid_cross_entropy(smooth, x)
    )
    torch.testing.assert_close(losses.mean_squared_error(z, x), torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"^Labels dtype should be integer. Instead got torch.float32"):
        losses.sparse_softmax_cross_entropy(LABELS.float(), LOGITS)
    with pytest.raises(ValueError, match="^Invalid Reduction Key zz"):
        losses.sigmoid_cross_entropy(z, x, reduction="zz")


@pytest.mark.parametrize("input_gradient", [True, False])
@pytest.mark.parametrize("units", [[2], [4, 3, 1]])
def test_a_relu_stack_is_dense_layers_in_one_node(units, input_gradient):
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_(input_gradient)
    names = [f"layer_{i}" for i in range(len(units))]
    store = VariableStore(seed=2)
    with store.activate(training=True):
        stacked = layers.relu_stack(inputs, units, names)
        single = inputs
        for size, name in zip(units, names, strict=True):
            single = layers.dense(single, size, None if name == names[-1] else torch.relu, name=name)
    assert torch.equal(stacked, single)
    wanted = [*store.parameters(), *([inputs] if input_gradient else [])]
    left, right = (torch.autograd.grad(outputs.square().sum(), wanted) for outputs in (stacked, single))
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other)
