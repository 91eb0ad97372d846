"""The database behind the registry: every version, its history, its use and what people say.

Importing it imports SQLAlchemy; `intrinsic.registry` does not.
"""

from intrinsic.registry.store.changes import Change
from intrinsic.registry.store.copies import Copies
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.feedback import Feedback
from intrinsic.registry.store.listing import ListQuery, Page, list_versions
from intrinsic.registry.store.records import LiveVersion, VersionRecord
from intrinsic.registry.store.usage import UsageLog
from intrinsic.registry.store.usage_sums import Usage, read_usage
from intrinsic.registry.store.versions import Versions

__all__ = [
    "Change",
    "Copies",
    "Database",
    "Feedback",
    "ListQuery",
    "LiveVersion",
    "Page",
    "Usage",
    "UsageLog",
    "VersionRecord",
    "Versions",
    "list_versions",
    "read_usage",
]
