"""What the certificate says with which EFS's mount helper (`amazon-efs-utils`) connects. Pure: bytes in, values out.

The client makes it itself, for at most a few hours; its extensions tell the file system, the access point and, mounted
with `iam`, who connects, signed with an access key for the certificate's own key. That the client holds that key
was proven in the handshake.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.utils import CryptographyDeprecationWarning

# As the mount helper names its extensions.
ACCESS_POINT = x509.ObjectIdentifier("1.3.6.1.4.1.4843.7.1")
AUTHORIZATION = x509.ObjectIdentifier("1.3.6.1.4.1.4843.7.2")
FILE_SYSTEM = x509.ObjectIdentifier("1.3.6.1.4.1.4843.7.3")


@asn1.sequence
class Authorization:
    """The extension `AUTHORIZATION`. `signature` is in hexadecimal digits; `session_token` of temporary keys."""

    access_key_id: str
    signature: bytes
    signed_at: asn1.UTCTime
    session_token: Annotated[str | None, asn1.Explicit(0)] = None


@dataclass(frozen=True, slots=True)
class ConnectionSignature:
    """Who connects, on his word: for `identity` to judge, which says what the fields are."""

    access_key_id: str
    signature: str
    signed_at: datetime
    session_token: str | None
    public_key_sha1: str
    host: str


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`signature` is None for a client that does not say who it is: the anonymous principal."""

    file_system: str
    access_point: str | None
    signature: ConnectionSignature | None
    begins: datetime
    ends: datetime

    def lasts_at(self, seconds: float) -> bool:
        """Whether it is valid then, in seconds since the epoch."""
        return self.begins <= datetime.fromtimestamp(seconds, UTC) <= self.ends


def read(der: bytes) -> ClientCertificate | None:
    """None for a certificate that is not of EFS's making. Raises ValueError where it cannot be read."""
    with warnings.catch_warnings():
        # The mount helper numbers its certificates from 0, which RFC 5280 does not allow.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        certificate = x509.load_der_x509_certificate(der)
    said = {
        extension.oid: extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    if FILE_SYSTEM not in said:
        return None
    file_system = asn1.decode_der(str, said[FILE_SYSTEM])
    access_point = said.get(ACCESS_POINT)
    authorization = said.get(AUTHORIZATION)
    return ClientCertificate(
        file_system,
        None if access_point is None else asn1.decode_der(str, access_point),
        None if authorization is None else _signature(certificate, authorization, file_system),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _signature(certificate: x509.Certificate, extension: bytes, file_system: str) -> ConnectionSignature:
    said = asn1.decode_der(Authorization, extension)
    key = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return ConnectionSignature(
        access_key_id=said.access_key_id,
        signature=said.signature.decode("ascii"),
        signed_at=said.signed_at.as_datetime(),
        session_token=said.session_token,
        public_key_sha1=key.digest.hex(),
        host=file_system,
    )
