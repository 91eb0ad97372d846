"""Events for tests, and what publishing one came to."""

from __future__ import annotations

from collections.abc import Awaitable

from intrinsic.bus import PublishReport
from intrinsic.events import InjectionChannel, MemoryEvent

LORA = InjectionChannel.DYNAMIC_LORA
KNN = InjectionChannel.KNN_LM
STEERING = InjectionChannel.ACTIVATION_STEERING


def on(channel: InjectionChannel, session: str | None = None, text: str = "") -> MemoryEvent:
    return MemoryEvent.from_text(text, channel=channel, session_id=session)


async def value_of(publishing: Awaitable[PublishReport]) -> object:
    report = await publishing
    for error in report.errors:
        raise error
    return report.value
