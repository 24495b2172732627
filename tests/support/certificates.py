"""Certificates of an authority made up for a test, by the openssl command."""

import subprocess
from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
# What a client is called: with every character that has to be escaped somewhere.
CLIENT_SUBJECT = "/C=DE/O=Müller, Söhne/OU=a+OU=b/CN=client"
NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"
CLIENT_NAMES = "subjectAltName=IP:127.0.0.1,DNS:client.example,URI:spiffe://example/client,email:c@example.org"


def openssl(*words, folder):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)


def make_authority(folder: Path, name: str) -> None:
    """name.crt and name.key, signed by itself."""
    files = ["-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}"]
    openssl("req", "-x509", *_KEY, *files, folder=folder)


def make_certificate(
    folder: Path, name: str, subject: str, names: str = NAMES, authority: str = "ca", days: int = 2
) -> None:
    """name.crt and name.key, signed by an authority of this folder. days: a negative number makes an expired one."""
    (folder / "names").write_text(names)
    openssl("req", *_KEY, "-utf8", "-multivalue-rdn", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject,
            folder=folder)  # fmt: skip
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key",
            "-days", str(days),
            "-CAcreateserial", "-extfile", "names", "-out", f"{name}.crt", folder=folder)  # fmt: skip
