"""HTTPS on the API's socket: a certificate of one's own, or one that is made and kept in the data directory."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lambay.settings import Settings

# What clients accept of a certificate; RFC 5280, and browsers' limit of 825 days for private ones.
_LIFETIME = timedelta(days=820)
_RENEWED_BEFORE = timedelta(days=30)


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """How to serve TLS; None where the settings want none.

    Raises OSError or ValueError naming the certificate or key that cannot be used.
    """
    files = certificate_files(settings)
    if files is None:
        return None
    certificate, key = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls: {certificate} with key {key} cannot be used: {error}") from None
    return context


def certificate_files(settings: Settings) -> tuple[Path, Path] | None:
    """The certificate chain and its key; None where the settings want no TLS."""
    if settings.tls == "off":
        return None
    if settings.tls == "generated":
        return generated(settings.data_dir / "tls", settings.host)
    assert settings.tls_cert is not None
    assert settings.tls_key is not None
    return settings.tls_cert, settings.tls_key


def generated(directory: Path, host: str) -> tuple[Path, Path]:
    """Certificate and key in `directory`, made where there are none for this host that last.

    The certificate is its own authority: clients trust it by name, `AWS_CA_BUNDLE` or boto3's `verify`.
    """
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    if not _serves(certificate, host) or not key.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        made, private = _make(host)
        write_whole(key, private, 0o600)
        write_whole(certificate, made, 0o644)
    return certificate, key


def _serves(path: Path, host: str) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    lasts = certificate.not_valid_after_utc > datetime.now(UTC) + _RENEWED_BEFORE
    return lasts and all(name in names for name in names_of(host))


def _make(host: str) -> tuple[bytes, bytes]:
    """A certificate for the host's names and addresses, signed by its own key, both as PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lambay")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    subject_key = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names_of(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(subject_key, critical=False)
        .sign(private, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def names_of(host: str) -> list[x509.GeneralName]:
    """Loopback and this machine by name, and the address that is listened on."""
    addresses = {"127.0.0.1", "::1"}
    names = {"localhost", socket.gethostname()}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names.add(host)
    else:
        if not address.is_unspecified:
            addresses.add(str(address))
        else:
            addresses.update(_own_addresses(names))
    return [
        *(x509.DNSName(each) for each in sorted(names)),
        *(x509.IPAddress(ipaddress.ip_address(each)) for each in sorted(addresses)),
    ]


def _own_addresses(names: set[str]) -> set[str]:
    """What this machine's own name leads to."""
    found: set[str] = set()
    for name in names:
        try:
            found.update(str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(name, None))
        except OSError:
            continue
    return found


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others on the way."""
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
