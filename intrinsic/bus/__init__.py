"""The memory bus: events with memories go to handlers, in order per session, each isolated."""

from intrinsic.bus.bus import MemoryBus
from intrinsic.bus.dead_letters import DeadLetter
from intrinsic.bus.handlers import HandlerFunction
from intrinsic.bus.injection_log import InjectionLog, InjectionRecord
from intrinsic.bus.observers import Notice, NoticeName
from intrinsic.bus.options import BusOptions
from intrinsic.bus.queued import QueuedEvent
from intrinsic.bus.report import HandlerResult, PublishReport
from intrinsic.bus.statistics import BusStatistics
from intrinsic.bus.subscription import Subscription

__all__ = [
    "BusOptions",
    "BusStatistics",
    "DeadLetter",
    "HandlerFunction",
    "HandlerResult",
    "InjectionLog",
    "InjectionRecord",
    "MemoryBus",
    "Notice",
    "NoticeName",
    "PublishReport",
    "QueuedEvent",
    "Subscription",
]
