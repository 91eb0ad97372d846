"""Where a framework is not installed, its module says what to install; nothing else needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
for name in ("pydantic_ai", "langchain_core"):
    sys.modules[name] = None
import intrinsic.integrations.answering, intrinsic.integrations.question
from intrinsic.errors import ConfigError
try:
    import intrinsic.integrations.{module}
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "extra"), [("pydantic_ai", "pydantic-ai"), ("langchain", "langchain")]
)
def test_a_missing_framework_is_told_in_words(module: str, extra: str) -> None:
    program = PROGRAM.format(module=module)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "is not installed" in done.stdout
    assert f"pip install 'intrinsic-lora[{extra}]'" in done.stdout
