from types import SimpleNamespace

import goldens
import numpy as np
import pytest
import torch

from estimator_serving.training import optimizers, train
from estimator_serving.training.nn.lookups import gather_rows
from estimator_serving.training.nn.variables import VariableStore, get_variable
from estimator_serving.training.optimizers import base
from estimator_serving.training.optimizers import gradients as clips


def ones(shape, generator):
    return torch.ones(tuple(shape))


def steps(optimizer, losses_of, count=2, store=None):
    """Run `count` steps of the loss `losses_of(step)` makes inside a store; the store."""
    store = store or VariableStore()
    for step in range(count):
        with store.activate(training=True):
            op = optimizer.minimize(losses_of(step))
        op.run()
    return store


def table_and_bias(step):
    table = get_variable("table", (5, 2), initializer=ones)
    bias = get_variable("bias", (2,), initializer=ones)
    ids = torch.tensor([[1, 1], [3, -1]]) if step % 2 == 0 else torch.tensor([[1, 4]])
    return (gather_rows(table, ids).sum((0, 1)) + bias * 2).square().sum()


ALL = [
    optimizers.SGD(0.1),
    optimizers.SGD(0.1, momentum=0.9),
    optimizers.Adagrad(0.1),
    optimizers.Ftrl(0.2, l1_regularization_strength=0.1, l2_shrinkage_regularization_strength=0.1),
    optimizers.Ftrl(0.2, learning_rate_power=-0.7),
    optimizers.RMSProp(0.1),
    optimizers.RMSProp(0.1, momentum=0.9, centered=True),
    optimizers.Adam(0.1),
]


def label(optimizer):
    return f"{optimizer.name}{'_momentum' if getattr(optimizer, 'momentum', 0) else ''}"


@pytest.mark.parametrize("optimizer", ALL, ids=label)
def test_which_rows_of_a_table_move(optimizer):
    table = steps(optimizer, table_and_bias, 2).get("table").detach()
    looked_up = [1, 3, 4]
    assert (table[looked_up] != 1).all()
    assert (table[[0, 2]] == 1).all()  # no gradient so far, so m and rms are 0 there for Adam and RMSProp as well


@pytest.mark.parametrize(("optimizer", "moves"), [(optimizers.Adam(0.1), True), (optimizers.Adagrad(0.1), False)])
def test_adam_goes_on_moving_rows(optimizer, moves):
    store = steps(optimizer, table_and_bias, 1)
    before = store.get("table")[3].detach().clone()
    steps(optimizer, lambda _: table_and_bias(1), 1, store)
    assert bool((store.get("table")[3] != before).all()) is moves


@pytest.mark.parametrize("optimizer", ALL, ids=label)
def test_small_tensors_joined_give_the_same_numbers(optimizer, monkeypatch):
    joined = steps(optimizer, table_and_bias, 4).values()
    monkeypatch.setattr(base, "_SMALL_ELEMENTS", 0)
    alone = steps(optimizer, table_and_bias, 4).values()
    assert joined.keys() == alone.keys()
    for name, value in joined.items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-6, err_msg=name)


def test_a_variable_that_takes_no_part_in_a_step_stays():
    def loss(step):
        a, b = get_variable("a", (2,), initializer=ones), get_variable("b", (2,), initializer=ones)
        return (a * 2).sum() + (b.sum() if step % 2 == 0 else 0)

    store = steps(optimizers.Adagrad(0.1), loss, 1)
    b = store.get("b").detach().clone()
    with store.activate(training=True):
        op = optimizers.Adagrad(0.1).minimize(loss(1))
    op.run()
    assert (store.get("b") == b).all()
    assert store.global_step == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.0),
        ({"keep_initial_weights": True}, 1.0),
        ({"keep_initial_weights": True, "learning_rate_power": -0.7, "beta": 0.3}, 1.0),
        # (sqrt(n0)/lr - l1) / (sqrt(n0)/lr + 2*l2)
        ({"keep_initial_weights": True, "initial_accumulator_value": 0.25, "l1_regularization_strength": 1.0}, 0.6),
        ({"keep_initial_weights": True, "initial_accumulator_value": 0.25, "l2_regularization_strength": 1.25}, 0.5),
    ],
)
def test_where_ftrl_draws_a_weight_without_gradient(settings, expected):
    optimizer = optimizers.Ftrl(0.2, **settings)
    store = steps(optimizer, lambda _: (get_variable("w", (3,), initializer=ones) * 0).sum(), 2)
    assert store.get("w").tolist() == pytest.approx([expected] * 3, abs=1e-6)


def test_the_learning_rate_may_follow_the_step():
    seen = []

    def rate(step):
        seen.append(step)
        return 0.1 / (step + 1)

    store = steps(optimizers.SGD(rate), lambda _: get_variable("w", (), initializer=ones).sum(), 3)
    assert seen == [0, 1, 2]
    assert store.get("w").item() == pytest.approx(1 - 0.1 - 0.05 - 0.1 / 3)
    assert "training/SGD/learning_rate" not in store.values()
    assert optimizers.SGD(0.1, decay=0.5).rate(4) == pytest.approx(0.1 / 3)


def test_two_optimizers_share_a_step():
    def both(loss, a, b):
        return optimizers.group(
            optimizers.SGD(1.0).minimize(loss, var_list=[a]),
            optimizers.SGD(0.1, momentum=0.5).minimize(loss, var_list=[b]),
        )

    store = VariableStore()
    with store.activate(training=True):
        a, b = get_variable("a", (), initializer=ones), get_variable("b", (), initializer=ones)
        both(a + b, a, b).run()
    assert (a.item(), b.item(), store.global_step) == (0.0, pytest.approx(0.9), 1)
    assert "training/SGD_1/b/momentum" in store.values()


def test_an_optimizer_of_a_program_does_not_borrow_its_gradients():
    class Own(optimizers.SGD):
        def update(self, weights, gradients, slots, rate, step):
            torch._foreach_neg_(gradients)

    assert optimizers.Adam().only_reads
    assert not Own().only_reads


def test_a_step_reduces_its_gradients_once_and_before_limits():
    seen = []

    def reduce(gradients, borrow):
        assert borrow
        seen.append([None if g is None else g.tolist() for g in gradients])
        return [torch.full((), 4.0) for _ in gradients]

    store = VariableStore()
    with store.activate(training=True):
        a, b = get_variable("a", (), initializer=ones), get_variable("b", (), initializer=ones)
        loss = a * 2
        parts = [optimizers.SGD(1.0, clipvalue=3.0).minimize(loss, var_list=[v]) for v in (a, b)]
        optimizers.group(parts[0], parts[1]).run(SimpleNamespace(num_replicas=2, reduce=reduce))
    assert seen == [[2.0, None]]
    assert (a.item(), b.item(), store.global_step) == (-2.0, -2.0, 1)


def test_gradients_are_clipped_between_computing_and_applying():
    def step(store, optimizer, change):
        with store.activate(training=True):
            a, b = get_variable("a", (2,), initializer=ones), get_variable("b", (), initializer=ones)
            get_variable("c", (), initializer=ones)
            gradients, variables = zip(
                *optimizer.compute_gradients((a * torch.tensor([3.0, 0.0])).sum() - 4 * b), strict=True
            )
            optimizer.apply_gradients(zip(change(gradients), variables, strict=True)).run()
        return [store.get(name).tolist() for name in "abc"]

    sgd = optimizers.SGD(1.0)
    assert step(VariableStore(), sgd, lambda g: clips.clip_by_global_norm(g, 1.0)[0]) == [
        pytest.approx([0.4, 1.0]),
        pytest.approx(1.8),
        1.0,
    ]
    each = lambda g: [None if one is None else clips.clip_by_value(one, -2, 2) for one in g]  # noqa: E731
    assert step(VariableStore(), sgd, each) == [[-1.0, 1.0], 3.0, 1.0]
    store = VariableStore()
    step(store, optimizers.Adam(0.1), lambda g: g)
    assert store.global_step == 1
    assert "training/Adam/c/m" in store.values()


def test_gradients_of_two_losses_make_one_step():
    store = VariableStore()
    with store.activate(training=True):
        a, b = get_variable("a", (), initializer=ones), get_variable("b", (), initializer=ones)
        first, second = optimizers.SGD(1.0), optimizers.SGD(0.1)
        pairs = first.compute_gradients(a * 2, [a]), second.compute_gradients(b * 3, [b])
        optimizers.group(first.apply_gradients(pairs[0]), second.apply_gradients(pairs[1])).run()
    assert (a.item(), b.item(), store.global_step) == (-1.0, pytest.approx(0.7), 1)


def test_outside_training_gradients_are_zero_and_the_step_is_none():
    store = VariableStore(frozen=True)
    with store.activate(training=False):
        a = get_variable("a", (2,), initializer=ones)
        ((gradient, variable),) = optimizers.SGD(1.0).compute_gradients(a.sum())
        assert optimizers.SGD(1.0).apply_gradients([(gradient, variable)]).is_inert
    assert gradient.tolist() == [0.0, 0.0]


def test_clips_of_dense_and_sparse_gradients():
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[1, 1, 2]]), torch.tensor([[3.0], [1.0], [3.0]]), (4, 1), check_invariants=True
    )
    (clipped, none), norm = clips.clip_by_global_norm([sparse, None], 2.5)
    assert (norm.item(), none, clipped.to_dense()[:, 0].tolist()) == (5.0, None, [0.0, 2.0, 1.5, 0.0])
    assert clips.clip_by_value(sparse, -3.5, 3.5).to_dense()[:, 0].tolist() == [0.0, 3.5, 3.0, 0.0]
    assert clips.clip_by_norm(torch.tensor([3.0, 4.0]), 10.0).tolist() == [3.0, 4.0]
    rows = clips.clip_by_norm(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0, [1])
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    (infinite,), _ = clips.clip_by_global_norm([torch.tensor([1.0, torch.inf])], 1.0)
    assert infinite.isnan().all()
    assert clips.global_norm([]).item() == 0.0


@pytest.mark.parametrize(
    ("given", "rate", "kind", "expected"),
    [
        ("Adagrad", None, optimizers.Adagrad, 0.001),
        ("Adam", None, optimizers.Adam, 0.001),
        ("Ftrl", None, optimizers.Ftrl, 0.001),
        ("RMSProp", None, optimizers.RMSProp, 0.001),
        ("SGD", None, optimizers.SGD, 0.01),
        ("Adam", 0.2, optimizers.Adam, 0.2),
        (lambda: optimizers.SGD(0.3), 0.2, optimizers.SGD, 0.3),
        (optimizers.SGD(0.4), 0.2, optimizers.SGD, 0.4),
    ],
)
def test_optimizers_by_name_object_or_function(given, rate, kind, expected):
    made = optimizers.get_optimizer(given, rate)
    assert (type(made), made.rate(0)) == (kind, expected)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: optimizers.get_optimizer("Foo"),
            r"Unsupported optimizer name: Foo. Supported names are: \('Adagrad', 'Adam', 'Ftrl', 'RMSProp', 'SGD'\)",
        ),
        (lambda: optimizers.get_optimizer(3), "The given object is not an Optimizer instance. Given: 3"),
        (
            lambda: optimizers.get_optimizer(torch.optim.Adam),
            "The given object is not an Optimizer instance. Given: <class 'torch.optim.adam.Adam'>",
        ),
        (lambda: optimizers.get_optimizer(lambda: 3), "The given object is not an Optimizer instance. Given: 3"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1.0), "l1_regularization_strength needs to be positive"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.5), "learning_rate_power 0.5 needs to be negative or zero"),
        (lambda: optimizers.Adagrad(initial_accumulator_value=-1.0), "initial_accumulator_value must be non-negative"),
        (lambda: optimizers.SGD(momentum=2.0), "`momentum` must be between"),
        (
            lambda: optimizers.SGD(clipnorm=1.0, global_clipnorm=1.0),
            "Cannot accept both `clipnorm` and `global_clipnorm`",
        ),
        (lambda: optimizers.Adam(clipvalue=-1.0), "Expected clipvalue >= 0, received: -1.0"),
        (lambda: optimizers.SGD().minimize(torch.zeros(())), "Variables live in an Estimator"),
        (lambda: steps(optimizers.SGD(), lambda _: torch.zeros(())), "No variables to optimize"),
        (
            lambda: optimizers.group(*[optimizers.TrainOp(None, torch.zeros(()), ()) for _ in range(2)]),
            "group takes train ops of one loss",
        ),
    ],
)
def test_misuse(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()


def test_gradients_that_are_not_there():
    store = VariableStore()
    with store.activate(training=True):
        a = get_variable("a", (), initializer=ones)
        with pytest.raises(ValueError, match=r"No gradients provided for any variable: \['a'\]"):
            optimizers.SGD(1.0).apply_gradients([(None, a)])
        with pytest.raises(ValueError, match="No variables provided"):
            optimizers.SGD(1.0).apply_gradients([])


@pytest.mark.parametrize("case", goldens.read("functions.json")["optimizers"], ids=lambda case: case["optimizer"])
def test_the_optimizers_of_tf_1(case):
    lookups = [torch.tensor(ids) for ids in ([0, 2, 0], [1], [2])]

    def loss(step):
        table = get_variable("table", (4, 2), initializer=ones)
        bias = get_variable("bias", (2,), initializer=ones)
        return (gather_rows(table, lookups[step]).sum(0) * torch.tensor([1.0, 0.5]) + bias).square().sum()

    store = steps(getattr(train, case["optimizer"])(**case["arguments"]), loss, count=3)
    for name in ("table", "bias"):
        goldens.assert_near(store.get(name).detach(), case[name], name)
