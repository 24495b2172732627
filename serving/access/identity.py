"""What a client's certificate says, in the words of the file of keys, whichever library read the certificate.

Owns these words: CN=, DNS:, URI:, EMAIL:, IP:, and SUBJECT: for the whole name as OpenSSL writes it by RFC 2253, the
last part first. The certificate has been verified by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# gRPC's properties of a connection.
_PROPERTIES = (
    ("x509_subject", "SUBJECT:"),
    ("peer_uri", "URI:"),
    ("peer_dns", "DNS:"),
    ("peer_email", "EMAIL:"),
    ("peer_ip", "IP:"),
    ("x509_common_name", "CN="),
)
# Python's names.
_ALTERNATIVES = (("URI", "URI:"), ("DNS", "DNS:"), ("email", "EMAIL:"), ("IP Address", "IP:"))
_COMMON_NAME = "commonName"
# The parts of a name that have a short form.
_SHORT = {
    _COMMON_NAME: "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "domainComponent": "DC",
    "userId": "UID",
    "streetAddress": "street",
    "surname": "SN",
    "givenName": "GN",
}


def of_grpc(properties: Mapping[str, Sequence[bytes]]) -> list[str]:
    """The names in the properties of a gRPC connection; none if its client has no certificate."""
    if "x509_pem_cert" not in properties:
        return []
    return [
        prefix + value.decode(errors="replace") for name, prefix in _PROPERTIES for value in properties.get(name, ())
    ]


def of_python(certificate: Mapping[str, Any] | None) -> list[str]:
    """The names in a certificate as Python's ssl describes it; none where there is none."""
    if not certificate:
        return []
    parts = certificate.get("subject", ())
    whole = ",".join(
        "+".join(f"{_SHORT.get(k, k)}={_escape(v)}" for k, v in reversed(part)) for part in reversed(parts)
    )
    alternatives = certificate.get("subjectAltName", ())
    return [
        f"SUBJECT:{whole}",
        *(prefix + value for kind, prefix in _ALTERNATIVES for name, value in alternatives if name == kind),
        *(f"CN={value}" for part in parts for name, value in part if name == _COMMON_NAME),
    ]


def _escape(value: str) -> str:
    """A value of a name as OpenSSL prints it by RFC 2253: whatever is not plain ASCII as bytes in hexadecimal."""
    text = "".join(
        f"\\{character}"
        if character in ',+"\\<>;'
        else character
        if " " <= character <= "~"
        else "".join(f"\\{byte:02X}" for byte in character.encode())
        for character in value
    )
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if value.endswith(" ") and len(value) > 1 else text
