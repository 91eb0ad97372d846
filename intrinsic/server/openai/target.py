"""What a request is to run under: what its `model` and its `lora` say together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.lora_field import Lora, Part, parse_mixture
from intrinsic.server.service import Service

AUTO, BASE_NAME = "auto", "base"
_NO_LORA = Lora()
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Target:
    """`mixture` is fixed; without one the request is routed, or, where `active`, takes what is
    active now. `receipt` is the id of a request whose routing serves.
    """

    mixture: Mixture | None = None
    active: bool = False
    receipt: str | None = None
    lora: Lora = field(default_factory=Lora)


def target_of(service: Service, model: str | None, lora: Lora | None) -> Target:
    """Read both. Raises a 404 for what is not known, a 400 where they contradict each other."""
    said = lora or _NO_LORA
    plain = model in (None, "", service.model_name) and model not in (AUTO, BASE_NAME)
    if said.mixture is not None:
        if not plain and model != AUTO:
            raise ApiError(
                400, f"'lora' fixes the mixture and so does model {model!r:.80}; leave one out"
            )
        if said.routes or said.request_id is not None:
            raise ApiError(400, "'lora' fixes a mixture and says how to route; leave one out")
        return Target(_of_lora(service, said.mixture), lora=said)
    if said.request_id is not None:
        if said.routes or not (plain or model == AUTO):
            raise ApiError(
                400,
                "'lora' names the request whose routing serves, and asks for another one as well; "
                "leave one out",
            )
        return Target(receipt=said.request_id, lora=said)
    if model == AUTO or (plain and said.routes):
        return Target(lora=said)
    if said.routes:
        raise ApiError(
            400, f"'lora' says how to route and model {model!r:.80} fixes the mixture; ask 'auto'"
        )
    if plain:
        return Target(active=True, lora=said)
    assert model is not None
    if model == BASE_NAME:
        return Target(BASE, lora=said)
    return Target(_named(service, model), lora=said)


def known_models(service: Service) -> list[str]:
    """Everything that `model` may be, but for mixtures."""
    names = [entry.name for entry in service.system.registry.list_adapters()]
    return [AUTO, BASE_NAME, service.model_name, *dict.fromkeys(names)]


def _named(service: Service, model: str) -> Mixture:
    registry = service.system.registry
    if registry.knows(model):
        return _mixture(service, [(model, 1.0)])
    try:
        parts = parse_mixture(model)
    except ValueError as error:
        raise ApiError(404, f"unknown model: {error}") from None
    return _mixture(service, _whole_names(parts, model, registry))


def _whole_names(
    parts: Iterable[tuple[str, float]], model: str, registry: AdapterRegistry
) -> list[Part]:
    """The parts of a mixture; a name may have a colon and figures after it."""
    found: list[Part] = []
    for text, (name, weight) in zip(model.split("+"), parts, strict=True):
        whole = registry.knows(text.strip())
        found.append((text.strip(), 1.0) if whole else (name, weight))
    return found


def _of_lora(service: Service, parts: Iterable[Part]) -> Mixture:
    """A mixture in `lora`; a name that is nearly an option's is told as a slip in that."""
    try:
        return _mixture(service, parts)
    except ApiError as error:
        for name, _ in parts:
            if isinstance(name, str) and not service.system.registry.knows(name):
                near = difflib.get_close_matches(name, Lora.model_fields, n=1, cutoff=0.75)
                if near:
                    hint = f"{error.message}; or is it lora's option {near[0]!r}?"
                    raise ApiError(error.status, hint) from None
                break
        raise


def _mixture(service: Service, parts: Iterable[Part]) -> Mixture:
    registry = service.system.registry
    keyed = [(registry.get_adapter(_name(service, who)).key, weight) for who, weight in parts]
    mixture = Mixture.of(keyed)
    most = service.system.manager.options.max_loaded or registry.max_loaded
    if len(mixture.entries) > most:
        raise ApiError(
            400,
            f"a mixture of {len(mixture.entries)} adapters was asked for; at most {most} are on "
            "the device at once (manager.max_loaded)",
        )
    return mixture


def _name(service: Service, who: str | int) -> str:
    if isinstance(who, int):
        return service.adapters.ids.name_of(who)
    if not service.system.registry.knows(who):
        if who in service.reserved:
            raise ApiError(
                400, f"{who!r} is no adapter, so that no mixture has it; ask for it as 'model'"
            )
        raise unknown(service, who)
    return who


def unknown(service: Service, name: str) -> ApiError:
    """The refusal of a model or an adapter that is not known, with the nearest that is."""
    known = known_models(service)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
    return ApiError(
        404, f"unknown model {name!r:.80}{hint}; known: {listed}; GET /v1/models lists them"
    )
