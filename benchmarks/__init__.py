"""Benchmarks: `python -m benchmarks NAME [--json]`; each module has `run(argv) -> dict`."""
