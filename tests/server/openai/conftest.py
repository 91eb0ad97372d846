"""A server for a module's tests, and OpenAI's client to it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.server.openai.asking import client
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


@pytest.fixture
def asking(served: Served) -> Iterator[openai.OpenAI]:
    with client(served) as one:
        yield one
