"""The socket that the service listens on."""

from __future__ import annotations

import errno
import socket

from intrinsic.errors import ConfigError

_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Take an address; nobody is answered before `listen`. Raises `ConfigError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(
            f"{host!r} is no address that can be listened at ({error}); use 127.0.0.1, 0.0.0.0 or "
            "a name of this machine"
        ) from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise _refused(host, port, error) from None
    return taken


def listen(taken: socket.socket) -> None:
    """Let clients come. Raises `ConfigError` where another process listens there by now."""
    host, port = taken.getsockname()[:2]
    try:
        taken.listen(_BACKLOG)
    except OSError as error:
        raise _refused(host, port, error) from None


def url_of(taken: socket.socket) -> str:
    """Where it listens, for clients on this machine."""
    host, port = taken.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refused(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} of {host} is in use by another process; stop that one, or choose another "
            "with --port (0 takes any free one)"
        )
    return ConfigError(f"nothing can listen at {host}, port {port}: {error.strerror or error}")
