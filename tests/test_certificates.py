"""Certificates that sign: the user's, with everything that can be wrong with them, and this machine's own."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest.mock import patch

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from talkinghead import certificates
from talkinghead.certificates import (
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    credentials,
    local_certificate_path,
    make_test_certificate,
)
from talkinghead.errors import CertificateError


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that is not there yet, and no variables."""
    for variable in (CERTIFICATE_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def saved(folder: Path, name: str, pem: bytes) -> Path:
    (folder / name).write_bytes(pem)
    return folder / name


def issued(private: PrivateKeyTypes, days: tuple[int, int] = (-1, 30)) -> bytes:
    """PEM of a certificate for a key by an authority of its own, valid for these days from now."""
    authority = ec.generate_private_key(ec.SECP256R1())
    now, name = datetime.now(timezone.utc), x509.Name.from_rfc4514_string("CN=Studio Ü,O=Studio")
    issuer = x509.Name.from_rfc4514_string("CN=Authority,O=Authority")
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(issuer, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days[0]))
        .not_valid_after(now + timedelta(days[1]))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **uses), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def pem_of(private: PrivateKeyTypes, kind: PrivateFormat = PrivateFormat.PKCS8, secret: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    return private.private_bytes(Encoding.PEM, kind, encryption)


KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_kinds_of_keys(clean: Path, algorithm: str) -> None:
    private = KEYS[algorithm]()
    found = credentials(saved(clean, "chain.pem", issued(private)), saved(clean, "key.pem", pem_of(private)))
    assert found.algorithm == algorithm and found.subject.startswith("Studio Ü, valid until ") and not found.note
    assert found.key == pem_of(private) and not local_certificate_path().exists()


def test_a_key_as_openssl_writes_it(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = KEYS["es256"]()
    key = saved(clean, "key.pem", pem_of(private, PrivateFormat.TraditionalOpenSSL))
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(saved(clean, "chain.pem", issued(private))))
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    assert credentials().key == pem_of(private), "as the C2PA library reads it"


def test_what_is_given_comes_before_the_environment(clean: Path, signing_certificate: Path) -> None:
    private = KEYS["es256"]()
    chain, key = saved(clean, "chain.pem", issued(private)), saved(clean, "key.pem", pem_of(private))
    with pytest.MonkeyPatch.context() as patched:
        for variable in (CERTIFICATE_VARIABLE, KEY_VARIABLE):
            patched.setenv(variable, str(signing_certificate))
        assert credentials(chain, key).subject.startswith("Studio")
        assert not credentials().subject.startswith("Studio")


FAULTS = {
    "--certificate is given without --key": lambda chain, key, folder: (chain, None),
    "--key is given without --certificate": lambda chain, key, folder: (None, key),
    "nowhere.pem cannot be read": lambda chain, key, folder: (folder / "nowhere.pem", key),
    "key.pem holds no certificate": lambda chain, key, folder: (key, key),
    "chain.pem holds no private key": lambda chain, key, folder: (chain, chain),
    "noise.pem holds no certificate": lambda chain, key, folder: (saved(folder, "noise.pem", bytes(99)), key),
    "is not the key of the first certificate": lambda chain, key, folder: (
        chain, saved(folder, "other.pem", pem_of(KEYS["es256"]())),
    ),
    "is encrypted: decrypt it": lambda chain, key, folder: (
        chain, saved(folder, "locked.pem", pem_of(KEYS["es256"](), secret=b"secret")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("complaint", FAULTS)
def test_what_can_be_wrong(clean: Path, complaint: str) -> None:
    private = KEYS["es256"]()
    chain, key = saved(clean, "chain.pem", issued(private)), saved(clean, "key.pem", pem_of(private))
    with pytest.raises(CertificateError, match=complaint) as raised:
        credentials(*FAULTS[complaint](chain, key, clean))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)], ids=["expired", "not-yet"])
def test_a_certificate_of_another_time(clean: Path, days: tuple[int, int]) -> None:
    private = KEYS["es256"]()
    with pytest.raises(CertificateError, match=r"is valid from .* renew it"):
        credentials(saved(clean, "chain.pem", issued(private, days)), saved(clean, "key.pem", pem_of(private)))


@pytest.mark.parametrize(
    "make", [lambda: dsa.generate_private_key(2048), lambda: ec.generate_private_key(ec.SECP256K1())], ids=["dsa", "k1"]
)
def test_kinds_that_c2pa_does_not_know(clean: Path, make: Callable[[], PrivateKeyTypes]) -> None:
    private = make()
    with pytest.raises(CertificateError, match="C2PA does not know"):
        credentials(saved(clean, "chain.pem", issued(private)), saved(clean, "key.pem", pem_of(private)))


def test_this_machines_own_is_made_once_and_only_its_owner_may_read_it(clean: Path) -> None:
    first = credentials()
    path = local_certificate_path()
    assert path.is_relative_to(clean / "cache") and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert credentials() == first and "others do not know" in first.note and first.algorithm == "es256"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    path.write_bytes(b"damaged")
    assert credentials().chain != first.chain


def test_this_machines_own_is_made_anew_when_it_expires(clean: Path) -> None:
    with patch.object(certificates, "TEST_DAYS", 0):
        local_certificate_path().parent.mkdir(parents=True)
        local_certificate_path().write_bytes(make_test_certificate())
    with pytest.raises(CertificateError, match="renew it"):
        credentials(local_certificate_path(), local_certificate_path())
    assert credentials() == credentials()


def test_a_cache_that_cannot_be_written(clean: Path) -> None:
    (clean / "cache").write_text("a file, and no folder")
    found = credentials()
    assert "cannot be kept in" in found.note and found.algorithm == "es256"
