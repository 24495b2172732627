"""Where the server listens: addresses, sockets, TLS, and what it says where it cannot."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import grpc
import httpx
import pytest
from certificates import make_authority, make_certificate

from estimator_serving.serving.config import Config
from estimator_serving.serving.listeners import open_to_all
from estimator_serving.serving.server import Server, StartError
from estimator_serving.wire.pb import serving_pb

HOST = "127.0.0.1"


@contextlib.contextmanager
def running(base_path, **settings):
    given = {"port": -1, "rest_api_port": -1, "bind_address": HOST, "model_name": "m"}
    server = Server(Config(model_base_path=str(base_path), **given | settings))
    server.start()
    try:
        yield server
    finally:
        assert server.stop()


def status(channel):
    """The states of model m, asked over a channel, which is closed then."""
    with channel:
        call = channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=serving_pb.GetModelStatusRequest.SerializeToString,
            response_deserializer=serving_pb.GetModelStatusResponse.FromString,
        )
        request = serving_pb.GetModelStatusRequest(model_spec=serving_pb.ModelSpec(name="m"))
        return [entry.state for entry in call(request, timeout=10).model_version_status]


@pytest.fixture
def model(base_path, write_model):
    write_model(1)
    return base_path


# --- ports ---


def ipv6_is_there():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6_is_there(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("address", ["::1", "::"])
def test_ipv6(model, address):
    with running(model, bind_address=address) as server:
        assert httpx.get(f"http://[::1]:{server.rest_port}/readyz").status_code == 200
        assert status(grpc.insecure_channel(f"[::1]:{server.grpc_port}")) == [30]
        if address == "::":
            assert httpx.get(f"http://{HOST}:{server.rest_port}/readyz").status_code == 200


@pytest.mark.skipif(not ipv6_is_there(), reason="no IPv6 on this machine")
def test_each_port_has_an_address(model):
    with running(model, bind_address="192.0.2.1", grpc_bind_address="[::1]", rest_api_bind_address=HOST) as server:
        assert httpx.get(f"http://{HOST}:{server.rest_port}/readyz").status_code == 200
        assert status(grpc.insecure_channel(f"[::1]:{server.grpc_port}")) == [30]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://[::1]:{server.rest_port}/readyz")


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        ({}, ""), ({"bind_address": "127.0.0.2"}, ""), ({"bind_address": "localhost"}, ""),
        ({"bind_address": "0"}, "0"), ({"bind_address": "no.invalid"}, "no.invalid"),
        ({"rest_api_bind_address": ""}, ""), ({"bind_address": "0.0.0.0", "rest_api_bind_address": ""}, "0.0.0.0"),
        ({"bind_address": "0.0.0.0"}, "0.0.0.0"), ({"grpc_bind_address": "::", "bind_address": "::1"}, "::"),
        ({"grpc_bind_address": "::", "rest_api_bind_address": "0.0.0.0"}, "0.0.0.0 and ::"),
        ({"bind_address": "0.0.0.0", "rest_api_port": 0, "grpc_bind_address": "::1"}, ""),
        ({"bind_address": "0.0.0.0", "auth_file": "keys"}, ""),
    ],
)  # fmt: skip
def test_a_port_that_everybody_may_use(settings, addresses):
    given = {"model_base_path": "m", "bind_address": HOST, "port": -1, "rest_api_port": -1}
    assert open_to_all(Config(**given | settings), None, None) == addresses


def test_a_port_that_everybody_may_use_is_told_once(model, caplog):
    with running(model, bind_address="0.0.0.0"):
        pass
    told = [record.message for record in caplog.records if "Everybody" in record.message]
    assert told == ["Everybody who reaches 0.0.0.0 may use every model: give --auth_file or --tls_client_ca_file, or "
                    "--bind_address=127.0.0.1."]  # fmt: skip


@pytest.mark.parametrize("address", ["192.0.2.1", "no.invalid"])
@pytest.mark.parametrize(("front", "flag", "own"), [("REST", "rest_api_port", "rest_api_bind_address"),
                                                    ("gRPC", "port", "grpc_bind_address")])  # fmt: skip
def test_an_address_that_is_not_this_machines(base_path, address, front, flag, own):
    for name in ("bind_address", own):
        settings = {"port": 0, "rest_api_port": 0, flag: -1, name: address}
        with pytest.raises(StartError) as refused:
            Server(Config(model_base_path=str(base_path), **settings))
        assert str(refused.value).startswith(f"{front} cannot listen on {address} (")
        assert str(refused.value).endswith(f"; give --{name} an address of this machine, or 0.0.0.0 for all.")


def test_an_address_that_only_grpc_cannot_read(base_path):
    with pytest.raises(
        StartError, match=r"gRPC cannot listen on 0 \(the address cannot be bound\); give --bind_address"
    ):
        Server(Config(model_base_path=str(base_path), bind_address="0", port=-1, rest_api_port=0))


def test_one_of_two_listeners_fails(base_path):
    """The other one gives its port back."""
    with socket.create_server((HOST, 0)) as taken, socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
        free.close()
        settings = {"port": taken.getsockname()[1], "rest_api_port": port, "bind_address": HOST}
        with pytest.raises(StartError, match=r"gRPC cannot listen on .* choose another --port\."):
            Server(Config(model_base_path=str(base_path), **settings))
        socket.create_server((HOST, port)).close()


def test_both_fronts_on_one_port(model, caplog):
    """As in TensorFlow Serving, gRPC has it."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with running(model, port=port, rest_api_port=port) as server:
        assert (server.grpc_port, server.rest_port) == (port, 0)
    assert "REST is off" in caplog.text


# --- Unix sockets ---


@pytest.mark.parametrize("port", [0, -1])
def test_a_unix_socket(model, tmp_path, port):
    path = tmp_path / "grpc.sock"
    with running(model, grpc_socket_path=str(path), port=port, rest_api_port=0) as server:
        assert status(grpc.insecure_channel(f"unix:{path}")) == [30]
        assert (server.grpc_port > 0) == (port == -1)
    assert not path.exists()


def test_a_socket_left_behind_is_replaced(model, tmp_path):
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with running(model, grpc_socket_path=str(path)):
        assert status(grpc.insecure_channel(f"unix:{path}")) == [30]


def test_a_socket_in_use_stays_its_owners(base_path, tmp_path):
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(path))
        owner.listen()
        with pytest.raises(StartError, match=r"grpc\.sock \(Address already in use\).*another --grpc_socket_path"):
            Server(Config(model_base_path=str(base_path), grpc_socket_path=str(path), port=-1, rest_api_port=0))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("path", ["file", "no/such/folder.sock"])
def test_a_path_no_socket_can_have(base_path, tmp_path, path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StartError, match="gRPC cannot listen on the socket"):
        Server(Config(model_base_path=str(base_path), grpc_socket_path=str(tmp_path / path), port=0, rest_api_port=-1))
    assert (tmp_path / "file").read_text() == "precious"


# --- gRPC's own options ---


def test_channel_arguments_reach_grpc(model):
    """Theirs win over ours."""
    with (
        running(model, grpc_channel_arguments="grpc.max_receive_message_length=3") as server,
        pytest.raises(grpc.RpcError) as refused,
    ):
        status(grpc.insecure_channel(f"{HOST}:{server.grpc_port}"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- TLS ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    """An authority (ca), a server's and a client's certificate signed by it, and a stranger's."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "stranger"):
        make_authority(folder, name)
    for name in ("server", "client"):
        make_certificate(folder, name, f"/CN={name}")
    return folder


def ssl_config(folder, target, key="server.key", cert="server.crt", more=""):
    def quoted(name):
        return (folder / name).read_text().replace("\n", "\\n")

    path = target / "ssl.config"
    path.write_text(f'server_key: "{quoted(key)}"\nserver_cert: "{quoted(cert)}"\n{more}')
    return str(path)


def secure_channel(server, folder, key=None, cert=None):
    read = [(folder / name).read_bytes() if name else None for name in ("ca.crt", key, cert)]
    return grpc.secure_channel(f"{HOST}:{server.grpc_port}", grpc.ssl_channel_credentials(*read))


def test_tls(model, authority, tmp_path):
    with running(model, ssl_config_file=ssl_config(authority, tmp_path)) as server:
        assert status(secure_channel(server, authority)) == [30]
        with pytest.raises(grpc.RpcError) as refused:  # plain text to a port that speaks TLS
            status(grpc.insecure_channel(f"{HOST}:{server.grpc_port}"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with socket.create_connection((HOST, server.grpc_port)):  # a handshake that never comes holds nobody up
            assert status(secure_channel(server, authority)) == [30]
        assert httpx.get(f"http://{HOST}:{server.rest_port}/readyz").status_code == 200  # REST stays plain


@pytest.mark.parametrize(("key", "cert", "is_let_in"), [("client.key", "client.crt", True), (None, None, False),
                                                        ("stranger.key", "stranger.crt", False)])  # fmt: skip
def test_clients_are_verified(model, authority, tmp_path, key, cert, is_let_in):
    ca = (authority / "ca.crt").read_text().replace("\n", "\\n")
    config = ssl_config(authority, tmp_path, more=f'custom_ca: "{ca}"\nclient_verify: true')
    with running(model, ssl_config_file=config) as server:
        if is_let_in:
            assert status(secure_channel(server, authority, key, cert)) == [30]
        else:
            with pytest.raises(grpc.RpcError) as refused:
                status(secure_channel(server, authority, key, cert))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('server_key: "a"', "lacks server_key or server_cert"),
        ('server_key: "a" server_cert: "b" client_verify: true', "sets client_verify without custom_ca"),
        ('server_key: "a" server_cert: "b"', "server_key of --ssl_config_file="),
        ("server_kee: 1", "Error parsing text-format tensorflow.serving.SSLConfig: "),
    ],
)
def test_tls_that_cannot_be(base_path, tmp_path, text, said):
    path = tmp_path / "ssl.config"
    path.write_text(text)
    config = Config(
        model_base_path=str(base_path), port=-1, rest_api_port=0, bind_address=HOST, ssl_config_file=str(path)
    )
    with pytest.raises(StartError) as refused:
        Server(config)
    assert said in str(refused.value)
