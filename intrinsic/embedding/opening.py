"""Loading what a provider works with, and what serves where that cannot be had."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from intrinsic.embedding.asking import Asking
from intrinsic.embedding.item import DEFAULT, Loader, Place, Work
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.errors import AdapterError, EncoderError
from intrinsic.mixture import BASE, Mixture
from intrinsic.routing.model_loading import BUNDLED_MODEL

_LOG = logging.getLogger("intrinsic.embedding")


def opened(options: EmbeddingOptions, asking: Asking, name: str) -> Work:
    """Load the encoder `name` and the adapter of `lora_adapter_path`, which becomes the default.

    Where a package is missing that adapters need, the bundled encoder serves without them, and a
    warning says so. Raises `EncoderError`; `AdapterError` unless `on_adapter_error` is "base".
    """
    began = time.perf_counter()
    try:
        from intrinsic.embedding.adapted import AdaptedEncoder
        from intrinsic.embedding.loading import load_encoder

        encoder = load_encoder(None if name == BUNDLED_MODEL else name, options)
    except (ImportError, EncoderError) as error:
        return _without_torch(options, asking, name, error)
    _LOG.info("encoder %s loaded in %.1f ms", name, 1e3 * (time.perf_counter() - began))
    work = AdaptedEncoder(encoder, options, asking.places, name=name)
    _load_default(work, options, asking)
    return work


def _load_default(work: Loader, options: EmbeddingOptions, asking: Asking) -> None:
    asking.default = BASE
    if options.lora_adapter_path is None:
        return
    path = Path(options.lora_adapter_path)
    asking.places[DEFAULT] = Place(path, options.scaling)
    try:
        work.load(DEFAULT)
    except AdapterError as error:
        del asking.places[DEFAULT]
        if options.on_adapter_error == "raise":
            raise
        _LOG.error("adapter %s is not served, the base model is: %s", path, error)
    else:
        asking.default = Mixture.of({DEFAULT: 1.0})


def _without_torch(options: EmbeddingOptions, asking: Asking, name: str, error: Exception) -> Work:
    missing = error if isinstance(error, ImportError) else error.__cause__
    if not isinstance(missing, ImportError):
        raise error
    package = missing.name or "torch"
    try:
        if name != BUNDLED_MODEL or options.pooling not in ("auto", "mean"):
            raise EncoderError(f"{name!r} needs it")
        from intrinsic.embedding.without_torch import BaseEncoder

        work = BaseEncoder(options, name=name)
    except EncoderError as why:
        raise EncoderError(
            f"{package} cannot be imported ({missing}), and nothing else can serve ({why}); "
            "install it with 'pip install intrinsic-lora'"
        ) from error
    asking.default = BASE
    path = options.lora_adapter_path
    _LOG.warning(
        "%s, since %s cannot be imported (%s): the base model serves, in its int8 form; install it "
        "with 'pip install intrinsic-lora'",
        "no adapter can be served" if path is None else f"adapter {path} is not served",
        package,
        missing,
    )
    return work
