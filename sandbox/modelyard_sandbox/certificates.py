"""The sandbox's own certificate authority: webhooks need certificates; cert-manager is three pods more."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

#: Certificates are valid for a year, the authority for ten; both are made anew a month before they end.
_YEAR = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)


def make_authority(name: str) -> tuple[str, str]:
    """A new authority.

    Args:
        name: its common name.

    Returns:
        Certificate and private key as PEM.
    """
    key = _new_key()
    return _pem(_signed(name, [], key, key, name, 10 * _YEAR), key)


def make_certificate(authority: str, authority_key: str, names: list[str]) -> tuple[str, str]:
    """A serving certificate for DNS names.

    Returns:
        Certificate and private key as PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    issuer = x509.load_pem_x509_certificate(authority.encode())
    signing_key = load_pem_private_key(authority_key.encode(), None)
    issued_by = str(issuer.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    key = _new_key()
    # A common name holds 64 characters at most; what counts are the alternative names.
    return _pem(_signed(names[0][:64], names, key, signing_key, issued_by, _YEAR), key)


def is_current(pem: str) -> bool:
    """Whether a certificate is valid, and will be for another month."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem.encode())
    return datetime.now(timezone.utc) + RENEW_BEFORE < certificate.not_valid_after_utc


def is_issued_by(pem: str, authority: str) -> bool:
    """Whether the authority signed the certificate."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    issuer = x509.load_pem_x509_certificate(authority.encode())
    try:
        x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed(name: str, names: list[str], key: Any, signing_key: Any, issuer: str, valid: timedelta) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    authority = not names
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of virtual machines lag after sleep
        .not_valid_after(now + valid)
        .add_extension(
            x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True
        )
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(given) for given in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: Any, key: Any) -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization as form

    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return certificate.public_bytes(form.Encoding.PEM).decode(), private.decode()
