"""What the settings name, looked at without loading weights: everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from intrinsic.bundled import BUNDLED_NAME, adapters_path, base_path
from intrinsic.config.layers import Fault
from intrinsic.config.sections import Project
from intrinsic.config.settings import Settings
from intrinsic.errors import IntrinsicError
from intrinsic.extras import how_to_install
from intrinsic.plugins import PluginManager
from intrinsic.registry import AdapterEntry, AdapterRegistry

if TYPE_CHECKING:
    from intrinsic.registry.catalog import AdapterCatalog
    from intrinsic.registry.signature import ModelSignature

_TRANSFORMERS = "transformers"
_CONFIGS = ("config.json", "modules.json")


@dataclass
class Checked:
    """What was looked at, what is wrong, and what could not be looked at."""

    faults: list[Fault] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Check:
    """One look at what the settings name. `place_of` says which registry a session would open."""

    def __init__(
        self,
        settings: Settings,
        place_of: Callable[[Project], str | Path | None] = lambda project: project.registry,
    ) -> None:
        self._settings = settings
        self._project = settings.project
        self._place_of = place_of
        self.found = Checked()

    async def run(self) -> Checked:
        """Look at everything; a fault of one thing hides none of another."""
        plugins = self._plugins()
        for key, hook, kind in (
            ("routing.router", "register_routers", "router"),
            ("backend", "register_backends", "backend"),
            ("embedder", "register_embedders", "embedder"),
        ):
            with self._told(key):
                plugins.factory(hook, self._settings.value(key), kind)
        with self._told("routing.calibration"):
            self._settings.router_options()
        model = self._model()
        with self._told("registry"):
            place = self._place_of(self._project)
            if place is not None:
                await self._catalog(place, model)
            else:
                self._folder(model)
        self._encoder(plugins)
        self._embedding()
        self._devices()
        return self.found

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """What is raised within is a fault of that key."""
        try:
            yield
        except (IntrinsicError, OSError) as error:
            self._fault(path, str(error))

    def _fault(self, path: str, message: str) -> None:
        fault = Fault(path, self._settings.origin(path), f"{path}: {message}")
        self.found.faults.append(fault)

    def _plugins(self) -> PluginManager:
        plugins = PluginManager.with_builtins()
        plugins.load_entry_points()
        for folder in self._project.plugins:
            with self._told("plugins"):
                plugins.load_folder(folder)
        for problem in plugins.problems:
            self._fault("plugins", str(problem))
        self.found.looked_at.append(f"{len(plugins.list_plugins())} plugins")
        return plugins

    def _model(self) -> ModelSignature | None:
        """Its architecture and the shapes of its layers, where that can be known."""
        from intrinsic.backends.pretrained import load_outline
        from intrinsic.registry.signature import ModelSignature

        name = self._project.model
        if self._project.backend != _TRANSFORMERS:
            self.found.notes.append(
                f"the model of backend {self._project.backend!r}: not looked at"
            )
            return None
        source = str(base_path()) if name in (None, BUNDLED_NAME) else str(name)
        if _is_of_the_hub(source):
            self.found.notes.append(f"model {source!r}: not on this machine, so not looked at")
            return None
        with self._told("model"):
            signature = ModelSignature.of_model(load_outline(source))
            self.found.looked_at.append(f"model {source}")
            return signature
        return None

    def _folder(self, model: ModelSignature | None) -> None:
        with self._told("adapters"):
            self._adapters(model)

    def _adapters(self, model: ModelSignature | None) -> None:
        folder = self._project.adapters
        if folder is None and self._project.model not in (None, BUNDLED_NAME):
            self.found.notes.append(f"no adapters are named for model {self._project.model!r}")
            return
        registry = AdapterRegistry.from_folder(folder or adapters_path())
        for problem in registry.problems:
            self._fault("adapters", f"{problem.path} is left out: {problem.why}")
        entries = registry.list_adapters()
        for entry in entries:
            with self._told("adapters"):
                self._adapter(entry, model)
        self.found.looked_at.append(f"{len(entries)} adapters of {folder or adapters_path()}")

    def _adapter(self, entry: AdapterEntry, model: ModelSignature | None) -> None:
        from intrinsic.registry.compatibility import check
        from intrinsic.registry.inspection import inspect_header

        inspection = inspect_header(entry.path)
        if model is None:
            return
        found = check(inspection, None, self._project.model or BUNDLED_NAME, model)
        if found.verdict == "incompatible":
            self._fault("adapters", f"adapter {entry.key!r} is not for the model: {found.reason}")

    async def _catalog(self, where: str | Path, model: ModelSignature | None) -> None:
        from intrinsic.registry.catalog import AdapterCatalog

        async with AdapterCatalog(where) as catalog:
            entries = catalog.live.list_adapters()
            for entry in entries:
                with self._told("registry"):
                    await self._registered(catalog, entry, model)
            shown = catalog.database.shown
        self.found.looked_at.append(f"{len(entries)} active versions of {shown}")

    async def _registered(
        self, catalog: AdapterCatalog, entry: AdapterEntry, model: ModelSignature | None
    ) -> None:
        from intrinsic.registry.fitting import ModelFit
        from intrinsic.registry.inspection import inspect_header

        inspect_header(entry.path)
        if model is None:
            return
        forced = bool(self._settings.value("routing.force_adapters"))
        fit = ModelFit(catalog, self._project.model or BUNDLED_NAME, model, forced=forced)
        found = fit.judge(await catalog.get(entry.key))
        if not found.allows(forced=forced):
            self._fault("registry", f"adapter {entry.key!r} is not for the model: {found.reason}")

    def _encoder(self, plugins: PluginManager) -> None:
        """Settings that do not go together, a model that is none, an extra that is missing."""
        from intrinsic.routing.onnx_model import onnx_installed

        if self._settings.value("encoder.runtime") == "onnx" and not onnx_installed():
            self._fault(
                "encoder.runtime",
                f"onnxruntime or onnx is missing; choose 'auto' or 'torch', or "
                f"{how_to_install('onnx')}",
            )
        if self._project.embedder == "sentence-transformers":
            with self._told("encoder.model"):
                self._settings.embedder(plugins)
        self._text_model("encoder.model")

    def _embedding(self) -> None:
        from intrinsic.config.encoder_fit import demand_fit
        from intrinsic.registry.inspection import inspect_header
        from intrinsic.routing.model_loading import bundled_folder

        self._text_model("embedding.model")
        options = self._settings.embedding_options()
        adapter = options.lora_adapter_path
        if adapter is None:
            return
        with self._told("embedding.lora_adapter_path"):
            folder = bundled_folder() if options.model is None else Path(options.model).expanduser()
            if (folder / _CONFIGS[0]).is_file():
                demand_fit(adapter, folder)
            else:
                inspect_header(adapter)
            self.found.looked_at.append(f"adapter {adapter}")

    def _text_model(self, path: str) -> None:
        from intrinsic.config.encoder_fit import demand_config

        value = self._settings.value(path)
        if value is None:
            return
        folder = Path(value).expanduser()
        if _is_of_the_hub(str(value)):
            self.found.notes.append(f"{path} {str(value)!r}: not on this machine, so not looked at")
        elif _is_a_path(str(value)) and not any((folder / name).is_file() for name in _CONFIGS):
            why = f"has neither {' nor '.join(_CONFIGS)}" if folder.exists() else "does not exist"
            self._fault(path, f"{folder} {why}; name a folder of a model, or a hub name")
        else:
            with self._told(path):
                demand_config(folder)
            self.found.looked_at.append(f"model {value}")

    def _devices(self) -> None:
        """Whether torch knows them, and this machine has them."""
        import torch

        for path in ("transformers.device", "encoder.device", "embedding.device"):
            value = self._settings.value(path)
            try:
                kind = "cpu" if value is None else torch.device(value).type
            except RuntimeError:
                self._fault(path, f"{value!r} is no device; name one as cpu, cuda or cuda:1")
                continue
            if kind == "cuda" and not torch.cuda.is_available():
                self._fault(path, f"this machine has no device {value!r}; choose cpu")


def _is_a_path(name: str) -> bool:
    path = Path(name).expanduser()
    return path.exists() or path.is_absolute() or name.startswith((".", "~"))


def _is_of_the_hub(name: str) -> bool:
    """Whether it can only be a name of the hub, of which this machine has no copy."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if _is_a_path(name):
        return False
    try:
        return not isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False
