"""Run one benchmark: `python -m benchmarks NAME [--json] [its own arguments]`."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence

import benchmarks


def names() -> list[str]:
    """The benchmarks there are; none of them is imported."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def main(argv: Sequence[str]) -> int:
    """Run the benchmark that the first argument names; returns the exit status."""
    if not argv or argv[0] not in names():
        given = f"unknown benchmark {argv[0]!r}; " if argv and argv[0][:1] != "-" else ""
        print(
            f"{given}usage: python -m benchmarks NAME [--json] [arguments]; "
            f"benchmarks: {', '.join(names())}",
            file=sys.stderr,
        )
        return 2
    as_json = "--json" in argv
    module = importlib.import_module(f"benchmarks.{argv[0]}")
    result = module.run([argument for argument in argv[1:] if argument != "--json"])
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for line in table(result):
            print(line)
    return 0


def table(result: Mapping[str, object], indent: int = 0) -> Iterator[str]:
    """A result as lines for people: plain values first, then each group under its name."""
    width = max((len(key) for key, value in result.items() if not is_group(value)), default=0)
    for key, value in result.items():
        if not is_group(value):
            yield f"{' ' * indent}{key:{width}}  {shown(value)}"
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield f"{' ' * indent}{key}"
            yield from table(value, indent + 2)


def is_group(value: object) -> bool:
    """Whether a value is shown as a table of its own."""
    return isinstance(value, Mapping)


def shown(value: object) -> str:
    """A value for people: numbers with a sensible number of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
