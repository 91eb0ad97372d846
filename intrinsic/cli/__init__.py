"""The command line: `intrinsic demo`, `ask`, `adapters`, `plugins`."""

from intrinsic.cli.app import main

__all__ = ["main"]
