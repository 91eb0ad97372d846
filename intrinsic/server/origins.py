"""Which web pages may ask: none, unless their origin is configured."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from intrinsic.config.server_options import ServerOptions, is_loopback
from intrinsic.server.envelope import ApiError


class Origins:
    """Where no key is asked for, what a browser was made to send is told from what a user sent.

    A page of a name that resolves to this machine (DNS rebinding) gives itself away by its `Host`,
    any other page by its `Origin`, or, where it only fetches a picture or the like, by what its
    browser says of the fetch. Following a link is no page's doing, but a user's.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._open = not options.auth
        self._known = frozenset(options.cors_origins)

    def check(self, headers: Headers) -> None:
        """Raise a 403 for a request that a foreign web page made."""
        if not self._open:
            return
        host = headers.get("host", "")
        if not _is_here(f"//{host}"):
            raise ApiError(
                403,
                "without keys only requests to this machine by its own name are answered; ask "
                "http://127.0.0.1 or http://localhost",
            )
        origin = headers.get("origin")
        if origin is None:
            mode = headers.get("sec-fetch-mode", "")
            foreign = headers.get("sec-fetch-site") == "cross-site" and mode != "navigate"
        else:
            foreign = origin not in self._known and not _is_here(origin)
        if foreign:
            raise ApiError(
                403,
                "without keys no web page of another origin is answered; name it in "
                "server.cors_origins",
            )


def _is_here(url: str) -> bool:
    """Whether a URL names this machine."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return is_loopback(name)
