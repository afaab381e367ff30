"""Who the server is to clients that want TLS: EFS, by the names of its file systems, in every Region.

An authority of the data directory's own vouches for it; clients trust that (`cafile=` of EFS's mount helper) and
need no other file when the certificate is made anew.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import botocore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lambay.fsd import NfsTls
from lambay.settings import Settings
from lambay.tls import certificate_files, names_of, write_whole

_AUTHORITY_LIFETIME = timedelta(days=3650)
_LIFETIME = timedelta(days=820)
_RENEWED_BEFORE = timedelta(days=30)


def identities(settings: Settings) -> tuple[NfsTls, ...]:
    """The API's own certificate where it has one, and EFS's."""
    files = certificate_files(settings)
    own = () if files is None else (NfsTls(files[0].read_text(), files[1].read_text()),)
    return (*own, of_efs(settings.data_dir / "tls" / "efs", settings.host, settings.region))


def of_efs(directory: Path, host: str, region: str) -> NfsTls:
    """Kept in `directory`; made where it is missing, or does not last, or has not all names.

    `authority.pem` is for clients.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _authority(directory)
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    names = [*names_of(host), *(x509.DNSName(name) for name in _file_systems(region))]
    if not key.exists() or not _stands(certificate, authority[0], names):
        private = ec.generate_private_key(ec.SECP256R1())
        write_whole(key, _pem(private), 0o600)
        write_whole(certificate, _issued(private, names, authority), 0o644)
    return NfsTls(certificate.read_text(), key.read_text())


@cache
def _regions() -> tuple[tuple[str, str], ...]:
    """Every Region with the domain of its hosts."""
    known = json.loads((Path(botocore.__file__).parent / "data" / "partitions.json").read_bytes())
    return tuple(
        (region, partition["outputs"]["dnsSuffix"])
        for partition in known["partitions"]
        for region in partition["regions"]
        if not region.endswith("-global")
    )


def _file_systems(region: str) -> list[str]:
    named = dict(_regions())
    named.setdefault(region, "amazonaws.com")
    return [f"*.efs.{each}.{domain}" for each, domain in sorted(named.items())]


Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _authority(directory: Path) -> Authority:
    certificate, key = directory / "authority.pem", directory / "authority-key.pem"
    if not certificate.exists() or not key.exists():
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lambay EFS")])
        made = (
            _begun(name, name, private, _AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(private, hashes.SHA256())
        )
        write_whole(key, _pem(private), 0o600)
        write_whole(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    private_key = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(certificate.read_bytes()), private_key


def _issued(
    private: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], authority: Authority
) -> bytes:
    issuer, signing = authority
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lambay EFS file systems")])
    made = (
        _begun(name, issuer.subject, private, _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .sign(signing, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _begun(
    subject: x509.Name, issuer: x509.Name, private: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _stands(path: Path, authority: x509.Certificate, names: list[x509.GeneralName]) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(authority)
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # It is made again, whatever is wrong with it.
        return False
    lasts = certificate.not_valid_after_utc > datetime.now(UTC) + _RENEWED_BEFORE
    return lasts and all(name in present for name in names)


def _pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
