"""What warm-started models start from and become, against TensorFlow 2.15's (goldens/make_warm_start_goldens.py)."""

import logging

import goldens
import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import VocabInfo, WarmStartSettings, initializers, layers, losses, optimizers
from estimator_serving.training import feature_column as fc
from estimator_serving.training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from estimator_serving.training.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    VariableMissingError,
    VariableShapeError,
)

GOLDENS = goldens.read("warm_start.json")
RUNS = GOLDENS["runs"]
C, X = "linear/linear_model/c/weights", "linear/linear_model/x/weights"
BIAS, KERNEL = "linear/linear_model/bias_weights", "dnn/logits/kernel"
# Constants of the optimizer, which are variables in TensorFlow and come from the program here.
CONSTANTS = ("/iter", "/decay", "/beta", "/learning_rate", "_power", "_strength")


@pytest.fixture
def files(tmp_path):
    """Vocabularies by name: TensorFlow's run's, some that do not fit, and one that is not there."""
    entries = {**GOLDENS["vocabularies"], "twice": ["a", "b", "a"], "long": ["a", "b", "c", "x", "d", "e"]}
    paths = {name: tmp_path / f"{name}.txt" for name in [*entries, "gone"]}
    for name, lines in entries.items():
        paths[name].write_text("".join(f"{line}\n" for line in lines))
    return paths


@pytest.fixture
def source(tmp_path):
    """Writes what TensorFlow trained as a checkpoint of ours, and gives its prefix."""

    def write(name="linear"):
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        prefix = folder / "model.ckpt-3"
        values = {key: torch.tensor(value) for key, value in GOLDENS["sources"][name].items()}
        write_checkpoint(str(prefix), values, None, [])
        (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"\n')
        return prefix

    return write


def build(files, model, model_dir, warm_start_from=None, **arguments):
    kind, _, names, vocabulary, buckets, given = model
    category = fc.categorical_column_with_vocabulary_file("c", str(files[vocabulary]), num_oov_buckets=buckets)
    numeric = [fc.numeric_column(name) for name in names if name != "c"]
    wide, deep = [*numeric, category], [*numeric, fc.embedding_column(category, 2)]
    columns = {
        "LinearClassifier": {"feature_columns": wide},
        "DNNClassifier": {"feature_columns": deep},
        "DNNLinearCombinedClassifier": {"linear_feature_columns": wide, "dnn_feature_columns": deep},
    }[kind]
    estimator = getattr(training, kind)
    return estimator(**given, **columns, **arguments, model_dir=model_dir, warm_start_from=warm_start_from)


LINEAR = RUNS["linear"]["model"]


def input_fn(model=LINEAR, steps=None):
    rows = GOLDENS["rows"]
    features = {name: np.array(values, object if name == "c" else np.float32) for name, values in rows.items()}
    labels = np.array(GOLDENS["labels"][model[1]])
    return lambda: training.Dataset.from_tensor_slices((features, labels)).batch(len(labels)).repeat(steps)


def settings_of(files, path, described):
    infos = {}
    for name, info in (described.get("var_name_to_vocab_info") or {}).items():
        given = {**info, "new_vocab": files[info["new_vocab"]], "old_vocab": files[info["old_vocab"]]}
        if "backup_initializer" in info:
            given["backup_initializer"] = initializers.constant(info["backup_initializer"])
        infos[name] = VocabInfo(**given)
    return WarmStartSettings(path, **{**described, "var_name_to_vocab_info": infos})


def assert_values(path, expected):
    found = read_checkpoint(path).values
    compared = {name for name in expected if not name.endswith(CONSTANTS)}
    assert compared <= set(found)
    for name in compared:
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("key", RUNS)
def test_first_values_and_one_step_are_tensorflows(key, files, source, tmp_path):
    run = RUNS[key]
    settings = settings_of(files, source(run["source"]), run["settings"])
    model_dir = tmp_path / "model"
    evaluation = build(files, run["model"], model_dir, settings).evaluate(input_fn(run["model"]), steps=1)
    assert evaluation["global_step"] == run["evaluation"]["global_step"]
    np.testing.assert_allclose(evaluation["loss"], run["evaluation"]["loss"], rtol=2e-5)
    build(files, run["model"], model_dir, settings).train(input_fn(run["model"]), steps=1)
    for when in ("before", "after"):
        assert_values(model_dir / f"model.ckpt-{run[when]['global_step']}", run[when])


# -- where it starts from, and when -----------------------------------------------------------------------------------


def trained_source(files, tmp_path, steps=2, model=LINEAR):
    return build(files, model, tmp_path / "trained").train(input_fn(model), steps=steps)


@pytest.mark.parametrize(
    "named",
    [
        lambda e: e.model_dir,
        lambda e: e.latest_checkpoint(),
        lambda e: e.latest_checkpoint() + ".safetensors",
        lambda e: WarmStartSettings(e.model_dir),
    ],
)
def test_a_checkpoint_is_named_by_its_path_or_by_its_model_dir(named, files, tmp_path):
    trained = trained_source(files, tmp_path)
    estimator = build(files, LINEAR, tmp_path / "model", named(trained))
    found, expected = (each.evaluate(input_fn(), steps=1) for each in (estimator, trained))
    assert (found["global_step"], expected["global_step"]) == (0, 2)
    assert found["loss"] == expected["loss"]


def test_a_model_dir_with_a_checkpoint_needs_no_start(files, tmp_path, caplog):
    trained = trained_source(files, tmp_path)
    estimator = build(files, LINEAR, tmp_path / "model", trained.model_dir).train(input_fn(), steps=1)
    weights = estimator.get_variable_value(C)
    again = build(files, LINEAR, tmp_path / "model", tmp_path / "gone")
    assert again.evaluate(input_fn(), steps=1)["global_step"] == 1
    with caplog.at_level(logging.INFO, "estimator_serving.training"):
        again.train(input_fn(), max_steps=2)
    assert "model_dir has a checkpoint, so warm_start_from is not looked at." in caplog.messages
    assert again.get_variable_value("global_step") == 2
    assert not np.array_equal(weights, again.get_variable_value(C))


def test_the_log_says_from_where_and_how_many(files, tmp_path, caplog):
    trained = trained_source(files, tmp_path)
    with caplog.at_level(logging.INFO, "estimator_serving.training"):
        build(files, LINEAR, tmp_path / "one", trained.model_dir).evaluate(input_fn(), steps=1)
        build(files, LINEAR, tmp_path / "two", WarmStartSettings(trained.model_dir, "dnn")).evaluate(input_fn(), 1)
    assert f"Warm-starting from: {trained.latest_checkpoint()}" in caplog.messages
    assert "Warm-started 3 variables." in caplog.messages
    (warning,) = (record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.startswith("Warm-started 0 variables. No variable has a name")


def test_an_untrained_model_follows_the_model_dir_it_starts_from(files, tmp_path):
    trained = trained_source(files, tmp_path)
    estimator = build(files, LINEAR, tmp_path / "model", trained.model_dir)
    first = estimator.evaluate(input_fn(), steps=1)["loss"]
    assert estimator.evaluate(input_fn(), steps=1)["loss"] == first
    later = trained.train(input_fn(), steps=3).evaluate(input_fn(), steps=1)["loss"]
    assert estimator.evaluate(input_fn(), steps=1)["loss"] == later != first


def test_an_untrained_model_predicts_and_is_exported_as_its_source(files, tmp_path):
    trained = trained_source(files, tmp_path)
    estimator = build(files, LINEAR, tmp_path / "model", trained.model_dir)
    found, expected = (
        np.array([p["logits"] for p in each.predict(input_fn(steps=1))]) for each in (estimator, trained)
    )
    assert np.array_equal(found, expected)
    batch = {"x": np.array([0.5], np.float32), "c": np.array(["a"], object)}
    assert estimator.predictor()(batch)["logits"] == found[0]
    spec = {"x": training.FixedLenFeature([1], "float32"), "c": training.VarLenFeature("string")}
    receiver = training.export.build_parsing_serving_input_receiver_fn(spec)
    assert estimator.export_saved_model(tmp_path / "export", receiver)


def test_a_renamed_start_is_exported_after_a_step(files, source, tmp_path):
    settings = settings_of(files, source("linear y"), RUNS["another name"]["settings"])
    estimator = build(files, LINEAR, tmp_path / "model", settings)
    with pytest.raises(
        ValueError, match=r"^Couldn't find trained model at .*Call train first.*warm_start_from renames"
    ):
        estimator.export_saved_model(tmp_path / "export", lambda: None)


def test_add_metrics_keeps_the_start(files, tmp_path):
    trained = trained_source(files, tmp_path)
    estimator = build(files, LINEAR, tmp_path / "model", trained.model_dir)
    extended = training.add_metrics(estimator, lambda labels: {"n": training.metrics.mean(labels)})
    assert extended.evaluate(input_fn(), steps=1)["loss"] == trained.evaluate(input_fn(), steps=1)["loss"]


HEAD = training.RegressionHead()
FAMILIES = [
    (training.LinearClassifier, {}),
    (training.LinearRegressor, {}),
    (training.LinearEstimator, {"head": HEAD}),
    (training.DNNClassifier, {"hidden_units": [2]}),
    (training.DNNRegressor, {"hidden_units": [2]}),
    (training.DNNEstimator, {"head": HEAD, "hidden_units": [2]}),
    (training.DNNLinearCombinedClassifier, {}),
    (training.DNNLinearCombinedRegressor, {}),
]


@pytest.mark.parametrize(("family", "arguments"), FAMILIES)
def test_every_family_that_has_one_in_tensorflow_takes_a_start(family, arguments, tmp_path):
    name = "linear_feature_columns" if "Combined" in family.__name__ else "feature_columns"
    columns = {name: [fc.numeric_column("x")]}
    start = WarmStartSettings(write_checkpoint_of_ones(tmp_path), [".*/bias", "global_step"])
    estimator = family(**arguments, **columns, model_dir=tmp_path / "model", warm_start_from=start)
    features = training.numpy_input_fn({"x": np.zeros(1, np.float32)}, np.zeros(1, np.float32), shuffle=False)
    assert estimator.evaluate(features)["global_step"] == 1
    logits = 1 / (1 + np.exp(-1)) if "Classifier" in family.__name__ else 1
    assert estimator.evaluate(features)["prediction/mean"] == pytest.approx(logits)


def write_checkpoint_of_ones(folder):
    """Ones for the biases of every family's last layer; they are the logits of x = 0."""
    values = {BIAS: torch.ones(1), "dnn/logits/bias": torch.ones(1), "dnn/hiddenlayer_0/bias": torch.zeros(2)}
    values["global_step"] = torch.tensor(1)
    write_checkpoint(str(folder / "ones"), values, None, [])
    return folder / "ones"


# -- any model_fn -----------------------------------------------------------------------------------------------------


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(2, 3)
        self.register_buffer("noise", torch.randn(3))

    def forward(self, net):
        return self.dense(net) + self.noise


def model_fn(features, labels, mode):
    net = torch.stack([features["x"], features["y"]], dim=1)
    net = training.module("block", Block)(net)
    scale = training.get_variable("scale", (3,), initializer=initializers.random_normal(), trainable=False)
    logits = layers.dense(net * scale, 2, name="logits")
    loss = losses.sparse_softmax_cross_entropy(labels, logits)
    return training.EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.01).minimize(loss))


NUMBERS = [{"x": [0.5, -1.0, 2.0], "y": [1.0, 0.5, -0.5]}, [1, 0, 1]]


def numbers():
    features = {name: np.array(values, np.float32) for name, values in NUMBERS[0].items()}
    return training.Dataset.from_tensor_slices((features, np.array(NUMBERS[1]))).batch(3).repeat()


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (".*", {"block/dense/weight", "block/dense/bias", "logits/kernel", "logits/bias"}),
        ("block", {"block/dense/weight", "block/dense/bias"}),
        ("logits/kernel$", {"logits/kernel"}),
        (["block/noise", "block/dense/b"], {"block/noise", "block/dense/bias"}),
        (["scale"], {"scale"}),
        (["training/Adam/logits"], {f"training/Adam/logits/{v}/{s}" for v in ("kernel", "bias") for s in ("m", "v")}),
        (["global_step", "logits/bias[^/]"], {"global_step", "logits/bias"}),
        ([], set()),
    ],
)
def test_an_expression_takes_trainable_variables_and_a_list_any(wanted, taken, tmp_path):
    trained = training.Estimator(model_fn, tmp_path / "trained").train(numbers, steps=3)
    fresh = training.Estimator(model_fn, tmp_path / "fresh", training.RunConfig(tf_random_seed=1))
    warm = training.Estimator(
        model_fn,
        tmp_path / "warm",
        training.RunConfig(tf_random_seed=1),
        warm_start_from=WarmStartSettings(trained.model_dir, wanted),
    )
    first = 3 if "global_step" in taken else 0
    start = read_checkpoint(warm.train(numbers, steps=1).model_dir + f"/model.ckpt-{first}").values
    otherwise = read_checkpoint(fresh.train(numbers, steps=1).model_dir + "/model.ckpt-0").values
    for name, value in start.items():
        expected = torch.tensor(trained.get_variable_value(name)) if name in taken else otherwise[name]
        assert torch.equal(value, expected), name


def test_replayed_steps_are_those_of_the_ordinary_ones(files, tmp_path):
    """A step is recorded at the second batch: by then the variables must be the warm ones."""
    model = RUNS["dnn"]["model"]
    trained = trained_source(files, tmp_path, model=model)
    warm = [
        build(files, model, tmp_path / name, trained.model_dir, optimizer=optimizer)
        for name, optimizer in (("replayed", "Adagrad"), ("called", lambda: optimizers.Adagrad()))
    ]
    for estimator in warm:
        estimator.train(input_fn(model), steps=6)
    replayed, called = warm
    for name in called.get_variable_names():
        assert np.array_equal(replayed.get_variable_value(name), called.get_variable_value(name)), name


def test_ftrl_may_keep_the_weights_it_starts_with(files, source, tmp_path):
    """Without regularisation its steps are Adagrad's then; TensorFlow's first step would pull the weights towards 0."""
    prefix = source()
    kept, adagrad = (
        build(files, LINEAR, tmp_path / name, prefix, optimizer=optimizer).train(input_fn(), steps=3)
        for name, optimizer in (
            ("kept", lambda: optimizers.Ftrl(0.2, keep_initial_weights=True)),
            ("adagrad", lambda: optimizers.Adagrad(0.2)),
        )
    )
    for name in (C, X, BIAS):
        np.testing.assert_allclose(kept.get_variable_value(name), adagrad.get_variable_value(name), rtol=1e-5)


# -- vocabularies -----------------------------------------------------------------------------------------------------


def test_new_rows_come_from_the_backup_initializer(files, source, tmp_path):
    info = VocabInfo(files["new"], 4, 2, files["old"], backup_initializer=initializers.random_uniform(5.0, 6.0))
    settings = WarmStartSettings(source(), var_name_to_vocab_info={C: info})
    model = [*LINEAR[:3], "new", 2, {}]
    found = [
        build(files, model, tmp_path / f"model{i}", settings, config=training.RunConfig(tf_random_seed=3))
        .train(input_fn(), steps=1)
        .model_dir
        + "/model.ckpt-0"
        for i in range(2)
    ]
    first, second = (read_checkpoint(path).values[C][:, 0] for path in found)
    old = [value for (value,) in GOLDENS["sources"]["linear"][C]]
    assert first[[0, 2]].tolist() == pytest.approx([old[2], old[0]])
    new = first[[1, 3, 4, 5]]
    assert ((new >= 5) & (new < 6)).all()
    assert len(set(new.tolist())) == 4
    assert torch.equal(first, second)


def test_biases_follow_the_classes_along_their_one_axis(files, source, tmp_path):
    classes = {"new_vocab": "new classes", "new_vocab_size": 4, "num_oov_buckets": 0, "old_vocab": "old classes"}
    described = {"var_name_to_vocab_info": {KERNEL: {**classes, "axis": 1}, "dnn/logits/bias": classes}}
    model = RUNS["columns of classes"]["model"]
    estimator = build(files, model, tmp_path / "model", settings_of(files, source("dnn"), described))
    estimator.train(input_fn(model), steps=1)
    bias = read_checkpoint(f"{estimator.model_dir}/model.ckpt-0").values["dnn/logits/bias"]
    cat, dog, cow = GOLDENS["sources"]["dnn"]["dnn/logits/bias"]
    assert bias.tolist() == pytest.approx([cow, 0.0, cat, dog])


# -- errors -----------------------------------------------------------------------------------------------------------

SETTINGS_ERRORS = [
    (
        lambda: WarmStartSettings(""),
        ValueError,
        r"`ckpt_to_initialize_from` MUST be set in WarmStartSettings.*model_dir",
    ),
    (
        lambda: WarmStartSettings("a", 3),
        ValueError,
        "`vars_to_warm_start must be a `list` or `str`.  Given type is <class 'int'>",
    ),
    (
        lambda: WarmStartSettings("a", [torch.zeros(1)]),
        ValueError,
        "If `vars_to_warm_start` is a list, it must be all `Variable` or all `str`.  Given types are .*names",
    ),
    (lambda: WarmStartSettings("a", "dnn/("), ValueError, r"vars_to_warm_start holds 'dnn/\(', which is no regular"),
    (
        lambda: VocabInfo("a", 1, 0, "b", axis=2),
        ValueError,
        "The only supported values for the axis argument are 0 and 1.  Provided axis: 2",
    ),
    (lambda: VocabInfo("a", 0, 0, "b"), ValueError, r"Invalid args: Must provide all of \[current_vocab_path, .*size"),
    (lambda: VocabInfo("a", 1, -1, "b"), ValueError, "num_row_oov_buckets must be >= 0, but received -1"),
    (lambda: VocabInfo("a", 1, 0, "b", 0), ValueError, "new_vocab_size and old_vocab_size count entries"),
    (
        lambda: VocabInfo("a", 1, 0, "b", backup_initializer=3),
        TypeError,
        "initializer must be callable, instead of being 3 of type <class 'int'>.*training.initializers",
    ),
    (
        lambda: training.DNNClassifier([2], [], warm_start_from=b"a"),
        ValueError,
        "warm_start_from must be a string or a WarmStartSettings, instead got <class 'bytes'>.*model_dir",
    ),
]


@pytest.mark.parametrize(("make", "kind", "text"), SETTINGS_ERRORS)
def test_settings_are_checked_when_they_are_made(make, kind, text):
    with pytest.raises(kind, match=f"^{text}"):
        make()


NEW = {"new_vocab": "new", "new_vocab_size": 4, "num_oov_buckets": 1, "old_vocab": "old"}
START_ERRORS = [
    (
        "old",
        {"var_name_to_prev_var_name": {X: "qq"}},
        VariableMissingError,
        r"Tensor qq is not found in .*model.ckpt-3 checkpoint \{'global_step': \[\], .*vars_to_warm_start.*_prev_var",
    ),
    (
        "new",
        {},
        VariableShapeError,
        rf"Shape of variable {C}:0 \(\(5, 1\)\) doesn't match with shape of tensor {C} \(\[4, 1\]\) from checkpoint "
        r"reader\. Leave it out .* var_name_to_vocab_info",
    ),
    (
        "old",
        {"var_name_to_prev_var_name": {"zz": X}},
        CheckpointMismatchError,
        r"You provided the following variables in var_name_to_prev_var_name that were not used: \['zz'\].  Perhaps you "
        rf"misspelled them\?  Here is the list of viable variable names: \['{BIAS}', '{C}', '{X}'\]",
    ),
    (
        "old",
        {"vars_to_warm_start": "linear/linear_model/x", "var_name_to_vocab_info": {C: {}}},
        CheckpointMismatchError,
        r"You provided the following variables in var_name_to_vocab_info that were not used: \['linear.*Name some",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"old_vocab": "gone"}}},
        NotFoundError,
        ".*gone.txt; No such file or directory.*put it there, or give its path",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"old_vocab": "twice"}}},
        FailedPreconditionError,
        "HashTable has different",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"old_vocab_size": 9}}},
        InvalidArgumentError,
        "Invalid vocab_size in .*old.txt: expected 9 but got 3.*size",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"new_vocab_size": 2}}},
        VariableShapeError,
        "Trying to initialize 5 additional rows after 0 rows have already been initialized, which would exceed "
        r"expected total row count of new_row_vocab_size \(2\) \+ num_row_oov_buckets \(1\) = 3.*column has",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"num_oov_buckets": 3}}},
        VariableShapeError,
        "Trying to initialize 5 additional rows after 0 .* are fewer than the expected total row count",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"axis": 1}}},
        VariableShapeError,
        r"Expected 2nd dim of shape to be new_col_vocab_size \(4\) \+ num_col_oov_buckets \(1\) = 5, but received "
        r"shape: \[5, 1\]",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {BIAS: {"axis": 1}}},
        VariableShapeError,
        r"Expected 2-dim shape, but received: \[1\] for the variable linear/linear_model/bias_weights.*axis=0",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {}}, "var_name_to_prev_var_name": {C: "wide"}},
        VariableShapeError,
        r"Tensor wide has shape \[4, 2\], where the size of its 2nd dimension is 2 instead of being equal to 1",
    ),
    (
        "new",
        {"var_name_to_vocab_info": {C: {"old_vocab": "long"}}},
        VariableShapeError,
        r".*long.txt has entries at place 5 that the model takes, and the checkpoint's .* ends at 3.*old_vocab_size",
    ),
]


@pytest.mark.parametrize(("vocabulary", "described", "kind", "text"), START_ERRORS)
def test_a_start_that_does_not_fit_is_refused(vocabulary, described, kind, text, files, source, tmp_path):
    infos = {name: {**NEW, **info} for name, info in described.get("var_name_to_vocab_info", {}).items()}
    prefix = source()
    write_checkpoint(str(prefix), {**read_checkpoint(prefix).values, "wide": torch.zeros(4, 2)}, None, [])
    settings = settings_of(files, prefix, {**described, "var_name_to_vocab_info": infos})
    model = [*LINEAR[:3], vocabulary, 1, {}]
    estimator = build(files, model, tmp_path / "model", settings)
    for run in (estimator.train, estimator.evaluate):
        with pytest.raises(kind, match=f"(?s)^{text}") as raised:
            run(input_fn(), steps=1)
        assert isinstance(raised.value, ValueError)
    assert estimator.latest_checkpoint() is None


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("made", "named", "text"),
    [
        (None, "gone/model.ckpt-3", "There is no such file"),
        ("empty/events", "empty", "The directory holds no checkpoint"),
        ("export/1/model.onnx", "export/1", "An exported model is a graph and holds no variables by their names"),
        ("saved/saved_model.pb", "saved", "TensorFlow wrote what is there: .*write_checkpoint"),
        ("tf/model.ckpt-3.index", "tf/model.ckpt-3", "TensorFlow wrote what is there: .*write_checkpoint"),
    ],
)
def test_a_path_without_a_checkpoint_is_refused(made, named, text, files, tmp_path):
    if made:
        touch(tmp_path / made)
    estimator = build(files, LINEAR, tmp_path / "model", tmp_path / named)
    for run in (estimator.train, estimator.evaluate):
        with pytest.raises(CheckpointNotFoundError, match=f"Failed to find any matching files for .*{text}.*model_dir"):
            run(input_fn(), steps=1)
