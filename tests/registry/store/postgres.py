"""A PostgreSQL server of the tests' own: in a temporary folder, on a unix socket alone."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = "-c listen_addresses='' -c fsync=off -c max_connections=60"


def find_binaries() -> Path | None:
    """The folder of initdb, postgres and pg_ctl, 15 or newer; None where there is none."""
    named = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    for folder in (_DEBIAN / "15" / "bin", *named, *sorted(_DEBIAN.glob("*/bin"))):
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_ctl")):
            command = [str(folder / "postgres"), "--version"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            found = re.search(r"\) (\d+)", said)
            if found and int(found[1]) >= 15:
                return folder
    return None


@contextmanager
def server(binaries: Path) -> Iterator[str]:
    """Run a server and yield the folder of its socket; as root it runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # sockets have short paths
    account = _account()
    if account:
        os.chown(folder, account["user"], account["group"])
    data, log = folder / "data", folder / "log"
    # A collation unlike that of bytes, so that what relies on bytes is seen to ask for them.
    locale = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
    try:
        _run(account, folder, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust",
             "--no-sync", "-E", "UTF8", *locale)  # fmt: skip
        options = f"-k {folder} {_SETTINGS}"
        _run(account, folder, binaries / "pg_ctl", "start", "-w", "-D", data, "-l", log,
             "-o", options)  # fmt: skip
        try:
            yield str(folder)
        finally:
            _run(account, folder, binaries / "pg_ctl", "stop", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> dict[str, Any]:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    names = {account.pw_name: account for account in pwd.getpwall()}
    chosen = names.get("postgres") or names["nobody"]
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": ()}


def _run(account: dict[str, Any], folder: Path, *command: object) -> None:
    # To a file: the server keeps its output open, so a pipe would never end.
    with (folder / "output").open("w+") as output:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False, **account,
        )  # fmt: skip
        output.seek(0)
        assert done.returncode == 0, output.read()
