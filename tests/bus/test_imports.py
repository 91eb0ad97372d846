"""The bus and the plugins are the ground floor: importing them needs no model library."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["intrinsic", "intrinsic.bus", "intrinsic.plugins"])
def test_importing_it_imports_no_tensor_library(name: str) -> None:
    code = f"import sys, {name}; print(*{{'torch', 'numpy', 'transformers'}} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
