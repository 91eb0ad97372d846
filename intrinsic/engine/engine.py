"""The engine: which adapters are on the model, and under which mixture a forward pass runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

from torch import nn

from intrinsic.engine.active import Active, Activity, Held
from intrinsic.engine.break_even import BreakEven, measure
from intrinsic.engine.fingerprint import fingerprint
from intrinsic.engine.fitting import Fitting
from intrinsic.engine.merged import MergedMode, Terms, refuse_shared
from intrinsic.engine.ordinary import full_precision, ordinary
from intrinsic.engine.prepared import Prepared, prepare
from intrinsic.engine.pristine import Place
from intrinsic.engine.sidecar import SideCar
from intrinsic.errors import (
    AdapterExistsError,
    AdapterInUseError,
    AdapterNotLoadedError,
    ConfigError,
    MixtureError,
)
from intrinsic.lora import Digest, Factors, LoraCheckpoint, MergeMethod, exact
from intrinsic.mixture import Mixture


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter on the model: its id, the layers that it changes, and what it takes in bytes."""

    id: str
    layers: tuple[str, ...]
    bytes_used: int
    content: Digest

    @property
    def digest(self) -> str:
        """SHA-256 of its files' bytes, in hex; found at the first time of asking."""
        return self.content.hexdigest()


@dataclass(frozen=True, slots=True)
class _Held:
    adapter: LoadedAdapter
    factors: Mapping[str, Factors]
    scaling: float


class LoraEngine:
    """Applies mixtures of LoRA adapters to `model`, in place, and leaves no trace.

    Thread-safe. Forward passes may run in several threads under different mixtures; loading and
    unloading never changes what a running pass sees, and no pass waits for a load; merged mode
    waits for nobody: it is refused while passes run. Whatever mode of torch the caller is in
    (inference mode, autocast, gradients), what is loaded and merged serves every other mode too.
    While a mixture is merged, copies of the weights that it changed lie where `pristine` says.
    """

    def __init__(self, model: nn.Module, *, pristine: Place = "device") -> None:
        if pristine not in get_args(Place):
            raise ConfigError(f"pristine is {pristine!r}; it must be 'device' or 'host'")
        # What `torch.compile` returns wraps the model under this name.
        self.model = getattr(model, "_orig_mod", model)
        self._modules = dict(self.model.named_modules())
        self._activity = Activity()
        self._sidecars: dict[str, SideCar] = {}
        self._loaded: dict[str, _Held] = {}
        self._in_use: Counter[str] = Counter()
        self._running = 0
        self._merged = MergedMode(pristine)
        # Who changes adapters or weights holds the first, and takes the second where passes look.
        self._changing = threading.RLock()
        self._lock = threading.RLock()

    @property
    def loaded(self) -> tuple[LoadedAdapter, ...]:
        """The adapters on the model, in the order of loading."""
        with self._lock:
            return tuple(held.adapter for held in self._loaded.values())

    @property
    def merged(self) -> Mixture | None:
        """The mixture that is written into the weights, or None."""
        return self._merged.mixture

    @property
    def bytes_used(self) -> int:
        """Bytes that the side-cars and the pristine copies take on the model's device."""
        with self._lock:
            banks = sum(sidecar.bank.bytes_used for sidecar in self._sidecars.values())
            return banks + self._merged.pristine.bytes_used

    def fingerprint(self) -> str:
        """SHA-256 of the model's weights as they are now."""
        with self._changing:
            return fingerprint(self.model)

    def load(
        self, checkpoint: LoraCheckpoint, adapter: str, *, scaling: float = 1.0
    ) -> LoadedAdapter:
        """Put an adapter on the model under the id `adapter`; all of it fits, or nothing changes.

        `scaling` multiplies all that the adapter changes. Raises `AdapterExistsError`, or
        `IncompatibleAdapterError` naming the layers that are missing or of another shape.
        """
        with self._changing, ordinary(), full_precision():
            if adapter in self._loaded:
                raise AdapterExistsError(
                    f"adapter {adapter!r} is loaded already; unload it first or use another name"
                )
            factors = checkpoint.factors
            fitting = Fitting(self._modules, self._sidecars, self._merged, self._activity).fit(
                checkpoint
            )
            self._add(adapter, fitting, self._prepare(fitting, factors, scaling))
            loaded = LoadedAdapter(
                adapter, tuple(factors), self._bytes_of(adapter, fitting), checkpoint.content
            )
            with self._lock:
                for name, sidecar in fitting.items():
                    self._sidecars.setdefault(name, sidecar).attach()
                self._loaded[adapter] = _Held(loaded, factors, scaling)
            return loaded

    def unload(self, adapter: str) -> None:
        """Take an adapter off the model.

        Raises `AdapterNotLoadedError`, or `AdapterInUseError` while a pass runs under it or it is
        merged.
        """
        with self._changing, self._lock, ordinary():
            if adapter not in self._loaded:
                raise AdapterNotLoadedError(f"adapter {adapter!r} is not loaded")
            merged = self._merged.mixture
            if self._in_use[adapter] or (merged is not None and adapter in merged.adapters):
                raise AdapterInUseError(
                    f"adapter {adapter!r} is in use; wait for its requests, or restore the base"
                )
            loaded = self._loaded.pop(adapter).adapter
            for name in loaded.layers:
                self._sidecars[name].bank.remove(adapter)
            self._drop_idle(loaded.layers)

    @contextmanager
    def activate(self, mixtures: Mixture | Sequence[Mixture]) -> Iterator[None]:
        """Run the forward passes of this block, in this thread, under a mixture or one per row.

        Raises `AdapterNotLoadedError`, or `MixtureError` while another mixture is merged.
        """
        with self.hold(mixtures) as held, held.active():
            yield

    @contextmanager
    def hold(self, mixtures: Mixture | Sequence[Mixture]) -> Iterator[Held]:
        """Keep mixtures usable for work of several passes: their adapters stay, and the weights.

        `with held.active():` runs passes under them, as often as needed; what layers work out for
        the mixtures is kept meanwhile. The block may be left in another thread. Raises as
        `activate` does.
        """
        active = Active.of(mixtures)
        with self._using(active) as merged:
            try:
                yield Held(None if merged or not active.adapters else active, self._activity)
            finally:
                active.end()

    @contextmanager
    def _using(self, active: Active) -> Iterator[bool]:
        """Count adapters as used; the value says whether the mixture is merged."""
        with self._lock:
            self._check_loaded(active.adapters)
            merged = self._merged.mixture
            if merged is not None and (active.rows or active.shared != merged):
                raise MixtureError("another mixture is merged into the weights; restore it first")
            self._running += 1
            self._in_use.update(active.adapters)
        try:
            yield merged is not None
        finally:
            with self._lock:
                self._running -= 1
                self._in_use.subtract(active.adapters)
                self._in_use = +self._in_use

    def merge(self, mixture: Mixture, method: MergeMethod = exact) -> None:
        """Write a mixture into the weights, from pristine values, on all layers or on none.

        `method` makes one delta of those of the mixture's adapters; the default is their sum.
        Another mixture that is merged is replaced; where writing fails, the base stays. Raises
        `AdapterInUseError` while a pass runs, `UnsupportedAdapterError` for weights that another
        module shares, and `PluginError` for a method that fails or returns no delta of the layer's
        shape.
        """
        with self._changing, self._lock:
            self._check_idle("merge")
            self._check_loaded(mixture.adapters)
            layers = [(sidecar.target, terms) for sidecar, terms in self._terms(mixture)]
            refuse_shared(self.model, layers)
            self._merged.merge(mixture, layers, method)

    def break_even(self, mixture: Mixture) -> BreakEven:
        """Measure what merging a mixture takes on this machine, and what it saves.

        Takes some passes' time and the memory of one layer; nothing is changed. Raises as
        `activate` does.
        """
        with self.hold(mixture) as held:
            with self._lock:
                layers = self._terms(mixture)
            return measure(layers, held)

    def restore(self) -> None:
        """Copy the pristine weights back. Raises `AdapterInUseError` while a pass runs."""
        with self._changing, self._lock:
            if self._merged.mixture is not None:
                self._check_idle("restore")
            self._merged.restore()

    def close(self) -> None:
        """Restore the weights and take every adapter and side-car off the model.

        Raises `AdapterInUseError` while a pass runs; nothing has changed then.
        """
        with self._changing, self._lock:
            self._check_idle("close")
            self.restore()
            for adapter in list(self._loaded):
                self.unload(adapter)

    def _prepare(
        self, fitting: Mapping[str, SideCar], factors: Mapping[str, Factors], scaling: float
    ) -> dict[str, Prepared]:
        """What the banks will hold, for all layers before any bank is changed."""
        return {
            name: prepare(
                sidecar.target,
                factors[name],
                self._merged.pristine.values(sidecar.target.weight),
                scaling=scaling,
            )
            for name, sidecar in fitting.items()
        }

    @staticmethod
    def _add(
        adapter: str, fitting: Mapping[str, SideCar], prepared: Mapping[str, Prepared]
    ) -> None:
        """Copy factors into the banks of all layers, or, where memory ends, of none."""
        try:
            for name, sidecar in fitting.items():
                sidecar.bank.add(adapter, prepared[name])
        except BaseException:
            for sidecar in fitting.values():
                sidecar.bank.remove(adapter)
            raise

    @staticmethod
    def _bytes_of(adapter: str, fitting: Mapping[str, SideCar]) -> int:
        views = [view for s in fitting.values() if (view := s.bank.get(adapter)) is not None]
        tensors = [t for v in views for t in (v.A, v.B, v.bias, v.gain, v.core) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors)

    def _drop_idle(self, names: Sequence[str]) -> None:
        """Detach side-cars that serve no adapter any more."""
        for name in names:
            if self._sidecars[name].bank.rows == 0:
                self._sidecars.pop(name).detach()

    def _terms(self, mixture: Mixture) -> list[tuple[SideCar, Terms]]:
        terms: dict[str, Terms] = {}
        for adapter, weight in mixture.entries:
            held = self._loaded[adapter]
            for name, factors in held.factors.items():
                terms.setdefault(name, []).append((factors, weight * held.scaling))
        return [(self._sidecars[name], layer_terms) for name, layer_terms in terms.items()]

    def _check_loaded(self, adapters: Sequence[str]) -> None:
        for adapter in adapters:
            if adapter not in self._loaded:
                raise AdapterNotLoadedError(f"adapter {adapter!r} is not loaded; load it first")

    def _check_idle(self, action: str) -> None:
        if self._running:
            raise AdapterInUseError(
                f"cannot {action} while {self._running} forward passes run; wait for them"
            )
