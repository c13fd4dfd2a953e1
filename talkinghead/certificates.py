"""Who signs the mark of AI-generated media: the user's certificate, or a test certificate of this machine."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from talkinghead.errors import CertificateError

CERTIFICATE_VARIABLE, KEY_VARIABLE = "TALKINGHEAD_CERTIFICATE", "TALKINGHEAD_KEY"
TEST_ISSUER = "talkinghead test certificate"
TEST_DAYS = 3650
LARGEST_PEM = 1 << 20
C2PA_CLAIM_SIGNING = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
"""Extended key usage of certificates that sign C2PA claims (C2PA 2.x, "Certificate profiles")."""
OWN_CERTIFICATE = f"--certificate and --key, or {CERTIFICATE_VARIABLE} and {KEY_VARIABLE}, name your own"
TEST_NOTE = (
    f"the video is signed with a test certificate of this machine, whose signer others do not know: {OWN_CERTIFICATE}"
)
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Credentials:
    """What signs."""

    chain: bytes
    """PEM: the signer's certificate, then those of its issuers."""
    key: bytes
    """PEM (PKCS #8), not encrypted."""
    algorithm: str
    """C2PA's name of the signature: es256, es384, es512, ps256 or ed25519."""
    subject: str
    """Who signs, and until when the certificate is valid."""
    note: str = ""
    """What the user should know."""


def credentials(certificate: Path | None = None, key: Path | None = None) -> Credentials:
    """The user's certificate and key, as given here or else in the environment; with neither, this machine's own.

    Raises:
        CertificateError: only one of the two is given, one is not there or is no PEM file, the key is encrypted, of
            another certificate or of a kind that C2PA does not know, or the certificate is not valid now.
    """
    certificate = certificate or _from_environment(CERTIFICATE_VARIABLE)
    key = key or _from_environment(KEY_VARIABLE)
    if certificate is None and key is None:
        return _local_credentials()
    if certificate is None or key is None:
        given, lacking = ("--key", "--certificate") if certificate is None else ("--certificate", "--key")
        raise CertificateError(
            f"{given} is given without {lacking}: give both, or set {CERTIFICATE_VARIABLE} and {KEY_VARIABLE}"
        )
    return _checked(certificate, _read(certificate), key, _read(key))


def local_certificate_path() -> Path:
    """Where this machine's test certificate and its key are kept, once they are made."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "talkinghead" / "test-certificate.pem"


def make_test_certificate() -> bytes:
    """PEM: a key for ES256, its certificate, and that of the issuer, whose key nobody keeps."""
    now = datetime.now(timezone.utc)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (_name(name) for name in (TEST_ISSUER + " (issuer)", TEST_ISSUER))

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey, is_authority: bool) -> x509.Certificate:
        uses = {"key_cert_sign": is_authority, "crl_sign": is_authority, "digital_signature": not is_authority}
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        unused = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
        builder = (
            x509.CertificateBuilder(issuer, name, public, x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))  # clocks differ
            .not_valid_after(now + timedelta(days=TEST_DAYS))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.KeyUsage(**uses, **unused), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if not is_authority:
            usages = [C2PA_CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(authority_key, hashes.SHA256())

    chain = (certificate(subject, key.public_key(), False), certificate(issuer, authority_key.public_key(), True))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + b"".join(item.public_bytes(Encoding.PEM) for item in chain)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, TEST_ISSUER),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _local_credentials() -> Credentials:
    """This machine's own, made and kept if there are none that are still valid."""
    path = local_certificate_path()
    note = TEST_NOTE
    try:
        pem = path.read_bytes()
        found = _checked(path, pem, path, pem)
    except (OSError, CertificateError):
        pem = make_test_certificate()
        try:
            _keep(path, pem)
        except OSError as error:
            note += f" (it cannot be kept in {path}: {error.strerror})"
        found = _checked(path, pem, path, pem)
    return Credentials(found.chain, found.key, found.algorithm, found.subject, note)


def _keep(path: Path, pem: bytes) -> None:
    """Writes a file that only its owner may read, as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{secrets.token_hex(6)}.pem")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_PEM)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read ({error.strerror}): give a PEM file") from error


def _checked(certificate: Path, chain: bytes, key: Path, secret: bytes) -> Credentials:
    """
    Raises:
        CertificateError: see `credentials`.
    """
    try:
        signer, *issuers = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise CertificateError(f"{certificate} holds no certificate: give a PEM file with the whole chain") from error
    try:
        private = load_pem_private_key(secret, None)
    except TypeError as error:
        raise CertificateError(
            f"{key} is encrypted: decrypt it (openssl pkey -in {key} -out plain.pem), readable by you alone"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{key} holds no private key: give it as a PEM file") from error
    if private.public_key() != signer.public_key():
        raise CertificateError(
            f"{key} is not the key of the first certificate in {certificate}, which has to be the signer's"
        )
    now, first, last = datetime.now(timezone.utc), signer.not_valid_before_utc, signer.not_valid_after_utc
    if not first <= now <= last:
        raise CertificateError(
            f"{certificate} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, and today is {now:%Y-%m-%d}: renew it"
        )
    names = signer.subject.get_attributes_for_oid(NameOID.COMMON_NAME) or list(signer.subject)
    subject = f"{names[0].value if names else 'nobody'}, valid until {last:%Y-%m-%d}"
    chain = b"".join(item.public_bytes(Encoding.PEM) for item in (signer, *issuers))
    plain = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Credentials(chain, plain, _algorithm(private, key), subject)


def _algorithm(private: PrivateKeyTypes, path: Path) -> str:
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise CertificateError(f"{path} is of a kind that C2PA does not know: use ES256, ES384, ES512, PS256 or Ed25519")
