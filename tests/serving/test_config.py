import pytest

from estimator_serving.serving import config
from estimator_serving.serving.config import Config, ConfigError


def test_defaults_are_tensorflow_servings():
    given = Config(model_base_path="/models/m")
    assert (given.port, given.rest_api_port, given.model_name) == (8500, 8501, "default")
    assert (given.file_system_poll_wait_seconds, given.bind_address) == (1.0, "0.0.0.0")


def test_flags_win_over_the_environment():
    environment = {"PORT": "1", "MODEL_NAME": "from_environment", "MODEL_BASE_PATH": "/a"}
    given = config.parse(["--port=2", "--model_base_path", "/b"], environment)
    assert (given.port, given.model_name, given.model_base_path) == (2, "from_environment", "/b")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"port": 70000}, "--port=70000 cannot be used; give a port up to 65535, 0 for off or -1 for a free one."),
        ({"rest_api_port": -2}, "--rest_api_port=-2 cannot be used"),
        ({"port": 0, "rest_api_port": 0}, "--port and --rest_api_port are both 0"),
        ({"grpc_max_threads": 0}, "--grpc_max_threads=0 cannot be used; give a number above 0."),
        ({"shutdown_grace_seconds": -1}, "--shutdown_grace_seconds=-1 cannot be used"),
        ({"device": "tpu"}, "--device=tpu cannot be used; give cpu or cuda."),
        ({"model_name": ""}, "--model_name= cannot be used"),
        ({"model_base_path": ""}, "model_base_path is empty!"),
    ],
)
def test_refused(settings, text):
    with pytest.raises(ConfigError, match=text.replace("?", r"\?")):
        Config(**{"model_base_path": "/m"} | settings)


def test_environment_of_the_wrong_type():
    with pytest.raises(ConfigError, match="PORT='http' cannot be used; give a value of type int."):
        config.parse(["--model_base_path=/m"], {"PORT": "http"})


def test_intra_op_threads():
    assert Config(model_base_path="/m", tensorflow_intra_op_parallelism=3).intra_op_threads == 3
    assert Config(model_base_path="/m").intra_op_threads >= 1
