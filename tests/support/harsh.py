"""A server process in bad surroundings, and clients that have what it asks of them. Imports no server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading

import grpc
import numpy as np
from attacked import HOST, PREDICT, WAIT_S
from certificates import make_authority, make_certificate
from hostile_models import GATHER, write
from served import free_ports
from tfs_requests import predict

ROWS_MAX = 8


class Harsh:
    """A server process with 64 open files at most, no HOME, a full disk under its access log and its standard output,
    a socket that another left behind; it batches, speaks TLS with clients that have a certificate, and asks for keys.
    """

    def __init__(self, folder):
        self.folder, (self.port, self.grpc_port) = folder, free_ports(2)
        make_authority(folder, "ca")
        make_authority(folder, "stranger")
        make_certificate(folder, "server", "/CN=server")
        make_certificate(folder, "client", "/CN=client")
        make_certificate(folder, "expired", "/CN=client", days=-1)
        make_certificate(folder, "strange", "/CN=client", authority="stranger")
        write(folder / "gather", 1, GATHER)
        (folder / "batching").write_text(f"max_batch_size {{ value: {ROWS_MAX} }} num_batch_threads {{ value: 1 }}")
        every = {"predict": ["*"], "metadata": ["*"]}
        self.key = self.add_key("all", **every, metrics=True)
        self.blind = self.add_key("blind", predict=["nothing"])
        self.late = self.add_key("late", **every, expires="2020-01-01")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(folder / "socket"))
        flags = {
            "port": self.grpc_port, "rest_api_port": self.port, "bind_address": HOST, "model_name": "gather",
            "model_base_path": folder / "gather", "enable_batching": True,
            "batching_parameters_file": folder / "batching",
            "auth_file": folder / "keys", "tls_cert_file": folder / "server.crt", "tls_key_file": folder / "server.key",
            "tls_client_ca_file": folder / "ca.crt", "access_log": "/dev/full", "grpc_socket_path": folder / "socket",
        }  # fmt: skip
        command = [sys.executable, "-m", "estimator_serving.cli", "serve", *(f"--{k}={v}" for k, v in flags.items())]
        home = {key: value for key, value in os.environ.items() if key not in ("HOME", "TMPDIR", "USER", "LOGNAME")}
        with open("/dev/full", "w") as full:
            self.process = subprocess.Popen(
                command, stdout=full, stderr=subprocess.PIPE, env=home, preexec_fn=lambda: self.limit()
            )
        self.said = []
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self._reader.start()
        roots = (folder / "ca.crt").read_bytes()
        credentials = grpc.ssl_channel_credentials(
            roots, *((folder / f"client.{x}").read_bytes() for x in ("key", "crt"))
        )
        self.channel = grpc.secure_channel(f"{HOST}:{self.grpc_port}", credentials)

    @staticmethod
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def add_key(self, name, **rights):
        """Add a line to the file of keys; returns the key."""
        key = f"key-of-{name}"
        line = {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **rights}
        with open(self.folder / "keys", "a") as file:
            file.write(json.dumps(line) + "\n")
        return key

    def close(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    def context(self, certificate="client"):
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        if certificate:
            context.load_cert_chain(self.folder / f"{certificate}.crt", self.folder / f"{certificate}.key")
        return context

    def talk(self, content, certificate="client"):
        """An answer over TLS; raises OSError where the handshake fails."""
        with (
            socket.create_connection((HOST, self.port), timeout=WAIT_S) as plain,
            self.context(certificate).wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(content)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received

    def ask(self, rows, key=None, header="Authorization: Bearer"):
        """The status of a request with these rows, and its body."""
        body = json.dumps({"instances": rows}).encode()
        authorization = f"{header} {self.key if key is None else key}\r\n".encode() if key != "" else b""
        head = b"POST /v1/models/gather:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + authorization
        answer = self.talk(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

    def is_answering(self):
        assert self.process.poll() is None, b"".join(self.said).decode()
        with contextlib.suppress(OSError):
            return self.ask([0])[0] == 200

    def call(self, rows, key=None, method=PREDICT):
        """The code of a call with these rows."""
        metadata = [("authorization", f"Bearer {self.key if key is None else key}")] if key != "" else None
        payload = predict("gather", i=np.array(rows, np.int64)).SerializeToString()
        error = self.channel.unary_unary(method).future(payload, timeout=WAIT_S, metadata=metadata).exception()
        return grpc.StatusCode.OK if error is None else error.code()
