"""Settings of adapters, written on all their layers or on none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from intrinsic.errors import AdapterError
from intrinsic.receipt import Skipped
from intrinsic.scaling.layer import is_merged
from intrinsic.scaling.report import ScaleReport
from intrinsic.scaling.target import Setting, Target
from intrinsic.scaling.value import kept


@dataclass(frozen=True, slots=True)
class Change:
    """A setting for an adapter and its targets, by the path of their layer."""

    adapter: str
    setting: Setting
    targets: Mapping[str, Target]

    def check(self) -> None:
        """Raise `AdapterError` or `MixtureError` where a target cannot take the setting."""
        for path, target in self.targets.items():
            if not target.is_current():
                raise AdapterError(
                    f"adapter {self.adapter!r} has no registered target in {path} any more: it "
                    "was deleted or loaded anew; call refresh()"
                )
            scale = target.wanted(self.setting.effective)
            if is_merged(target.module, self.adapter) and target.needs(scale):
                raise AdapterError(
                    f"adapter {self.adapter!r} is merged into {path}; unmerging it at another "
                    "scale would leave the base wrong; call unmerge_adapter() first"
                )

    def write(self, undo: ExitStack) -> ScaleReport:
        """Write the targets that differ, each with its way back. Raises `AdapterError`."""
        changed: list[str] = []
        skipped: list[Skipped] = []
        for path, target in self.targets.items():
            scale = target.wanted(self.setting.effective)
            if not target.needs(scale):
                skipped.append(Skipped(path, self._why()))
                continue
            undo.callback(target.put, kept(target.read()))
            try:
                target.put(scale)
            except Exception as error:
                raise AdapterError(
                    f"scaling of {self.adapter!r} failed at {path}: {error}; every layer has its "
                    "former scale"
                ) from error
            changed.append(path)
        return ScaleReport(self.adapter, self.setting.factor, tuple(changed), tuple(skipped))

    def _why(self) -> str:
        if self.setting.off:
            return f"off; {self.setting.factor} is stored and applies when it is on"
        return f"already at {self.setting.factor}"


def carry_out(
    changes: Sequence[Change], then: Callable[[], None] | None = None
) -> tuple[ScaleReport, ...]:
    """Write all changes, then call `then`; where any of it raises, every scale is put back."""
    for change in changes:
        change.check()
    with ExitStack() as undo:
        reports = tuple(change.write(undo) for change in changes)
        if then is not None:
            then()
        undo.pop_all()
    for change in changes:
        for target in change.targets.values():
            target.settle(change.setting)
    return reports
