"""How the tests run together: one profile for property tests, and which files share a process and which start first."""

import gc
import logging
import os

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# No deadline for property tests, since two tests that share a core would miss any.
settings.register_profile("estimator-serving", deadline=None)
settings.load_profile("estimator-serving")

# A process has one backend of Keras.
os.environ.setdefault("KERAS_BACKEND", "torch")

# These export the same estimators. In one process, each network is traced once.
NETWORKS = tuple(f"tests/exporter/test_{name}.py" for name in ("supervised", "families", "export", "servables"))
# These import Keras, which takes longer than most of them.
KERAS = "keras"

# The longest files start first, so that no process is left with one of them at the end.
LONGEST = (
    *NETWORKS,
    "tests/exporter/sources/test_keras.py",
    "tests/test_docs.py",
    "tests/end_to_end/test_sagemaker_container.py",
    "tests/serving/test_shutdown.py",
    "tests/end_to_end/test_examples.py",
    "tests/serving/test_version_swap.py",
    "tests/training/columns/test_transform.py",
    "tests/exporter/sources/test_torch.py",
    "tests/exporter/sources/saved_model/test_bad_input.py",
    "tests/conformance/test_robustness.py",
)


def file_of(nodeid: str) -> str:
    return nodeid.split("::", 1)[0]


class Scheduling(LoadFileScheduling):
    """A file's tests share their fixtures, so a file stays with one process; so do NETWORKS and the files of Keras."""

    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        return NETWORKS[0] if file in NETWORKS else KERAS if KERAS in file else file


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist in the run, nobody asks
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


# Torch and the tests are many objects that stay. To look through them at each collection took a twentieth of the time.
gc.set_threshold(100_000, 20, 100)


def pytest_collection_finish():
    # pytest gives a handler to each logger that does not propagate, six times for each test: that was half of what a
    # test costs beside its body. And torch takes any handler of torch.__trace for a wish to see all that it traces.
    for name in [*logging.root.manager.loggerDict]:
        if name.startswith("torch."):
            logging.getLogger(name).propagate = True
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(file_of(item.nodeid), len(place)))


@pytest.fixture(autouse=True)
def _levels_of_loggers():
    """Programs that tests run set the levels of loggers; the next test finds them as they were."""
    loggers = [
        logging.getLogger(),
        logging.getLogger("estimator_serving"),
        logging.getLogger("estimator_serving.training"),
    ]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        if logger.level != level:  # setting it empties the caches of all loggers
            logger.setLevel(level)
