"""TLS: the server's certificate, and those of clients; renewed without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from trimtab_server.settings import Settings
from trimtab_server.watched import File, Watched


@dataclass(frozen=True)
class Material:
    """What a server shows of itself, and what it asks of clients."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    expires: float
    """When the first certificate of the chain to expire does, in seconds since 1970."""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.client_ca)


def read_material(files: Sequence[File]) -> Material:
    """The files --tls-cert, --tls-key and perhaps --tls-client-ca, checked to be of use together.

    Raises:
        BrokenFileError: names the file and the rule.
    """
    cert, key, *client_ca = files
    chain = _certificates(cert)
    for ca in client_ca:
        _certificates(ca)
    if _public_key_of(key) != _certified_key(cert, chain[0]):
        raise key.broken(f"is not the key of the certificate in {cert.path}")
    expires = min(each.not_valid_after_utc for each in chain).timestamp()
    return Material(cert.content, key.content, client_ca[0].content if client_ca else None, expires)


def watch_material(
    settings: Settings, now: Callable[[], float], failed: Callable[[], None]
) -> Watched[Material] | None:
    """What the settings name, read now and whenever it changes; None where they ask for no TLS.

    Raises:
        BrokenFileError: a file can't be used.
    """
    named = {"--tls-cert": settings.tls_cert, "--tls-key": settings.tls_key, "--tls-client-ca": settings.tls_client_ca}
    paths = {flag: path for flag, path in named.items() if path is not None}
    return Watched("tls", paths, read_material, now, failed) if paths else None


def server_credentials(watched: Watched[Material]) -> grpc.ServerCredentials:
    """Credentials that show each new connection what the files hold then; connections that are there go on."""
    shown = watched.current
    lock = threading.Lock()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC on a thread of its own before each handshake; None: nothing new."""
        nonlocal shown
        with lock:
            current = watched.current
            if current is shown:
                return None
            shown = current
            return current.configuration()

    return grpc.dynamic_ssl_server_credentials(
        shown.configuration(),
        renewed,  # type: ignore[arg-type]  # its documentation allows None
        require_client_authentication=shown.client_ca is not None,
    )


def _certificates(file: File) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.content)
    except ValueError:
        raise file.broken("must hold certificates in PEM form") from None


def _certified_key(file: File, certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise file.broken("certifies a key of a kind that is not supported") from None


def _public_key_of(file: File) -> bytes:
    try:
        key = load_pem_private_key(file.content, password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        raise file.broken("must hold a private key in PEM form, not encrypted") from None
    except Exception:  # noqa: BLE001  # kinds of key that the library does not know have errors of their own
        raise file.broken("holds a private key of a kind that is not supported") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
