"""What the tests of the op library share, as fixtures."""

import nodes
import numpy as np
import pytest


@pytest.fixture(scope="session")
def load():
    """Loads a model of the given nodes; the outputs of the last node are the graph's."""
    return nodes.load


@pytest.fixture(scope="session")
def parse_inputs():
    return nodes.PARSE_INPUTS


@pytest.fixture(scope="session")
def node_of():
    """A ParseExample or ParseSequenceExample node, by a feature spec."""
    return nodes.parse_node


@pytest.fixture(scope="session")
def parser():
    """Makes a function from serialized messages to {output name: array}, by a feature spec and that of lists."""
    return nodes.make_parser


@pytest.fixture(scope="session")
def rows_of():
    """The rows of a padded output as lists, without the padding; asserts that the padding is zeros or ''."""

    def rows(parsed, key):
        padded, lengths = parsed[f"{key}/values"], parsed[f"{key}/lengths"]
        assert padded.shape == (len(lengths), max(lengths, default=0))
        behind = np.arange(padded.shape[1]) >= lengths[:, None]
        assert not padded[behind].any()
        return [row[:length].tolist() for row, length in zip(padded, lengths, strict=True)]

    return rows
