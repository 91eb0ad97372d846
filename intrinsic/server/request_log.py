"""One line for every request; never a key, a prompt or an answer."""

from __future__ import annotations

import logging

from starlette.types import Scope

from intrinsic.server.account import Account

logger = logging.getLogger("intrinsic.requests")


def log_request(scope: Scope, account: Account, status: int) -> None:
    """Log a request that was answered; queries are left out, as some put keys into them."""
    fields: dict[str, object] = {
        "request_id": account.request_id,
        "method": scope["method"],
        "path": scope["path"][:_MOST_CHARS],
        "status": status,
        **account.notes,
        "ms": round(account.ms, 3),
    }
    logger.info("request", extra={"fields": fields})


_MOST_CHARS = 200
