import pytest

from estimator_serving.training.nn.names import AUTO_REUSE, Names


def test_each_scope_counts_its_own_names():
    names = Names()
    made = [names.unique(name) for name in ("dense", "dense", "dnn/dense", "dense", "dnn/dense")]
    assert made == ["dense", "dense_1", "dnn/dense", "dense_2", "dnn/dense_1"]
    names.clear()
    assert names.unique("dense") == "dense"


def test_a_scope_entered_again_finds_its_layers_again():
    names = Names()
    for _ in range(2):
        names.open_scope("", "dnn")
        assert names.unique("dnn/dense") == "dnn/dense"
    assert names.unique("dnn") == "dnn_1"


@pytest.mark.parametrize("reuse", [True, AUTO_REUSE])
def test_layers_share_a_variable_if_reuse_allows_it(reuse):
    names = Names()
    assert names.claim("a/kernel", None)
    assert not names.claim("a/kernel", reuse)
    with pytest.raises(ValueError, match=r"^Variable a/kernel already exists, disallowed\."):
        names.claim("a/kernel", None)


def test_reuse_needs_an_earlier_layer():
    with pytest.raises(ValueError, match="^Variable a/kernel does not exist, or was not created with tf.get_variable"):
        Names().claim("a/kernel", True)
    assert Names().claim("a/kernel", AUTO_REUSE)
