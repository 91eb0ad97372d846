"""A register of LoRA scales on a model that was wrapped with PEFT by somebody else."""

from __future__ import annotations

from intrinsic.errors import AdapterError, AdapterNotFoundError, UnsupportedAdapterError
from intrinsic.scaling.change import Change, carry_out
from intrinsic.scaling.choice import chooser, refuse_blocked, refuse_remains
from intrinsic.scaling.discovery import Targets, find_targets
from intrinsic.scaling.factor import checked_factor
from intrinsic.scaling.names import Model, active_names, adapter_names
from intrinsic.scaling.report import Refreshed, ScaleReport, TargetScale
from intrinsic.scaling.target import Setting
from intrinsic.scaling.value import as_number


class ScaleRegistry:
    """Scales each adapter's LoRA layers by a factor, always from the scale found at first.

    Writes nothing but those scales, on all layers of an adapter or on none, and works without
    importing peft. A factor holds for every pass of the model, so change it between passes, and
    from one thread at a time.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._targets: dict[str, Targets] = {}

    @classmethod
    def attach(cls, model: Model) -> ScaleRegistry:
        """Register every adapter's targets with their base scale; nothing is written.

        Attaching again finds the same bases, whatever factors are set. Raises
        `UnsupportedAdapterError` where the model has no LoRA layer, or one whose scale cannot be
        told apart by adapter or taken back exactly.
        """
        if not callable(getattr(model, "named_modules", None)):
            raise UnsupportedAdapterError(
                f"{type(model).__name__} has no named_modules(); give the model that PEFT returned"
            )
        registry = cls(model)
        registry.refresh()
        if not registry._scaled:
            raise UnsupportedAdapterError(
                f"{type(model).__name__} has no LoRA layer; give the model that PEFT returned, "
                "with at least one LoRA adapter on it"
            )
        return registry

    @property
    def adapters(self) -> tuple[str, ...]:
        """Every adapter of the model, in its order, those without a LoRA layer included."""
        return tuple(self._targets)

    @property
    def active(self) -> tuple[str, ...]:
        """The adapters in force: those that the model calls active and that are not off."""
        return tuple(name for name in self._chosen if not self._setting(name).off)

    def targets(self, name: str) -> tuple[TargetScale, ...]:
        """An adapter's layers: path, kind, base scale and scale in force."""
        return tuple(
            TargetScale(path, target.kind, as_number(target.base), as_number(target.read()))
            for path, target in self._of(name).items()
        )

    def get_scaling(self, name: str) -> float:
        """The factor that is set for an adapter, 1.0 at first; it is kept while it is off."""
        self._of(name)
        return self._setting(name).factor

    def set_scaling(self, name: str, scaling: float) -> ScaleReport:
        """Scale an adapter by `scaling` times its base; the same twice changes nothing.

        While the adapter is off the factor is stored, and applied when it is switched on. Raises
        `MixtureError` for what is no finite number, `AdapterNotFoundError`,
        `UnsupportedAdapterError` for an adapter without a LoRA layer, and `AdapterError` for one
        that is merged; then nothing has changed.
        """
        self._of(name)
        factor = checked_factor(name, scaling)
        (report,) = carry_out([self._change(name, self._setting(name)._replace(factor=factor))])
        return report

    def set_active(self, name: str | None) -> tuple[ScaleReport, ...]:
        """Have one adapter in force with its factor, or with None no adapter at all.

        A name is handed to the model's own `set_adapter`, with all that PEFT does there; where
        there is none, the others are brought to scale 0. None brings every scale to 0 and keeps
        the factors. Raises what `set_scaling` does, and `UnsupportedAdapterError` where scale 0
        would leave something of an adapter (DoRA).
        """
        if name is not None:
            self._of(name)
        for each in self._scaled:
            refuse_blocked(each, self._targets[each], off=name is None)
        choose = None if name is None else chooser(self._model, name)
        kept = self._scaled if choose else [name]
        for each in self._chosen:
            if each not in kept:
                refuse_remains(each, self._of(each))
        return carry_out(
            [self._switch(each, off=each not in kept) for each in self._scaled], choose
        )

    def restore(self) -> tuple[ScaleReport, ...]:
        """Bring every base scale back, bit for bit, and every factor to 1.0.

        Which adapter the model calls active stays. Adapters that have left the model are passed
        over. Raises `AdapterError` for one that was merged at another scale; then nothing has
        changed.
        """
        for name in self._scaled:
            targets = self._targets[name].items()
            self._targets[name] = {path: each for path, each in targets if each.is_current()}
        return carry_out([self._change(name, Setting()) for name in self._scaled])

    def refresh(self) -> Refreshed:
        """Look again at which adapters the model has; call it after adding or deleting some.

        New ones are registered with the scale that they have now. So is one that was loaded anew
        under its old name, or whose scale somebody else wrote since, and it is told as `rebased`:
        its factor is 1.0 again, unless it keeps some of its layers, whose factor it takes.
        Other factors stay.
        """
        former, self._targets = self._targets, find_targets(self._model)
        for name in self._scaled:
            self._level(name)
        both = [name for name in self._scaled if former.get(name)]
        return Refreshed(
            added=tuple(name for name in self._targets if name not in former),
            removed=tuple(name for name in former if name not in self._targets),
            rebased=tuple(
                n for n in both if set(self._targets[n].values()) - set(former[n].values())
            ),
        )

    @property
    def _scaled(self) -> list[str]:
        """The adapters that have targets."""
        return [name for name, targets in self._targets.items() if targets]

    @property
    def _chosen(self) -> list[str]:
        """The adapters that the model calls active; all where it does not tell."""
        names = active_names(self._model) or self.adapters
        return [name for name in self.adapters if name in names]

    def _level(self, name: str) -> None:
        """Give new targets of an adapter the setting that its others kept."""
        found = {target.setting for target in self._targets[name].values()}
        if len(found) > 1:
            carry_out([self._change(name, (found - {Setting()}).pop())])

    def _switch(self, name: str, *, off: bool) -> Change:
        return self._change(name, self._setting(name)._replace(off=off))

    def _change(self, name: str, setting: Setting) -> Change:
        return Change(name, setting, self._targets[name])

    def _setting(self, name: str) -> Setting:
        """What is set for an adapter: the same on all its targets."""
        return next((t.setting for t in self._targets[name].values()), Setting())

    def _of(self, name: str) -> Targets:
        """An adapter's targets. Raises where there are none, and says why."""
        if not isinstance(name, str) or name not in self._targets:
            if name in adapter_names(self._model):
                raise AdapterError(
                    f"adapter {name!r} has no registered target: it was added after attach; "
                    "call refresh()"
                )
            known = ", ".join(self._targets) or "none"
            raise AdapterNotFoundError(
                f"unknown adapter {name!r}; known: {known}; call refresh() if it is new"
            )
        if not self._targets[name]:
            raise UnsupportedAdapterError(
                f"adapter {name!r} has no registered target: no LoRA layer of the model carries "
                "it; scale it by its own method's means"
            )
        return self._targets[name]
