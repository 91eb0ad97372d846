"""The command line: `intrinsic demo`, `ask`, `route`, `adapters`, `plugins`."""

from intrinsic.cli.app import main

__all__ = ["main"]
