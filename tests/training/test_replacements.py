"""Every public name of the modules that Estimator programs use is here, or is in the table of replacements."""

import operator

import goldens
import pytest

from estimator_serving import training
from estimator_serving.training.replacements import REPLACEMENTS, as_markdown

NAMES = goldens.read("names.json")
KNOWN = {(path.removeprefix("compat.v1."), name) for path, names in NAMES.items() for name in names}
# What no list of TensorFlow 2.15's modules can hold: modules of TensorFlow 1, and names of tf itself.
LISTED = [module for module in REPLACEMENTS if module.partition(".")[0] not in ("", "nn", "gfile", "contrib")]


@pytest.mark.parametrize("path", NAMES)
def test_a_name_is_here_or_says_what_to_use(path):
    module, replaced = operator.attrgetter(path)(training), REPLACEMENTS.get(path.removeprefix("compat.v1."), {})
    for name in NAMES[path]:
        if name not in replaced:
            assert getattr(module, name) is not None
            continue
        with pytest.raises(AttributeError, match=rf"^tf\..*{name} is not (here\. Use|needed here: )"):
            getattr(module, name)


@pytest.mark.parametrize("module", [module for module in LISTED if module not in ("nn.rnn_cell", "data.Dataset")])
def test_the_table_holds_only_names_of_tensorflow(module):
    assert {(module, name) for name in REPLACEMENTS[module]} <= KNOWN


@pytest.mark.parametrize("module", [module for module in REPLACEMENTS if module != "data.Dataset"])
def test_what_is_here_is_not_in_the_table(module):
    found = operator.attrgetter(module)(training) if module else training
    assert [name for name in REPLACEMENTS[module] if hasattr(found, name)] == []


def test_names_of_tf_itself_of_contrib_and_of_a_dataset():
    for call, text in (
        (lambda: training.reduce_mean, r"tf\.reduce_mean is not here\. Use the tensor's mean"),
        (lambda: training.contrib.learn.Experiment, r"Use training\.train_and_evaluate"),
        (lambda: training.compat.v1.keras.optimizers.legacy, r"training\.optimizers for keras\.optimizers"),
        (lambda: training.compat.v1.keras.regularizers.l2(0.1), r"training\.regularizers for keras\.regularizers"),
        (lambda: training.compat.v1.Session, "Use an Estimator and its hooks"),
        (lambda: training.Dataset.from_tensors([1]).make_one_shot_iterator(), "Use the Dataset itself"),
        (lambda: training.zz, "module 'estimator_serving.training' has no attribute 'zz'"),
        (lambda: training.Dataset.from_tensors([1]).zz, "no attribute 'zz'"),
    ):
        with pytest.raises(AttributeError, match=text):
            call()


def test_the_table_for_the_documentation():
    rows = as_markdown().splitlines()
    assert "| `tf.data.experimental.snapshot` | dataset.cache |" in rows
    assert all(row.count("|") == 3 for row in rows)
