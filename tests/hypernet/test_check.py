"""The check on one example: weights that do not help are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.check import Example, ExampleCheck, check_on_backend, check_on_model
from intrinsic.mixture import BASE, Mixture
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer, tokens, write_adapter


@pytest.mark.parametrize(
    ("base_loss", "loss", "passed"),
    [
        (2.0, 1.0, True),
        (2.0, 1.95, False),
        (2.0, 2.5, False),
        (2.0, float("nan"), False),
        (float("nan"), 1.0, False),
    ],
)
def test_the_loss_must_fall_by_more_than_the_margin(
    base_loss: float, loss: float, passed: bool
) -> None:
    assert ExampleCheck(base_loss, loss, margin=0.1, share=0.0).passed is passed


@pytest.mark.parametrize(("base_loss", "loss", "passed"), [(4.0, 3.1, False), (4.0, 2.9, True)])
def test_the_loss_must_fall_by_a_share_of_what_it_was(
    base_loss: float, loss: float, passed: bool
) -> None:
    check = ExampleCheck(base_loss, loss, margin=0.1, share=0.25)
    assert (check.needed, check.passed) == (1.0, passed)


def test_the_reason_gives_both_losses() -> None:
    reason = ExampleCheck(1.7, 8.1, margin=0.1, share=0.0).reason
    assert reason == (
        "on the example the loss is 8.100 with the generated weights and 1.700 without; "
        "it must fall by more than 0.1"
    )


@pytest.mark.parametrize(("prompt", "response"), [("", "a"), ("a", "")])
def test_an_example_has_two_sides(prompt: str, response: str) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        Example(prompt, response)


@both_backends
async def test_on_a_backend_the_answer_of_the_adapter_passes_and_that_of_the_base_does_not(
    tmp_path: Path,
) -> None:
    model = llama()
    folder = write_adapter(tmp_path / "a", model, alpha=40)
    backend = TransformersBackend(model, tokenizer())
    await backend.load_lora_adapter(str(folder), "a")
    adapted, options = Mixture.of({"a": 1.0}), GenerationOptions(max_new_tokens=5)
    for mixture, passed in ((adapted, True), (BASE, False)):
        answer = await backend.generate("abc", mixture=mixture, options=options)
        example = Example("abc", answer.text)
        check = await check_on_backend(backend, adapted, example, share=0.0)
        assert check.passed is passed
        (score,) = await backend.score("abc", [answer.text], mixture=adapted)
        assert check.loss == -score.log_likelihood / score.tokens


@contextmanager
def turned(model: Any, factor: float) -> Iterator[None]:
    """Logits times a factor while the context lasts: sharper above 1, reversed below 0."""
    with torch.no_grad():
        kept = model.lm_head.weight.detach().clone()
        model.lm_head.weight.mul_(factor)
        yield
        model.lm_head.weight.copy_(kept)


def test_on_a_model_only_the_answers_tokens_count() -> None:
    model, ids = llama(), tokens(1, 8)
    labels = torch.full_like(ids, -100)
    labels[0, 5:] = ids[0, 5:]
    check = check_on_model(model, ids, labels, nullcontext)
    with torch.no_grad():
        logs = model(input_ids=ids).logits[0].log_softmax(-1)
    wanted = -sum(float(logs[at - 1, ids[0, at]]) for at in (5, 6, 7)) / 3
    assert check.base_loss == check.loss == pytest.approx(wanted, abs=1e-5)
    assert not check.passed


def test_on_a_model_what_helps_passes_and_what_harms_does_not() -> None:
    model, ids = llama(), tokens(1, 8)
    with torch.no_grad():
        best = model(input_ids=ids).logits.argmax(-1)
    ids = torch.cat([ids, best[:, -1:]], dim=1)
    labels = torch.full_like(ids, -100)
    labels[0, -1] = ids[0, -1]
    assert check_on_model(model, ids, labels, lambda: turned(model, 3.0), share=0.0).passed
    assert not check_on_model(model, ids, labels, lambda: turned(model, -3.0), share=0.0).passed


def test_without_an_answer_there_is_nothing_to_judge() -> None:
    ids = tokens(1, 4)
    labels = torch.full_like(ids, -100)
    labels[0, 0] = 3  # nothing comes before it that could say it
    with pytest.raises(HypernetError, match="hold no answer"):
        check_on_model(llama(), ids, labels, nullcontext)
