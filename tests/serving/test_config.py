"""The flags: names and defaults of tensorflow_model_server, its way of writing booleans, and what is refused."""

from __future__ import annotations

import argparse
from dataclasses import fields

import pytest

from estimator_serving.serving import config
from estimator_serving.serving.config import Config, ConfigError
from estimator_serving.serving.policy import TRANSITIONS

CPUS = config.cpus()
# Every flag of tensorflow_model_server 2.20 with its default; rest_api_port is 8501 here, as in its image.
FLAGS = {
    "port": 8500, "grpc_socket_path": "", "rest_api_port": 8501, "rest_api_num_threads": 4 * CPUS,
    "rest_api_timeout_in_ms": 30000, "rest_api_enable_cors_support": False, "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False, "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False, "model_config_file": "", "model_config_file_poll_wait_seconds": 0,
    "model_name": "default", "model_base_path": "", "num_load_threads": 0, "num_unload_threads": 0,
    "max_num_load_retries": 5, "load_retry_interval_micros": 60_000_000, "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True, "tensorflow_session_parallelism": 0, "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0, "tensorflow_session_config_file": "", "use_alts_credentials": False,
    "ssl_config_file": "", "platform_config_file": "", "per_process_gpu_memory_fraction": 0,
    "saved_model_tags": "serve", "grpc_channel_arguments": "", "grpc_max_threads": 4 * CPUS,
    "enable_model_warmup": True, "num_request_iterations_for_warmup": 0, "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True, "prefer_tflite_model": False, "num_tflite_pools": CPUS,
    "num_tflite_interpreters_per_pool": 1, "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False, "xla_gpu_compilation_enabled": False, "enable_profiler": True,
    "thread_pool_factory_config_file": "", "mixed_precision": "", "skip_initialize_tpu": False,
    "enable_grpc_healthcheck_service": False, "enable_serialization_as_tensor_content": False,
}  # fmt: skip
M = "--model_base_path=/m"


@pytest.mark.parametrize(("name", "default"), FLAGS.items())
def test_every_flag_of_tensorflow_model_server(name, default):
    given = Config(model_base_path="/m") if name != "model_base_path" else Config(model_config_file="/c")
    assert getattr(given, name) == default
    assert type(default) in (type(getattr(given, name)), int)


def test_there_are_48_of_them_with_version():
    assert len(FLAGS) + 1 == 48
    assert config.parse(["--version=false", "--model_base_path=/m"], {}) == Config(model_base_path="/m")


@pytest.mark.parametrize("flag", ["--version", "--version=true", "--version=1"])
def test_version_is_printed(flag, capsys):
    with pytest.raises(SystemExit) as ended:
        config.parse([flag], {})
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("estimator-serving ")


def test_flags_win_over_the_environment():
    environment = {"PORT": "1", "MODEL_NAME": "from_environment", "MODEL_BASE_PATH": "/a", "VERSION": "whose"}
    given = config.parse(["--port=2", "--model_base_path", "/b"], environment)
    assert (given.port, given.model_name, given.model_base_path) == (2, "from_environment", "/b")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("", True), ("=true", True), ("=True", True), ("=1", True), ("=false", False), ("=FALSE", False), ("=0", False)],
)
def test_booleans(word, expected):
    assert config.parse([M, f"--enable_model_warmup{word}"], {}).enable_model_warmup is expected
    assert config.parse([M], {"ENABLE_BATCHING": word.removeprefix("=") or "1"}).enable_batching is expected


@pytest.mark.parametrize("words", [["--enable_batching=maybe"], ["--model_nam=m"], ["--tensor_flow"]])
def test_words_that_are_no_flags(words, capsys):
    with pytest.raises(SystemExit) as ended:
        config.parse([M, *words], {})
    assert ended.value.code == 2
    assert words[0].split("=")[0] in capsys.readouterr().err


def test_help_is_in_groups():
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    text = parser.format_help()
    assert all(f"{group}:" in text for group in (config.NETWORK, config.LOADING, config.UNUSED))
    assert all(setting.name in text for setting in fields(Config))
    assert all(f"--{name}" in text for name in ("port", "enable_batching", "access_log"))
    assert len(text.splitlines()) < 135


def test_flags_without_effect_are_named():
    given = config.parse([M, "--enable_profiler=false", "--mixed_precision=bfloat16", "--saved_model_tags=serve"], {})
    assert given.unused() == [
        "--enable_profiler=false (TensorFlow's profiler service)",
        "--mixed_precision=bfloat16 (a model runs in the precision it was exported with)",
    ]
    assert Config(model_base_path="/m", num_load_threads=3).unused() == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"port": 70000}, "--port=70000 cannot be used; give a port up to 65535, 0 for off or -1 for a free one."),
        ({"rest_api_port": -2}, "--rest_api_port=-2 cannot be used"),
        ({"port": 0, "rest_api_port": 0}, "--port and --rest_api_port are both 0"),
        ({"workers": "-1"}, "--workers=-1 cannot be used; give a number from 0 to 256, or auto."),
        ({"workers": "two"}, "--workers=two cannot be used"),
        ({"workers": ""}, "--workers= cannot be used"),
        ({"workers": "257"}, "--workers=257 cannot be used"),
        ({"workers": "9" * 5000}, "cannot be used; give a number from 0 to 256, or auto."),
        ({"workers": "2", "grpc_socket_path": "/s"}, "only one process can listen on a Unix socket"),
        ({"workers": "2", "enable_system_shared_memory": True}, "a region would be known to one process only"),
        (
            {"bind_address": ""},
            "--bind_address= cannot be used; give an address of this machine, such as",
        ),
        ({"bind_address": "[]"}, "--bind_address=[] cannot be used"),
        ({"rest_api_bind_address": " "}, "--rest_api_bind_address=  cannot be used"),
        ({"grpc_bind_address": "a..b"}, "--grpc_bind_address=a..b cannot be used"),
        ({"grpc_max_threads": 0}, "--grpc_max_threads=0 cannot be used; give a number above 0."),
        ({"shutdown_grace_seconds": -1}, "--shutdown_grace_seconds=-1 cannot be used"),
        ({"file_system_poll_wait_seconds": float("nan")}, "--file_system_poll_wait_seconds=nan cannot be used"),
        ({"max_num_load_retries": -1}, "--max_num_load_retries=-1 cannot be used; give 0 or more."),
        ({"device": "tpu"}, "--device=tpu cannot be used; give cpu or cuda."),
        ({"execution_provider_options": "device_id=1"}, "--execution_provider_options is for --device=cuda, and"),
        ({"enable_cuda_graphs": True}, "--enable_cuda_graphs is for --device=cuda, and --device=cpu has no such thing"),
        ({"enable_cuda_graphs": True, "device": "cuda"}, "--enable_cuda_graphs needs --enable_batching=true and allow"),
        (
            {"device": "cuda", "execution_provider_options": "gpu_mem_limit=2GB"},
            "--execution_provider_options: gpu_mem_limit=2GB cannot be used; give a whole number.",
        ),
        ({"aspired_version_policy": "x"}, "give availability_preserving or resource_preserving."),
        ({"model_name": ""}, "--model_name= cannot be used"),
        (
            {"model_base_path": ""},
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        ({"batching_parameters_file": "/b"}, "--batching_parameters_file is set without --enable_batching=true"),
        ({"tensorflow_session_parallelism": 2, "tensorflow_intra_op_parallelism": 2}, "exclude each other"),
        ({"ssl_config_file": "/s", "use_alts_credentials": True}, "exclude each other"),
        ({"grpc_socket_path": "/" + "a" * 107}, "give a path of at most 107 bytes"),
        ({"grpc_channel_arguments": "a=1,b"}, "--grpc_channel_arguments holds 'b'; write it as name=value,name=value."),
    ],
)
def test_refused(settings, text):
    with pytest.raises(ConfigError) as refused:
        Config(**{"model_base_path": "/m"} | settings)
    assert text in str(refused.value)


@pytest.mark.parametrize(("variable", "text", "kind"), [("PORT", "http", "int"), ("ENABLE_BATCHING", "yes", "bool")])
def test_environment_of_the_wrong_type(variable, text, kind):
    with pytest.raises(ConfigError, match=f"{variable}='{text}' cannot be used; give a value of type {kind}."):
        config.parse([M], {variable: text})


@pytest.mark.parametrize("name", ["auth_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file"])
def test_what_protects_is_not_left_out_by_an_empty_text(name):
    """A variable that a script forgot to set must not open the server to all."""
    for words, environment, said in (
        ([f"--{name}="], {}, f"--{name} is given and empty"),
        ([], {name.upper(): ""}, f"{name.upper()} is given and empty"),
        ([f"--{name}="], {name.upper(): "/f"}, f"--{name} is given and empty"),
    ):
        with pytest.raises(ConfigError, match=f"^{said}; name the file, or leave it out"):
            config.parse([M, *words], environment)


def test_an_empty_address_is_none():
    with pytest.raises(ConfigError, match="--bind_address= cannot be used"):
        config.parse([M], {"BIND_ADDRESS": ""})
    assert config.parse([M], {"BIND_ADDRESS": "::1", "REST_API_BIND_ADDRESS": ""}).rest_address == "::1"


def test_channel_arguments():
    given = Config(model_base_path="/m", grpc_channel_arguments="grpc.max_connection_age_ms=-5, user=me,")
    assert given.channel_arguments() == [("grpc.max_connection_age_ms", -5), ("user", "me")]


def test_cores_are_shared_out_among_workers(monkeypatch):
    monkeypatch.setattr(config, "cpus", lambda: 8)
    given = [Config(model_base_path="/m", workers=workers) for workers in ("0", "2", "auto", "20")]
    assert [one.worker_processes for one in given] == [0, 2, 8, 20]
    assert [(one.intra_op_threads, one.run_slots) for one in given] == [(8, 8), (4, 4), (1, 1), (1, 1)]


def test_several_processes_need_linux(monkeypatch):
    monkeypatch.setattr(config.sys, "platform", "darwin")
    assert Config(model_base_path="/m").worker_processes == 0
    with pytest.raises(ConfigError, match="--workers=2 needs Linux"):
        Config(model_base_path="/m", workers="2")


def test_threads():
    assert Config(model_base_path="/m", tensorflow_intra_op_parallelism=3).intra_op_threads == 3
    assert Config(model_base_path="/m", tensorflow_session_parallelism=2).intra_op_threads == 2
    assert Config(model_base_path="/m").intra_op_threads >= 1
    assert (Config(model_base_path="/m").load_threads, Config(model_base_path="/m").unload_threads) == (CPUS, 1)


def test_transitions_are_the_policys():
    for name in TRANSITIONS:
        assert Config(model_base_path="/m", aspired_version_policy=name)


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "cannot be read (no such file)"), (b"\xff", "is not UTF-8 text"), (b"x" * 11, "is larger than 10 bytes")],
)
def test_files_that_flags_name(tmp_path, content, text):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        config.read_text("some_file", str(path), 10)
    assert text in str(refused.value)
