"""TLS on both ports: versions, clients' certificates and their rights, renewal, and what cannot be used."""

from __future__ import annotations

import shutil
import socket
import ssl
import time

import grpc
import httpx
import pytest
from certificates import CLIENT_NAMES, CLIENT_SUBJECT, make_authority, make_certificate
from running import HOST, running

from estimator_serving.serving.access import identity
from estimator_serving.serving.access.key_file import Entry, Right, digest, write_line
from estimator_serving.serving.config import Config, ConfigError
from estimator_serving.serving.server import Server, StartError
from estimator_serving.wire.pb import serving_pb

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
SUBJECT = "CN=client,OU=b+OU=a,O=M\\C3\\BCller\\, S\\C3\\B6hne,C=DE"
ALL = {Right.PREDICT: ("*",), Right.METADATA: ("*",)}


@pytest.fixture
def model(base_path, write_model):
    write_model(1)
    return base_path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """An authority (ca), two certificates of a server, one of a client, and those of another authority."""
    folder = tmp_path_factory.mktemp("pem")
    for name in ("ca", "other-ca"):
        make_authority(folder, name)
    make_certificate(folder, "server", "/CN=server")
    make_certificate(folder, "renewed", "/CN=renewed")
    make_certificate(folder, "client", CLIENT_SUBJECT, CLIENT_NAMES)
    make_certificate(folder, "stranger", "/CN=client", CLIENT_NAMES, "other-ca")
    return folder


@pytest.fixture
def files(made, tmp_path):
    """A server's own files, which a test may change, as settings."""
    for name in ("server.crt", "server.key", "ca.crt"):
        shutil.copy(made / name, tmp_path / name)
    return {"tls_cert_file": str(tmp_path / "server.crt"), "tls_key_file": str(tmp_path / "server.key")}


def renew(folder, made, name):
    for ending in ("crt", "key"):
        shutil.copy(made / f"{name}.{ending}", folder / f"server.{ending}")


def write_ssl_config(folder, made, name, more=""):
    key, certificate = ((made / f"{name}.{ending}").read_text() for ending in ("key", "crt"))
    (folder / "ssl").write_text(f"server_key: {key!r}\nserver_cert: {certificate!r}{more}")


def context_of(made, client=""):
    context = ssl.create_default_context(cafile=made / "ca.crt")
    if client:
        context.load_cert_chain(made / f"{client}.crt", made / f"{client}.key")
    return context


def rest(server, made, path, client="", **more):
    with httpx.Client(verify=context_of(made, client), timeout=20) as http:
        return http.get(f"https://{HOST}:{server.rest_port}{path}", **more)


def rpc(server, made, client="", key=""):
    """The code of GetModelStatus for m."""
    read = [(made / name).read_bytes() for name in ("ca.crt", *([f"{client}.key", f"{client}.crt"] if client else []))]
    metadata = [("x-api-key", key)] if key else None
    request = serving_pb.GetModelStatusRequest(model_spec=serving_pb.ModelSpec(name="m")).SerializeToString()
    with grpc.secure_channel(f"{HOST}:{server.grpc_port}", grpc.ssl_channel_credentials(*read)) as channel:
        try:
            channel.unary_unary(STATUS)(request, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def name_of(port, made):
    """What the server's certificate says, by a new connection."""
    with socket.create_connection((HOST, port), 20) as plain:
        context = context_of(made)
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(plain, server_hostname=HOST) as secure:
            return secure.getpeercert()["subject"][0][0][1]


def test_both_ports(model, files, made):
    with running(model, **files) as server:
        assert rest(server, made, "/readyz").json() == {"status": "ready"}
        assert rpc(server, made) is grpc.StatusCode.OK
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{HOST}:{server.rest_port}/readyz", timeout=20)
        with socket.create_connection((HOST, server.rest_port)):  # a handshake that never comes holds nobody up
            assert rest(server, made, "/readyz").status_code == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(("version", "is_spoken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_versions(model, files, made, version, is_spoken):
    context = context_of(made)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_alpn_protocols(["h2", "http/1.1"])
    with running(model, **files) as server:
        for port in (server.rest_port, server.grpc_port):
            with socket.create_connection((HOST, port), 20) as plain:
                if is_spoken:
                    context.wrap_socket(plain, server_hostname=HOST).close()
                else:
                    with pytest.raises((ssl.SSLError, OSError)):
                        context.wrap_socket(plain, server_hostname=HOST)


def test_a_large_body_and_a_kept_connection(model, files, made):
    with running(model, **files) as server, httpx.Client(verify=context_of(made), timeout=20) as http:
        url = f"https://{HOST}:{server.rest_port}/v1/models/m:predict"
        for count in (1, 100_000, 1):
            answer = http.post(url, json={"instances": [1.0] * count})
            assert answer.json() == {"predictions": [2.0] * count}


def test_a_client_that_stays_silent_does_not_hold_up_the_end(model, files, made):
    server = Server(Config(model_base_path=str(model), port=-1, rest_api_port=-1, bind_address=HOST, **files))
    server.start()
    with (
        socket.create_connection((HOST, server.rest_port)) as plain,
        context_of(made).wrap_socket(plain, server_hostname=HOST),
    ):
        began_s = time.monotonic()
        assert server.stop()
        assert time.monotonic() - began_s < 10


# --- clients' certificates ---


@pytest.mark.parametrize(("client", "is_let_in"), [("client", True), ("stranger", False), ("", False)])
def test_clients_are_verified(model, files, made, client, is_let_in):
    with running(model, **files, tls_client_ca_file=str(made / "ca.crt")) as server:
        if is_let_in:
            assert rest(server, made, "/readyz", client).status_code == 200
        else:
            with pytest.raises(httpx.HTTPError):
                rest(server, made, "/readyz", client)
        assert (rpc(server, made, client) is grpc.StatusCode.OK) is is_let_in


@pytest.mark.parametrize(
    "says",
    ["CN=client", f"SUBJECT:{SUBJECT}", "DNS:client.example", "URI:spiffe://example/client", "EMAIL:c@example.org",
     f"IP:{HOST}"],
)  # fmt: skip
def test_a_certificate_has_rights(model, files, made, tmp_path, says):
    (tmp_path / "keys").write_text(write_line(Entry("client", certificate=says, models=ALL)))
    files |= {"tls_client_ca_file": str(made / "ca.crt"), "auth_file": str(tmp_path / "keys")}
    with running(model, **files) as server:
        assert rest(server, made, "/v1/models/m", "client").status_code == 200
        assert rpc(server, made, "client") is grpc.StatusCode.OK
        assert rest(server, made, "/v1/models/m", "client", headers={"x-api-key": "wrong"}).status_code == 401


def test_a_certificate_without_rights_and_keys_beside_certificates(model, files, made, tmp_path):
    lines = [Entry("other", certificate="CN=other", models=ALL), Entry("key", digest(b"k"), models=ALL)]
    (tmp_path / "keys").write_text("\n".join(map(write_line, lines)))
    files |= {"tls_client_ca_file": str(made / "ca.crt"), "auth_file": str(tmp_path / "keys")}
    with running(model, **files) as server:
        for client in ("client", ""):
            assert rest(server, made, "/v1/models/m", client).status_code == 401
            assert rest(server, made, "/v1/models/m", client, headers={"x-api-key": "k"}).status_code == 200
            assert rest(server, made, "/healthz", client).status_code == 200
        with pytest.raises(httpx.HTTPError):
            rest(server, made, "/healthz", "stranger")
        assert rpc(server, made, "client") is grpc.StatusCode.UNAUTHENTICATED
        assert rpc(server, made, "client", key="k") is grpc.StatusCode.OK


def test_no_certificate_has_no_names():
    assert identity.of_python(None) == identity.of_python({}) == identity.of_grpc({"peer_ip": [b"::1"]}) == []
    subject = ((("commonName", "#a "),), (("userId", ' "b"'),))
    assert identity.of_python({"subject": subject}) == ['SUBJECT:UID=\\ \\"b\\",CN=\\#a\\ ', "CN=#a "]


# --- renewal ---


def test_certificates_are_renewed(model, files, made, tmp_path):
    with running(model, **files) as server, httpx.Client(verify=context_of(made)) as kept:
        url = f"https://{HOST}:{server.rest_port}/readyz"
        assert kept.get(url).status_code == 200
        ports = (server.rest_port, server.grpc_port)
        assert [name_of(port, made) for port in ports] == ["server", "server"]
        renew(tmp_path, made, "renewed")
        server.poll()
        assert [name_of(port, made) for port in ports] == ["renewed", "renewed"]
        assert kept.get(url).status_code == 200


def test_authorities_are_renewed(model, files, made, tmp_path):
    with running(model, **files, tls_client_ca_file=str(tmp_path / "ca.crt")) as server:
        assert rpc(server, made, "client") is grpc.StatusCode.OK
        shutil.copy(made / "other-ca.crt", tmp_path / "ca.crt")
        server.poll()
        assert rpc(server, made, "client") is grpc.StatusCode.UNAVAILABLE
        assert rpc(server, made, "stranger") is grpc.StatusCode.OK
        assert rest(server, made, "/readyz", "stranger").status_code == 200
        with pytest.raises(httpx.HTTPError):
            rest(server, made, "/readyz", "client")


@pytest.mark.parametrize("text", ["", " \n", "# no authority\n"])
def test_authorities_that_are_gone_stay_in_use(model, files, made, tmp_path, caplog, text):
    """An empty file asks for no certificates, so whoever writes it anew would let everybody in for a moment."""
    with running(model, **files, tls_client_ca_file=str(tmp_path / "ca.crt")) as server:
        (tmp_path / "ca.crt").write_text(text)
        server.poll()
        with pytest.raises(httpx.HTTPError):
            rest(server, made, "/readyz")
        assert rest(server, made, "/readyz", "client").status_code == 200
        assert [rpc(server, made, client) for client in ("", "client")] == [
            grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK,
        ]  # fmt: skip
    told = [record.message for record in caplog.records if "stays in force" in record.message]
    assert len(told) == 2
    assert all(f"--tls_client_ca_file={tmp_path / 'ca.crt'} holds no certificate as PEM text" in one for one in told)


def test_a_broken_pair_leaves_the_old_one_in_use(model, files, made, tmp_path, caplog):
    with running(model, **files) as server:
        shutil.copy(made / "renewed.key", tmp_path / "server.key")
        server.poll()
        server.poll()
        assert [name_of(port, made) for port in (server.rest_port, server.grpc_port)] == ["server", "server"]
        shutil.copy(made / "renewed.crt", tmp_path / "server.crt")
        server.poll()
        assert [name_of(port, made) for port in (server.rest_port, server.grpc_port)] == ["renewed", "renewed"]
    told = [record.message for record in caplog.records if "stays in force" in record.message]
    assert len(told) == 2  # for REST and for gRPC
    assert all(f"{files['tls_key_file']} is not the key of --tls_cert_file=" in text for text in told)


def test_an_ssl_config_is_renewed(model, made, tmp_path):
    write_ssl_config(tmp_path, made, "server")
    with running(model, ssl_config_file=str(tmp_path / "ssl")) as server:
        assert name_of(server.grpc_port, made) == "server"
        write_ssl_config(tmp_path, made, "renewed")
        server.poll()
        assert name_of(server.grpc_port, made) == "renewed"
        assert httpx.get(f"http://{HOST}:{server.rest_port}/readyz").status_code == 200  # REST stays plain


@pytest.mark.parametrize("is_asked", [True, False])
def test_whether_clients_need_a_certificate_stays(model, made, tmp_path, caplog, is_asked):
    """gRPC's library takes it once, so a log that says "read again" would be wrong."""
    asks = f"\ncustom_ca: {(made / 'ca.crt').read_text()!r}\nclient_verify: true"
    write_ssl_config(tmp_path, made, "server", asks if is_asked else "")
    with running(model, ssl_config_file=str(tmp_path / "ssl")) as server:
        write_ssl_config(tmp_path, made, "server", "" if is_asked else asks)
        server.poll()
        without = grpc.StatusCode.UNAVAILABLE if is_asked else grpc.StatusCode.OK
        assert [rpc(server, made, client) for client in ("", "client")] == [without, grpc.StatusCode.OK]
    assert "Whether clients need a certificate (client_verify) cannot change" in caplog.text


# --- what cannot be used ---


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("server.key", None, "--tls_key_file={} cannot be read (no such file)"),
        ("server.crt", None, "--tls_cert_file={} cannot be read (no such file)"),
        ("ca.crt", None, "--tls_client_ca_file={} cannot be read (no such file)"),
        ("server.key", "", "--tls_key_file={} holds no private key"),
        ("server.crt", "key", "--tls_cert_file={} holds no certificate"),
        ("ca.crt", "key", "--tls_client_ca_file={} holds no certificate"),
        ("ca.crt", "", "--tls_client_ca_file={} holds no certificate"),
        ("ca.crt", "\n", "--tls_client_ca_file={} holds no certificate"),
        ("server.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----", "--tls_key_file={} is encrypted with a password"),
        ("server.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
         "--tls_cert_file={} holds a certificate that is broken"),
        ("server.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
         "--tls_key_file={} cannot be used with"),
        ("server.key", "other", "--tls_key_file={} is not the key of --tls_cert_file="),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(base_path, files, made, tmp_path, name, text, said):
    if text is None:
        (tmp_path / name).unlink()
    else:
        texts = {"key": "server.key", "other": "client.key"}
        (tmp_path / name).write_text((made / texts[text]).read_text() if text in texts else text)
    files |= {"model_base_path": str(base_path), "tls_client_ca_file": str(tmp_path / "ca.crt"), "bind_address": HOST}
    with pytest.raises(StartError) as refused:
        Server(Config(port=-1, rest_api_port=-1, **files))
    assert f"Failed to start server. Error: {said.format(tmp_path / name)}" in str(refused.value)


@pytest.mark.parametrize("given", [["tls_cert_file"], ["tls_key_file"], ["tls_client_ca_file"]])
def test_files_that_need_each_other(given):
    with pytest.raises(ConfigError, match="TLS needs --tls_cert_file and --tls_key_file"):
        Config(model_base_path="m", **dict.fromkeys(given, "f"))
