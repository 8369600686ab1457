"""What the caller shows of itself: token, client certificate, and the files that they are in."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from trimtab.cli.doctor_certificates import check_dates, read_own
from trimtab.cli.doctor_findings import Finding, attempt, ok, warning, wrong
from trimtab.credentials import Credentials

_OTHERS_READ = 0o044
"""Group and everyone."""


def wants_tls(secure: dict[str, Any]) -> bool:
    """Whether these options ask for TLS; each of them does but the token."""
    return any(value for name, value in secure.items() if name != "token")


def check_credentials(target: str, secure: dict[str, Any], token_file: Path | None) -> Iterator[Finding]:
    """The files that the options name, each by itself; `secure` as `Client` takes it."""
    if token_file is not None:
        yield _check_token(target, secure, token_file)
    if (secure["cert"] is None) != (secure["key"] is None):
        yield wrong("your cert", "--cert and --key belong together, and there is one alone", "give both")
    elif secure["cert"] is not None:
        yield _check_own_certificate(secure["cert"], secure["key"])
        if _is_open(secure["key"]):
            yield _open_file("key", secure["key"])


def _check_token(target: str, secure: dict[str, Any], file: Path) -> Finding:
    # Without the other files, whose faults are told in lines of their own
    credentials = partial(Credentials, target, tls=wants_tls(secure), token=secure["token"])
    found = attempt("token", target, lambda: credentials().metadata())
    if isinstance(found, Finding):
        return found
    return _open_file("token", file) if _is_open(file) else ok("token", f"{file} holds one, for its owner alone")


def _is_open(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & _OTHERS_READ)
    except OSError:
        return False


def _open_file(check: str, file: Path) -> Finding:
    mode = file.stat().st_mode & 0o777
    return warning(check, f"{file} can be read by others than its owner (mode {mode:04o})", f"chmod 600 {file}")


def _check_own_certificate(cert: Path, key: Path) -> Finding:
    check = "your cert"
    try:
        return check_dates(check, read_own(cert, key), f"write a new one to {cert} and {key}")
    except ssl.SSLError as error:
        return wrong(check, *_explain(error, cert, key))
    except OSError as error:
        return wrong(check, f"{error.filename or f'{cert} or {key}'} can't be read: {error.strerror}", "check the path")
    except (ValueError, KeyError):
        return wrong(check, f"{cert} holds no certificate in PEM form", "check --cert")


def _explain(error: ssl.SSLError, cert: Path, key: Path) -> tuple[str, str]:
    reason = error.reason or str(error)
    if "MISMATCH" in reason:
        return f"{key} is not the key of the certificate in {cert}", "give the two that were made together"
    if "PURPOSE" in str(error).upper():
        return f"{cert} is not meant for clients", "have one issued with the extended key usage clientAuth"
    if b"ENCRYPTED" in key.read_bytes():
        return f"{key} is encrypted, which gRPC can't read", f"openssl pkey -in {key} -out FILE writes it in the clear"
    return f"{cert} and {key} can't be used ({reason})", "both must be in PEM form"
