"""What cannot be served is refused in a sentence, before the model is loaded."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from intrinsic.errors import ConfigError
from intrinsic.server.listener import bind, listen, url_of
from tests.cli.running import refuses

Argv = pytest.MonkeyPatch
Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_port_that_is_taken(monkeypatch: Argv, capsys: Out, here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        given = ["serve", "--port", port, "--key-file", "keys.json"]
        refuses(monkeypatch, capsys, given, f"port {port} of 127.0.0.1 is in use")
    assert not (here / "keys.json").exists()


def test_without_keys_only_on_this_machine(monkeypatch: Argv, capsys: Out) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        given = ["serve", "--no-auth", "--host", host]
        refuses(monkeypatch, capsys, given, "can be reached from other machines")


def test_a_key_file_that_others_can_read(monkeypatch: Argv, capsys: Out, here: Path) -> None:
    (here / "keys.json").write_text("{}")
    (here / "keys.json").chmod(0o644)
    given = ["serve", "--port", "0", "--key-file", "keys.json"]
    refuses(monkeypatch, capsys, given, "chmod 600")


def test_settings_that_are_not_valid(monkeypatch: Argv, capsys: Out) -> None:
    monkeypatch.setenv("INTRINSIC_SERVER__API_KEY", "a" * 20)
    refuses(monkeypatch, capsys, ["serve"], "given without admin_key")
    monkeypatch.setenv("INTRINSIC_SERVER__ADMIN_KEY", "short")
    refuses(monkeypatch, capsys, ["serve", "--port", "0"], "admin_key is not valid")
    monkeypatch.setenv("INTRINSIC_SERVER__ADMIN_KEY", "b" * 20)
    refuses(monkeypatch, capsys, ["serve", "--log-format", "xml"], "log_format")
    for endpoint in ("collector:4318", "ftp://collector", "http://"):
        monkeypatch.setenv("INTRINSIC_SERVER__TRACE_ENDPOINT", endpoint)
        refuses(monkeypatch, capsys, ["serve"], "a URL as http://127.0.0.1:4318")
    monkeypatch.delenv("INTRINSIC_SERVER__TRACE_ENDPOINT")
    monkeypatch.setenv("INTRINSIC_SERVER__CORS_ORIGINS", '["example.org/x"]')
    refuses(monkeypatch, capsys, ["serve"], "an origin is as https://example.org")
    monkeypatch.setenv("INTRINSIC_SERVER__CORS_ORIGINS", '["*"]')
    refuses(monkeypatch, capsys, ["serve", "--no-auth"], "every web page could ask")


@pytest.mark.parametrize("file", [".", "nowhere/stats.json"])
def test_statistics_that_could_not_be_written(
    monkeypatch: Argv, capsys: Out, here: Path, file: str
) -> None:
    given = ["serve", "--port", "0", "--key-file", "keys.json", "--stats-file", file]
    refuses(monkeypatch, capsys, given, "statistics cannot be written")
    assert not (here / "keys.json").exists()


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_the_extra(monkeypatch: Argv, capsys: Out, missing: str) -> None:
    for name in list(sys.modules):
        if name.startswith(("intrinsic.server", missing)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    given = ["serve", "--port", "0", "--key-file", "keys.json"]
    refuses(monkeypatch, capsys, given, "pip install 'intrinsic-lora[serve]'")


def test_addresses() -> None:
    with bind("localhost", 0) as taken:
        listen(taken)
        assert taken.getsockname()[0] == "127.0.0.1"
        assert url_of(taken) == f"http://127.0.0.1:{taken.getsockname()[1]}"
    with bind("0.0.0.0", 0) as taken:
        assert url_of(taken).startswith("http://127.0.0.1:")
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", first.getsockname()[1]) as second:
        listen(first)
        with pytest.raises(ConfigError, match="in use"):  # taken after it was bound
            listen(second)
    for host in ("no such host", "256.1.1.1", "\N{SNOWMAN}" * 80):
        with pytest.raises(ConfigError, match="no address"):
            bind(host, 0)
    with pytest.raises(ConfigError, match=r"nothing can listen at 192\.0\.2\.1"):
        bind("192.0.2.1", 0)
