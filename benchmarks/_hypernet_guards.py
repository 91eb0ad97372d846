"""What keeps generated weights off queries that they are not for."""

from __future__ import annotations

from typing import Any

from benchmarks._hypernet_setting import Setting
from intrinsic.hypernet.network import HyperNetwork


def guards(setting: Setting, network: HyperNetwork) -> dict[str, Any]:
    return {}
