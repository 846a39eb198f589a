"""A Dask scheduler as an executor: mutual TLS, or plain TCP on this machine only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from mihc.errors import ResourceError, UsageError


@contextmanager
def connect(
    scheduler: str,
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    allow_insecure: bool = False,
) -> Iterator[Executor]:
    """Connect to a running Dask scheduler and give its `concurrent.futures` executor.

    Parameters
    ----------
    scheduler
        "tls://HOST:PORT" with the three PEM files, or "tcp://HOST:PORT" where HOST is this machine.
    ca, certificate, key
        The certificate authority, this client's certificate and its key.
    allow_insecure
        Accept tcp:// to another host: whoever reaches that port can run code there.

    Raises
    ------
    UsageError
        When the address is not safe or cannot be read, or when Dask is not installed.
    ResourceError
        When the scheduler does not answer.
    """
    address = _checked(scheduler, (ca, certificate, key), allow_insecure)
    try:
        from distributed import Client, Security
    except ImportError:
        raise UsageError("Dask is not installed", fix="Type: pip install 'mihc[dask]'") from None
    security = None
    if address.scheme == "tls":
        security = Security(
            tls_ca_file=str(ca), tls_client_cert=str(certificate), tls_client_key=str(key), require_encryption=True
        )
    try:
        client = Client(scheduler, security=security, timeout="30s", set_as_default=False)
    except OSError as error:
        raise ResourceError(f"the scheduler at {scheduler} does not answer ({error})", fix="Is it running?") from None
    with client:
        yield client.get_executor(pure=False)


def _checked(scheduler: str, files: tuple[Path | None, ...], allow_insecure: bool) -> SplitResult:
    address = urlsplit(scheduler)
    if address.scheme not in ("tls", "tcp") or not address.hostname:
        raise UsageError(f"--scheduler {scheduler!r} is no address", fix="Write tls://HOST:PORT.")
    if address.scheme == "tls" and None in files:
        raise UsageError("tls:// needs certificates", fix="Add --tls-ca, --tls-cert and --tls-key, three PEM files.")
    if address.scheme == "tcp" and not _is_loopback(address.hostname) and not allow_insecure:
        raise UsageError(
            f"{scheduler} is not encrypted: anyone on that network could run code on your workers",
            fix="Use tls://, or add --allow-insecure when you are sure.",
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
