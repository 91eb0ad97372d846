"""Every error that intrinsic raises on purpose.

IntrinsicError
├── EventError                    an event or a memory vector is not valid
├── BusError
│   ├── BusClosedError            the bus was not entered, or was left
│   ├── BusFullError              a *_nowait call found no room
│   └── HandlerTimeoutError       a handler overran its own timeout
├── PluginError
│   ├── PluginLoadError           a plugin file or entry point could not be loaded
│   └── HookError                 a hook implementation raised or overran its timeout
├── AdapterError
│   ├── AdapterNotFoundError      no adapter of that name
│   ├── AdapterExistsError        the name is taken
│   ├── CheckpointError           the files of an adapter are not sound
│   ├── UnsupportedAdapterError   a feature of the adapter that cannot be applied exactly
│   ├── IncompatibleAdapterError  sound, but made for another model
│   ├── AdapterNotLoadedError     the mixture names an adapter that is not on the device
│   └── AdapterInUseError         the adapter is held by a running request
├── MixtureError                  weights or names of a mixture are not valid
├── CapacityError                 no room, and nothing that may be evicted
├── RoutingError
│   └── EncoderError              the text encoder is missing, unsound or failed
├── BackendError
│   └── CapabilityError           the backend cannot do what was asked
├── HypernetError                 a hypernetwork cannot use what it was given
├── RegistryError                 the registry's database cannot do what was asked
└── ConfigError                   a setting is not valid
    └── SettingsError             files, environment or flags hold settings that are not valid
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AdapterError",
    "AdapterExistsError",
    "AdapterInUseError",
    "AdapterNotFoundError",
    "AdapterNotLoadedError",
    "BackendError",
    "BusClosedError",
    "BusError",
    "BusFullError",
    "CapabilityError",
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "EncoderError",
    "EventError",
    "HandlerTimeoutError",
    "HookError",
    "HypernetError",
    "IncompatibleAdapterError",
    "IntrinsicError",
    "MixtureError",
    "PluginError",
    "PluginLoadError",
    "RegistryError",
    "RoutingError",
    "SettingsError",
    "UnsupportedAdapterError",
]


class IntrinsicError(Exception):
    """Base of every error that intrinsic raises on purpose."""


class EventError(IntrinsicError, ValueError):
    """Raised when an event or a memory vector is built from values that are not valid."""


class BusError(IntrinsicError):
    """Raised when the bus cannot do what was asked."""


class BusClosedError(BusError):
    """Raised when a bus is used before it is entered or after it is left."""


class BusFullError(BusError):
    """Raised when a `*_nowait` call finds no room; the waiting twin would wait."""


class HandlerTimeoutError(BusError, TimeoutError):
    """Raised (as a handler's outcome) when a handler overran its own timeout."""


class PluginError(IntrinsicError):
    """Raised when a plugin cannot be used."""


class PluginLoadError(PluginError):
    """Raised when a plugin file or entry point could not be loaded; names file and line."""


class HookError(PluginError):
    """Raised (as a hook's outcome) when an implementation raised or overran its timeout."""


class AdapterError(IntrinsicError):
    """Raised when an adapter cannot be used."""


class AdapterNotFoundError(AdapterError, LookupError):
    """Raised when no adapter of the given name is known."""

    @classmethod
    def of(cls, name: str, known: Iterable[str]) -> AdapterNotFoundError:
        """Build the error with the known names and, where one is near, a suggestion."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "none"
        return cls(
            f"unknown adapter {name!r}{hint}; known: {listed}; "
            "list them with 'intrinsic adapters list'"
        )


class AdapterExistsError(AdapterError, ValueError):
    """Raised when an adapter is registered or loaded under a name that is taken."""


class CheckpointError(AdapterError, ValueError):
    """Raised when an adapter's files are not sound; names the file and the tensor."""


class UnsupportedAdapterError(AdapterError, ValueError):
    """Raised when an adapter needs a feature that cannot be applied exactly; names the feature."""


class IncompatibleAdapterError(AdapterError, ValueError):
    """Raised when a sound adapter does not fit the model; names what did not fit."""


class AdapterNotLoadedError(AdapterError, LookupError):
    """Raised when a mixture names an adapter that is not on the device."""


class AdapterInUseError(AdapterError):
    """Raised when an adapter cannot leave because a running request holds it."""


class MixtureError(IntrinsicError, ValueError):
    """Raised when the weights or the names of a mixture are not valid."""


class CapacityError(IntrinsicError):
    """Raised when there is no room and nothing that may be evicted."""


class RoutingError(IntrinsicError):
    """Raised when a router cannot decide."""


class EncoderError(RoutingError):
    """Raised when the text encoder is missing, unsound or failed."""


class BackendError(IntrinsicError):
    """Raised when the model behind a backend cannot do what was asked."""


class CapabilityError(BackendError):
    """Raised when a backend is asked for something that it does not support."""


class HypernetError(IntrinsicError, ValueError):
    """Raised when an embedding or a checkpoint is not one that a hypernetwork can use."""


class RegistryError(IntrinsicError):
    """Raised when the registry's database cannot do what was asked."""


class ConfigError(IntrinsicError, ValueError):
    """Raised when a setting is not valid; names the setting and the valid values."""


class SettingsError(ConfigError):
    """Raised when settings are not valid; `sentences` has one for every fault, with its place."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__("\n".join(self.sentences))

    def __reduce__(self) -> tuple[type[SettingsError], tuple[tuple[str, ...]]]:
        """So that it passes between processes as it is."""
        return type(self), (self.sentences,)
