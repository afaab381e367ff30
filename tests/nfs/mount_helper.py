"""The certificate that EFS's mount helper makes for a mount, made by the tests themselves."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

REGION = "us-east-1"
_ARC = "1.3.6.1.4.1.4843.7."
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_UTF8, _OCTETS, _TIME, _SEQUENCE, _TOKEN = 0x0C, 0x04, 0x17, 0x30, 0xA0


@dataclass(frozen=True)
class Credentials:
    key: str
    secret: str
    token: str | None = None


ROOT = Credentials("test", "test")


@dataclass
class Mount:
    """What `mount -t efs -o tls,…` was asked for; the rest is for what nobody should do."""

    file_system: str
    access_point: str | None = None
    credentials: Credentials | None = None
    region: str = REGION
    signed_for: str | None = None
    signed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    begins: timedelta = timedelta(minutes=-15)
    ends: timedelta = timedelta(hours=3)
    another_key: bool = False

    def context(self, directory: Path, authority: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
        """How the helper's tunnel connects; it knows the server by the file system's name."""
        private = _private_key(1)
        files = directory / "client.pem", directory / "client-key.pem"
        files[0].write_text(ssl.DER_cert_to_PEM_cert(self.certificate(private)))
        files[1].write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.create_default_context(cafile=str(authority))
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(*files)
        return context

    @property
    def name(self) -> str:
        return f"{self.file_system}.efs.{self.region}.amazonaws.com"

    def certificate(self, private: rsa.RSAPrivateKey) -> bytes:
        """DER. Its serial number is 0, as the helper's first one is."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a-host")])
        now = datetime.now(UTC)
        subject_key = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
        said = {"3": _tlv(_UTF8, self.file_system.encode())}
        if self.access_point is not None:
            said["1"] = _tlv(_UTF8, self.access_point.encode())
        if self.credentials is not None:
            signed = _private_key(2).public_key() if self.another_key else private.public_key()
            said["2"] = self._authorization(self.credentials, _sha1(signed))
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + self.begins)
            .not_valid_after(now + self.ends)
            .add_extension(subject_key, critical=False)
        )
        for number, value in said.items():
            oid = x509.ObjectIdentifier(_ARC + number)
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        made = builder.sign(private, hashes.SHA256()).tbs_certificate_bytes
        fields = _content(made)
        version = _tlv(_TOKEN, _content(fields))
        rest = fields[len(version) :]
        numbered = _tlv(_SEQUENCE, version + b"\x02\x01\x00" + rest[len(_tlv(2, _content(rest))) :])
        signature = private.sign(numbered, padding.PKCS1v15(), hashes.SHA256())
        return _tlv(_SEQUENCE, numbered + _SHA256_WITH_RSA + _tlv(3, b"\x00" + signature))

    def _authorization(self, credentials: Credentials, key_sha1: str) -> bytes:
        parts = [
            _tlv(_UTF8, credentials.key.encode()),
            _tlv(_OCTETS, self._signature(credentials, key_sha1).encode()),
            _tlv(_TIME, self.signed_at.strftime("%y%m%d%H%M%SZ").encode()),
        ]
        if credentials.token is not None:
            parts.append(_tlv(_TOKEN, _tlv(_UTF8, credentials.token.encode())))
        return _tlv(_SEQUENCE, b"".join(parts))

    def _signature(self, credentials: Credentials, key_sha1: str) -> str:
        moment = self.signed_at.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{moment[:8]}/{self.region}/elasticfilesystem/aws4_request"
        token = f"&X-Amz-Security-Token={quote_plus(credentials.token)}" if credentials.token else ""
        query = (
            f"Action=Connect&PublicKeyHash={key_sha1}&X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Credential={quote_plus(f'{credentials.key}/{scope}')}&X-Amz-Date={moment}"
            f"&X-Amz-Expires=86400{token}&X-Amz-SignedHeaders=host"
        )
        host = self.signed_for or self.file_system
        nothing = hashlib.sha256(b"").hexdigest()
        request = f"GET\n/\n{query}\nhost:{host}\nhost\n{nothing}"
        to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{credentials.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, to_sign.encode(), "sha256").hex()


@cache
def _private_key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _sha1(key: rsa.RSAPublicKey) -> str:
    return hashlib.sha1(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    ).hexdigest()


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + value


def _content(der: bytes) -> bytes:
    """Of the first value."""
    size, head = der[1], 2
    if size & 0x80:
        head += size & 0x7F
        size = int.from_bytes(der[2:head], "big")
    return der[head : head + size]
