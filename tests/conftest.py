"""What holds for every test: nobody's cache and settings are used; Ctrl-C means what it does."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

_CACHE = tempfile.mkdtemp(prefix="intrinsic-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE
os.environ["XDG_CONFIG_HOME"] = os.path.join(_CACHE, "config")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
