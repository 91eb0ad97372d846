"""A live model behind the seam: generate, stream, score, each under its mixture."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
import torch

from intrinsic.backends import Capability, Generation, GenerationOptions, ModelBackend
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import AdapterNotLoadedError, BackendError, CheckpointError, ConfigError
from intrinsic.mixture import BASE, Mixture
from tests.bus.backends import both_backends
from tests.tiny import gpt2, llama, tokenizer, write_adapter

SHORT = GenerationOptions(max_new_tokens=12)
A = Mixture.of({"a": 1.0})
B = Mixture.of({"b": -0.7})


async def backend_with_adapters(folder: Path) -> TransformersBackend:
    backend = TransformersBackend(llama(), tokenizer(), name="tiny")
    for seed, name in enumerate("ab", 1):
        path = write_adapter(folder / name, backend.model, seed=seed)
        await backend.load_lora_adapter(str(path), name)
    return backend


@both_backends
async def test_greedy_text_is_transformers_own(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    ids = torch.tensor([backend.tokenizer("hello")["input_ids"]])
    expected = backend.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )
    text = backend.tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)
    generation = await backend.generate("hello", options=SHORT)
    assert generation.text == text
    assert generation.tokens == 12
    assert generation.prompt_tokens == 5
    assert generation.finish_reason == "length"
    assert generation.generate_ms > 0


@both_backends
async def test_load_changes_the_output_and_unload_gives_it_back(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    digest = await backend.fingerprint()
    base = await backend.generate("hello", options=SHORT)
    texts = {(await backend.generate("hello", mixture=m, options=SHORT)).text for m in (A, B)}
    assert len(texts | {base.text}) == 3
    await backend.merge(A)
    merged = await backend.generate("hello", mixture=A, options=SHORT)
    assert merged.text in texts
    await backend.restore()
    for name in "ab":
        await backend.unload_lora_adapter(name)
    assert (await backend.generate("hello", options=SHORT)).text == base.text
    assert await backend.fingerprint() == digest


@both_backends
async def test_sessions_side_by_side_get_exactly_what_each_gets_alone(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    mixtures = [A, B, BASE, Mixture.of({"a": 0.5, "b": 0.5})]
    sampled = GenerationOptions(max_new_tokens=20, temperature=1.2, seed=7, top_k=30, top_p=0.95)
    alone = [await backend.generate("hello", mixture=m, options=sampled) for m in mixtures]
    together: dict[int, Generation] = {}

    async def session(number: int) -> None:
        for _ in range(3):
            together[number] = await backend.generate(
                "hello", mixture=mixtures[number], options=sampled
            )
            assert together[number].text == alone[number].text

    async with anyio.create_task_group() as tasks:
        for number in range(len(mixtures)):
            tasks.start_soon(session, number)
    assert len(together) == len(mixtures)
    assert len({generation.text for generation in together.values()}) == len(mixtures)


@both_backends
async def test_streamed_pieces_join_to_the_generated_text(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    pieces = [piece async for piece in backend.stream("hello", mixture=A, options=SHORT)]
    assert len(pieces) > 1
    assert "".join(pieces) == (await backend.generate("hello", mixture=A, options=SHORT)).text


@both_backends
async def test_leaving_a_stream_early_frees_the_adapter(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    long = GenerationOptions(max_new_tokens=50)
    async with aclosing(backend.stream("hello", mixture=A, options=long)) as stream:
        async for _ in stream:
            break
    await backend.unload_lora_adapter("a")


@both_backends
async def test_cancelling_a_generation_frees_the_adapter(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    async with anyio.create_task_group() as tasks:

        async def generate() -> None:
            await backend.generate("hello", mixture=A, options=GenerationOptions(max_new_tokens=55))

        tasks.start_soon(generate)
        while not backend.engine._running:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await backend.unload_lora_adapter("a")


@both_backends
async def test_stop_strings_end_the_text_before_them(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    whole = (await backend.generate("hello", options=SHORT)).text
    stop = whole[4:6]
    at = whole.index(stop)
    options = GenerationOptions(max_new_tokens=12, stop=(stop, "never"))
    generation = await backend.generate("hello", options=options)
    assert generation.text == whole[:at]
    assert generation.finish_reason == "stop"
    assert generation.tokens < 12


@both_backends
async def test_seeds_fix_what_is_drawn(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)

    async def draw(seed: int | None) -> str:
        options = GenerationOptions(max_new_tokens=20, temperature=1, seed=seed)
        return (await backend.generate("hello", options=options)).text

    state = torch.random.get_rng_state()
    assert await draw(1) == await draw(1) != await draw(2)
    assert len({await draw(None) for _ in range(3)}) == 3
    assert torch.equal(torch.random.get_rng_state(), state)


@both_backends
async def test_scores_are_log_likelihoods_of_the_answers(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    answers = ["yes", "no, never", *(f"answer {n}" for n in range(9))]
    scores = await backend.score("hello", answers, mixture=A)
    prompt = backend.tokenizer("hello")["input_ids"]
    for answer, score in zip(answers, scores, strict=True):
        ids = torch.tensor([prompt + backend.tokenizer(answer)["input_ids"]])
        with backend.engine.activate(A), torch.no_grad():
            log_probs = backend.model(ids).logits.log_softmax(-1)
        slow = sum(
            float(log_probs[0, at - 1, ids[0, at]]) for at in range(len(prompt), ids.shape[1])
        )
        assert score.tokens == len(answer)
        assert score.log_likelihood == pytest.approx(slow, abs=1e-3)
        assert score.per_token == pytest.approx(slow / len(answer), abs=1e-3)
    other = await backend.score("hello", answers[:1])
    assert other[0].log_likelihood != scores[0].log_likelihood
    assert await backend.score("hello", []) == []


@both_backends
async def test_chat_templates_are_used_where_the_model_has_one() -> None:
    backend = TransformersBackend(llama(), tokenizer(chat=True))
    plain = TransformersBackend(llama(), tokenizer())
    turns = await backend.generate([{"role": "user", "content": "hi"}], options=SHORT)
    text = await plain.generate("[user]hi[assistant]", options=SHORT)
    assert turns.text == text.text == (await backend.generate("hi", options=SHORT)).text
    assert turns.prompt_tokens == len("[user]hi[assistant]")


@pytest.mark.parametrize("prompt", ["", "  \n", []])
@both_backends
async def test_a_prompt_without_text_is_refused(prompt: str) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    with pytest.raises(BackendError, match="the prompt is empty"):
        await backend.generate(prompt)
    with pytest.raises(BackendError, match="an answer to score is empty"):
        await backend.score("x", [""])


@both_backends
async def test_answers_may_be_scored_without_a_question_where_a_template_frames_it() -> None:
    backend = TransformersBackend(llama(), tokenizer(chat=True))
    (blank,) = await backend.score("", ["yes"])
    (framed,) = await TransformersBackend(llama(), tokenizer()).score("[user][assistant]", ["yes"])
    assert blank.log_likelihood == pytest.approx(framed.log_likelihood, abs=1e-4)
    with pytest.raises(BackendError, match="the prompt is empty"):
        await TransformersBackend(llama(), tokenizer()).score("", ["yes"])


@both_backends
async def test_a_prompt_that_fills_the_context_is_refused_and_answers_fit_into_the_rest() -> None:
    backend = TransformersBackend(llama(), tokenizer())
    with pytest.raises(BackendError, match="has 64 tokens and the model reads 64"):
        await backend.generate("x" * 64)
    generation = await backend.generate("x" * 60, options=GenerationOptions(max_new_tokens=100))
    assert generation.tokens <= 4
    with pytest.raises(BackendError, match="have 70 tokens"):
        await backend.score("x" * 60, ["y" * 10])


@both_backends
async def test_errors_reach_the_caller_and_leave_the_model_free(tmp_path: Path) -> None:
    backend = await backend_with_adapters(tmp_path)
    with pytest.raises(AdapterNotLoadedError):
        await backend.generate("hello", mixture=Mixture.of({"ghost": 1.0}))
    with pytest.raises(AdapterNotLoadedError):
        async for _ in backend.stream("hello", mixture=Mixture.of({"ghost": 1.0})):
            pass
    with pytest.raises(CheckpointError):
        await backend.load_lora_adapter(str(tmp_path / "nowhere"), "c")
    assert backend.engine._running == 0


@both_backends
async def test_the_end_mark_ends_the_text() -> None:
    model = gpt2()
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        model.lm_head.weight[2] = 1.0
        model.transformer.ln_f.bias.fill_(5.0)
    backend = TransformersBackend(model, tokenizer())
    generation = await backend.generate("hello")
    assert (generation.text, generation.tokens, generation.finish_reason) == ("", 1, "stop")


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackendError, match="cannot load the model"):
        TransformersBackend.from_pretrained(tmp_path)


def test_weights_that_are_not_what_the_config_says_are_named(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    weights = tmp_path / "model.safetensors"
    for change, words in (
        ({"num_hidden_layers": 3}, "weights lack .* tensors"),
        ({"intermediate_size": 64}, "weights have other shapes"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(BackendError, match=words):
            TransformersBackend.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackendError, match="cannot load the model"):
        TransformersBackend.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"), [("", "the name is empty"), ("/nowhere", "the folder does not exist")]
)
def test_a_model_that_is_nowhere_is_refused_without_asking_the_hub(name: str, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        TransformersBackend.from_pretrained(name)


def test_a_saved_model_is_loaded_in_fp32_on_cpu(tmp_path: Path) -> None:
    llama(dtype=torch.bfloat16).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    backend = TransformersBackend.from_pretrained(tmp_path, device="cpu")
    assert backend.model.dtype == torch.float32
    assert backend.name == str(tmp_path)
    narrow = TransformersBackend.from_pretrained(tmp_path, dtype=torch.bfloat16, device="cpu")
    assert narrow.model.dtype == torch.bfloat16


def test_it_is_a_backend_that_can_do_everything() -> None:
    backend = TransformersBackend(llama(), tokenizer())
    assert isinstance(backend, ModelBackend)
    assert backend.get_capabilities() == frozenset(Capability)
    assert backend.supports("lora")
    assert not backend.supports("telepathy")


@pytest.mark.parametrize(
    "setting",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"max_new_tokens": True},
        {"temperature": "a"},
        {"temperature": 1e-300},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": "x"},
        {"top_k": 1.0},
        {"repetition_penalty": "a"},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"repetition_penalty": 0},
        {"stop": "text"},
        {"stop": ("",)},
    ],
)
def test_options_that_make_no_sense_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        GenerationOptions(**setting)  # type: ignore[arg-type]
