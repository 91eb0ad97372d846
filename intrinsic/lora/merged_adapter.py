"""Checkpoints merged into one: a low-rank update per layer, and the error that is left in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from intrinsic.errors import (
    IncompatibleAdapterError,
    MixtureError,
    UnsupportedAdapterError,
)
from intrinsic.lora.checkpoint import Factors, LoraCheckpoint
from intrinsic.lora.config import LoraConfig
from intrinsic.lora.delta import delta
from intrinsic.lora.exact import exact
from intrinsic.lora.merge import merge_method
from intrinsic.lora.merge_options import (
    STORED_DTYPES,
    MergeMethod,
    MergeOptions,
    apply_checked,
    bound,
    name_of,
)
from intrinsic.lora.svd import near_truncated, svd, truncated_product
from intrinsic.lora.wording import named

Term = tuple[Factors, float]

_CANCELLED = 1e-12
"""A sum so small beside its parts is rounding noise of fp64."""


@dataclass(frozen=True, slots=True)
class MergedAdapter:
    """The factors of every layer, of scale 1, as they will be stored.

    `errors` holds, per layer, `‖ΔW − B A‖ / ‖ΔW‖` in the Frobenius norm, where ΔW is what the
    merge method made and B A what is stored: it counts both the cut to a rank and the rounding.
    `sources` are the configs of the adapters that went in.
    """

    factors: Mapping[str, Factors]
    errors: Mapping[str, float]
    sources: tuple[LoraConfig, ...]

    @property
    def worst_layer(self) -> str:
        """The layer with the largest error."""
        return max(self.errors, key=lambda module: self.errors[module])

    @property
    def worst_error(self) -> float:
        """The largest error of a layer."""
        return self.errors[self.worst_layer]

    @property
    def mean_error(self) -> float:
        """The mean of the layers' errors."""
        return sum(self.errors.values()) / len(self.errors)


@dataclass(frozen=True, slots=True)
class _Recipe:
    method: MergeMethod
    name: str
    options: MergeOptions

    def target(self, module: str, terms: Sequence[Term]) -> torch.Tensor:
        """What the method makes of the layer's deltas, checked."""
        deltas = [delta(factors) for factors, _ in terms]
        weights = [weight for _, weight in terms]
        apply = bound(self.method, self.options, name=self.name, module=module)
        return apply_checked(apply, deltas, weights, name=self.name, module=module).double()


def merge_checkpoints(
    terms: Sequence[tuple[LoraCheckpoint, float]],
    method: str | MergeMethod = "exact",
    *,
    options: MergeOptions | None = None,
    name: str = "",
    done: Callable[[], None] = lambda: None,
) -> MergedAdapter:
    """Merge checkpoints, each with its weight, into one adapter; `done` is called per layer.

    `name` is what errors call a method that is given as a function.

    Adapters may differ in rank, scale rule, dtype and layers; a layer is merged from those that
    change it; a weight of 0 leaves an adapter out. `exact` without a rank stacks the factors, so
    that nothing is lost but one rounding to `options.dtype`. With a rank, and for every other
    method, a layer's delta is cut to that rank by SVD (of large layers by `near_truncated`, but
    for `exact` and `svd`, whose factors give it fast); without one to the sum of its adapters'
    ranks. Arithmetic is fp64.

    Raises `MixtureError` where nothing is left to merge or a value does not fit the dtype,
    `IncompatibleAdapterError` for adapters of different models, `UnsupportedAdapterError` for what
    no `s B A` can store, `ConfigError` for a method that is not known or does not take a parameter,
    `PluginError` for a method that fails.
    """
    kept = [(checkpoint, weight) for checkpoint, weight in terms if weight != 0.0]
    if not kept:
        raise MixtureError("no adapter has a weight other than 0; the mixture is the base model")
    for checkpoint, _ in kept:
        _check_plain(checkpoint)
    _check_one_model([checkpoint for checkpoint, _ in kept])
    recipe = _recipe(method, name, options or MergeOptions())
    factors, errors = {}, {}
    for module in modules_of(kept):
        layer = [(c.factors[module], weight) for c, weight in kept if module in c.factors]
        factors[module], errors[module] = _merged(module, layer, recipe)
        done()
    return MergedAdapter(factors, errors, tuple(checkpoint.config for checkpoint, _ in kept))


def modules_of(terms: Sequence[tuple[LoraCheckpoint, float]]) -> list[str]:
    """The layers that a mixture changes, sorted; an adapter of weight 0 changes none."""
    return sorted({module for c, weight in terms if weight != 0.0 for module in c.factors})


def _recipe(method: str | MergeMethod, name: str, options: MergeOptions) -> _Recipe:
    if isinstance(method, str):
        recipe = _Recipe(merge_method(method), method, options)
    else:
        recipe = _Recipe(method, name or name_of(method), options)
    bound(recipe.method, options, name=recipe.name)
    return recipe


def _check_plain(checkpoint: LoraCheckpoint) -> None:
    for module, factors in checkpoint.factors.items():
        if not factors.is_plain:
            raise UnsupportedAdapterError(
                f"{checkpoint.path} changes {module} by more than s B A (DoRA, a trained bias or "
                "an embedding), which a merged checkpoint cannot store; leave it out and mix it "
                "live"
            )


def _check_one_model(checkpoints: Sequence[LoraCheckpoint]) -> None:
    bases: dict[str, LoraCheckpoint] = {}
    shapes: dict[str, tuple[tuple[int, int], LoraCheckpoint]] = {}
    for checkpoint in checkpoints:
        if checkpoint.config.base_model:
            bases.setdefault(checkpoint.config.base_model, checkpoint)
        for module, f in checkpoint.factors.items():
            shape = (f.out_features, f.A.shape[1])
            first, other = shapes.setdefault(module, (shape, checkpoint))
            if first != shape:
                raise IncompatibleAdapterError(
                    f"layer {module} is {first} in {other.path} and {shape} in "
                    f"{checkpoint.path}; merge adapters of one base model"
                )
    if len(bases) > 1:
        (one, a), (two, b) = list(bases.items())[:2]
        raise IncompatibleAdapterError(
            f"{a.path} was made for base model {named(one)} and {b.path} for {named(two)}; "
            "merge adapters of one base model (where these are two names of one, make "
            "base_model_name_or_path the same in both adapter_config.json)"
        )


def _merged(module: str, terms: Sequence[Term], recipe: _Recipe) -> tuple[Factors, float]:
    """Factors of a layer as stored, and their relative error."""
    rank = recipe.options.rank or sum(factors.rank for factors, _ in terms)
    if recipe.method in (exact, svd):
        B, A = _stacked(terms)
        target = B @ A
        _check_finite(target, module, "float64")
        if recipe.method is svd or recipe.options.rank is not None:
            B, A = truncated_product(B, A, rank)
    else:
        target = recipe.target(module, terms)
        _check_finite(target, module, "float64")
        B, A = near_truncated(target, rank)
    dtype = STORED_DTYPES[recipe.options.dtype]
    A, B = A.to(dtype).contiguous(), B.to(dtype).contiguous()
    for factor in (A, B):
        _check_finite(factor, module, recipe.options.dtype)
    return Factors(A, B, 1.0), _error(target, B.double() @ A.double(), terms)


def _error(target: torch.Tensor, stored: torch.Tensor, terms: Sequence[Term]) -> float:
    """`‖target - stored‖ / ‖target‖`; 0 where the adapters cancel to what rounding leaves."""
    size = float(torch.linalg.matrix_norm(target))
    parts = sum(abs(w * f.scale) * float(f.B.norm() * f.A.norm()) for f, w in terms)
    lost = float(torch.linalg.matrix_norm(target - stored))
    return lost / size if size > _CANCELLED * parts else 0.0


def _stacked(terms: Sequence[Term]) -> tuple[torch.Tensor, torch.Tensor]:
    """`B = [w₁s₁B₁, w₂s₂B₂, ...]` and `A = [A₁; A₂; ...]`: their product is the exact sum."""
    B = torch.cat([f.B_in(torch.float64) * (weight * f.scale) for f, weight in terms], dim=1)
    A = torch.cat([f.A.double() for f, _ in terms], dim=0)
    return B, A


def _check_finite(tensor: torch.Tensor, module: str, dtype: str) -> None:
    if not torch.isfinite(tensor).all():
        wider = " or use the dtype float32" if dtype == "float16" else ""
        raise MixtureError(
            f"the merged factors of {module} are not finite in {dtype}; lower the weights{wider}"
        )
