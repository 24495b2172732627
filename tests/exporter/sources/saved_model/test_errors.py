"""The text of what is refused: op, how often, where, why, what it blocks, and what to do."""

from estimator_serving.exporter.sources.saved_model.errors import Unsupported, UnsupportedOps


def test_a_refusal_names_op_node_and_reason():
    refusal = Unsupported("Einsum", "layer/einsum", "its equation is ab->ba")
    assert str(refusal) == "Einsum at layer/einsum: its equation is ab->ba"


def test_what_blocks_every_signature():
    error = UnsupportedOps({"serving_default": [Unsupported("Mystery", "a", "this op is not converted")]}, [])
    assert str(error) == (
        "The SavedModel holds what is not converted:\n"
        "  Mystery (once, at a): this op is not converted. It blocks serving_default.\n"
        "No signature is left to import; export the model without these ops, or retrain it with this project."
    )


def test_what_blocks_some_signatures_names_the_others():
    refusal = Unsupported("Mystery", "a", "no")
    error = UnsupportedOps({"train": [refusal]}, ["predict", "classify"])
    assert str(error).endswith("Pass --skip-unsupported to import the others (classify, predict) without them.")
    assert error.blocked == {"train": [refusal]}


def test_a_node_counts_once_however_many_signatures_it_blocks():
    refusal = Unsupported("Mystery", "a", "no")
    error = UnsupportedOps({"b": [refusal], "a": [refusal]}, [])
    assert "  Mystery (once, at a): no. It blocks a, b." in str(error)


def test_nodes_of_one_op_are_counted_and_reasons_are_told_once():
    refusals = [Unsupported("Mystery", name, reason) for name, reason in [("a", "no"), ("b", "no"), ("c", "never")]]
    error = UnsupportedOps({"predict": [*refusals, Unsupported("Abyss", "d", "no")]}, [])
    lines = str(error).splitlines()
    assert lines[1].startswith("  Abyss (once, at d)")
    assert lines[2] == "  Mystery (3 times, first at a): no; never. It blocks predict."
