"""Any sequence of calls leaves what a plain table of factors says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic.scaling import ScaleRegistry
from tests.scaling.stand_ins import Choosing, MappingLora, SetScaleLora

BASES = {"a": 0.7, "a.b": 3.0, "ab": 1 / 3}
NAMES = st.sampled_from(sorted(BASES))
FACTORS = st.floats(-1e3, 1e3) | st.integers(-3, 3)
CALLS = (
    st.tuples(st.just("scale"), NAMES, FACTORS)
    | st.tuples(st.just("switch"), NAMES | st.none())
    | st.tuples(st.sampled_from(["restore", "refresh", "attach"]))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CALLS, max_size=12))
def test_any_sequence_leaves_base_times_factor(
    calls: list[tuple[str, *tuple[object, ...]]],
) -> None:
    model = Choosing(MappingLora(BASES), SetScaleLora(BASES), adapters=list(BASES))
    registry = ScaleRegistry.attach(model)
    factors, off = dict.fromkeys(BASES, 1.0), False
    for call in calls:
        match call:
            case ("scale", str(name), float() | int() as factor):
                registry.set_scaling(name, factor)
                factors[name] = float(factor)
            case ("switch", str() | None as name):
                registry.set_active(name)
                off = name is None
            case ("restore",):
                registry.restore()
                factors, off = dict.fromkeys(BASES, 1.0), False
            case ("refresh",):
                registry.refresh()
            case ("attach",):
                registry = ScaleRegistry.attach(model)
        expected = {n: 0.0 if off else BASES[n] * factors[n] for n in BASES}
        assert model.lora[0].scaling == model.lora[1].in_force == expected
        assert {name: registry.get_scaling(name) for name in BASES} == factors
    registry.restore()
    assert model.lora[0].scaling == model.lora[1].in_force == BASES
