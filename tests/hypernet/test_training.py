"""Training end to end: what is learned, what is kept, and what is left as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.engine.fingerprint import fingerprint
from intrinsic.errors import BackendError, ConfigError, IncompatibleAdapterError
from intrinsic.hypernet.course import Course
from intrinsic.hypernet.curves import History, draw_curves
from intrinsic.hypernet.encoded import Batches, TaskEncoder
from intrinsic.hypernet.encoders import HashedStems, HashedWords
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.losses import divergence, mean_by_query, reconstruction
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.scores import TaskScore, generated_for, score_tasks
from intrinsic.hypernet.stored import stacked, stored_factors
from intrinsic.hypernet.targets import targets_of
from intrinsic.hypernet.tasks import Task
from intrinsic.training.lora.progress import Progress
from intrinsic.training.scoring import IGNORED
from tests.hypernet.taught import DIMENSION, PLAN, TASKS, course, model, network, task
from tests.tiny import llama, tokens, write_adapter
from tests.training.given import Told


def scores(course: Course, tasks: tuple[Task, ...], *, bare: bool = False) -> list[TaskScore]:
    encoder = TaskEncoder(course.model, course.tokenizer, course.encoder)
    network = None if bare else course.network
    return score_tasks(course.model, network, encoder.tasks(tasks))


def test_each_description_gets_weights_of_its_own() -> None:
    tasks = TASKS[:3]
    given = course(tasks=tasks, validation=())
    bare = scores(given, tasks, bare=True)
    assert scores(given, tasks) == bare  # ΔW is 0 before anything is learned
    made = train(given, replace(PLAN, steps=120, nonsense_share=0.0))
    assert made.train_loss is not None
    learned = scores(given, tasks)
    assert all(one.row_accuracy == 0 for one in bare)
    assert all(one.row_accuracy == 1 for one in learned)
    assert made.train_loss < 0.3 < 3 < min(one.loss for one in bare)


def test_the_model_and_the_random_state_are_what_they_were() -> None:
    given = course(model=model().train())
    before = fingerprint(given.model)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(given, PLAN)
    assert torch.equal(torch.rand(3), expected)
    assert fingerprint(given.model) == before
    assert given.model.training
    assert all(p.requires_grad and p.grad is None for p in given.model.parameters())
    assert not given.network.training


def test_a_course_ends_with_the_step_that_validated_best() -> None:
    """Validation asks for one letter, the tasks teach another, so that the first steps are best."""
    wrong = Task("wrong", TASKS[0].descriptions, TASKS[1].rows)
    told = Told()
    given = course(tasks=TASKS[:1], validation=[wrong])
    plan = replace(PLAN, steps=24, every=2, nonsense_share=0.0)
    made = train(given, plan, told)
    assert min(told.held_out, key=lambda step: told.held_out[step]) == made.best_step < 24
    assert made.validation_loss == told.held_out[made.best_step]
    encoded = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks([wrong])
    (found,) = score_tasks(given.model, given.network, encoded, rows=2, descriptions=2)
    assert found.loss == pytest.approx(made.validation_loss)


def test_noise_of_a_known_length_blurs_embeddings_and_comes_again_with_its_step() -> None:
    given = course(validation=())
    encoded = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks(TASKS)
    own = torch.cat([task.embeddings for task in encoded])
    plain = Batches(encoded, own[:0], replace(PLAN, embedding_noise=0.0))
    blurred = Batches(encoded, own[:0], replace(PLAN, embedding_noise=0.5))
    for step in range(20):
        clear, noisy = plain.at(step), blurred.at(step)
        assert torch.equal(clear.ids, noisy.ids)
        assert all((own == row).all(1).any() for row in clear.embeddings)
        far = (noisy.embeddings - clear.embeddings).norm(dim=1)
        assert (far > 0).all()
        assert far.max() < 0.5 * 1.6  # a random direction's length is 1 on average
        assert torch.equal(blurred.at(step).embeddings, noisy.embeddings)
    assert not torch.equal(blurred.at(0).embeddings, blurred.at(1).embeddings)


def test_it_stops_where_validation_gains_nothing_more() -> None:
    wrong = Task("wrong", TASKS[0].descriptions, TASKS[1].rows)
    plan = replace(PLAN, steps=60, every=2, patience=3, nonsense_share=0.0)
    told = Told()
    made = train(course(tasks=TASKS[:1], validation=[wrong]), plan, told)
    assert made.steps == made.best_step + 6 < 60
    assert told.steps[-1] == made.steps


def test_patience_begins_when_the_warm_up_is_over(tmp_path: Path) -> None:
    wrong = Task("wrong", TASKS[0].descriptions, TASKS[1].rows)
    adapters = {one.name: write_adapter(tmp_path / one.name, llama(), r=2) for one in TASKS[:1]}
    targets = targets_of(llama(), ["q_proj", "v_proj"])
    given = course(
        tasks=TASKS[:1],
        validation=[wrong],
        network=HyperNetwork(targets, DIMENSION, 4, 8.0),
        adapters=adapters,
    )
    plan = replace(PLAN, steps=4, every=2, patience=1, warm_up_steps=20, nonsense_share=0.0)
    made = train(given, plan)
    assert made.steps > 20
    assert made.best_step > 20
    assert made.train_loss is not None
    assert [step for step, _ in made.history.validated][:11] == [*range(2, 22, 2), 22]


def test_descriptions_that_say_nothing_to_the_encoder_are_refused_first() -> None:
    silent = Task("silent", ("!!!",), TASKS[0].rows)
    with pytest.raises(ConfigError, match=r"'silent': the encoder knows no word of .*'!!!'"):
        train(course(tasks=[*TASKS, silent], encoder=HashedStems(DIMENSION)), PLAN)


def test_cut_prompts_are_told() -> None:
    notes: list[str] = []

    class Noted(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    long = Task("long", ("say it",), ((" ".join("abcd" * 40), "a"), ("a", "b")))
    plan = replace(PLAN, steps=1, max_length=20)
    train(course(), plan, Noted())
    assert notes == []
    train(course(tasks=[*TASKS, long]), plan, Noted())
    assert notes == ["1 of 26 rows have more than 20 tokens; their prompts lose their beginning"]


def test_without_validation_the_last_step_is_kept() -> None:
    made = train(course(validation=()), PLAN)
    assert (made.best_step, made.validation_loss) == (12, None)
    assert made.history.validated == []


def test_nonsense_pulls_back_to_the_bare_model() -> None:
    """Trained on nothing but nonsense, a network that harms every query harms nonsense less."""
    given = course(validation=(), nonsense=["frob zib", "quux mol"])
    torch.manual_seed(1)
    for parameter in given.network.body.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made = train(given, replace(PLAN, steps=40, nonsense_share=0.999))
    values = [loss for _, loss in made.history.nonsense]
    assert len(values) == 40
    assert sum(values[-5:]) < 0.5 * sum(values[:5])


def test_the_warm_up_reproduces_stored_adapters(tmp_path: Path) -> None:
    model = llama()
    adapters = {
        one.name: write_adapter(tmp_path / one.name, model, r=2, seed=seed)
        for seed, one in enumerate(TASKS[:3])
    }
    targets = targets_of(model, ["q_proj", "v_proj"])
    torch.manual_seed(0)
    given = course(
        validation=(),
        network=HyperNetwork(targets, DIMENSION, 6, 12.0),
        adapters=adapters,
    )
    made = train(given, replace(PLAN, steps=1, warm_up_steps=250))
    assert made.steps == 251
    values = [loss for _, loss in made.history.warm_up]
    assert values[0] == pytest.approx(1.0)  # nothing is generated yet, all of ΔW is missing
    assert values[-1] < 0.2


def test_adapters_of_other_layers_are_refused(tmp_path: Path) -> None:
    adapters = {TASKS[0].name: write_adapter(tmp_path / "a", llama(), targets=["up_proj"])}
    small = HyperNetwork(targets_of(llama(), ["q_proj"]), DIMENSION, 4, 8.0)
    with pytest.raises(IncompatibleAdapterError, match=r"changes model.*up_proj, which is no"):
        train(course(network=small, adapters=adapters), PLAN)


def test_a_loss_that_runs_away() -> None:
    given = course()
    torch.nn.init.constant_(next(given.network.body.parameters()), math.inf)
    with pytest.raises(BackendError, match="no finite value at step 1"):
        train(given, PLAN)


def test_progress_and_history() -> None:
    told = Told()
    made = train(course(), replace(PLAN, steps=20), told)
    assert told.steps == list(range(1, 21))
    assert list(told.held_out) == [4, 8, 12, 16, 20]
    assert len(told.losses) == 2
    assert History.of(made.history.as_json()) == made.history
    losses = [*made.history.learned, *made.history.nonsense]
    assert sorted(step for step, _ in losses) == list(range(1, 21))


def test_curves_are_drawn(tmp_path: Path) -> None:
    history = History([(step, 1 / step) for step in range(1, 900)], [(3, 0.2)], [], [(4, 0.5)])
    assert draw_curves(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tasks": ()}, "no task to learn"),
        ({"encoder": HashedWords(32)}, "gives 32 numbers and the hypernetwork takes 64"),
        ({"adapters": {"x": Path("y")}}, "an adapter is given for the task 'x'"),
    ],
)
def test_what_a_course_refuses(changed: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        course(**changed)


def test_a_row_that_does_not_fit_is_named() -> None:
    long = Task("long", ("d",), (("p", "r"), ("p", "r" * 80)))
    with pytest.raises(ConfigError, match=r"task 'long', row 2: the answer alone has 81 tokens"):
        train(course(tasks=(long,)), PLAN)
    with pytest.raises(ConfigError, match="--max-length is 65; the model reads at most 64"):
        train(course(), replace(PLAN, max_length=65))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", 0, "--steps is 0; it must be a whole number of at least 1"),
        ("tasks_per_step", 1.5, "--tasks-per-step is 1.5"),
        ("patience", -1, "--patience is -1"),
        ("seed", 2**32, "--seed is 4294967296; it must .* at most 4294967295"),
        ("learning_rate", 0.0, "--lr is 0.0; it must be more than 0 and finite"),
        ("learning_rate", math.nan, "--lr is nan"),
        ("nonsense_share", 1.0, "--nonsense-share is 1.0; it must be at least 0 and less than 1"),
        ("weight_decay", math.inf, "--weight-decay is inf"),
        ("embedding_noise", -0.1, "--embedding-noise is -0.1"),
        ("max_length", 1, "--max-length is 1"),
        ("every", True, "--every is True"),
    ],
)
def test_settings_are_checked(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        HypernetPlan(**{name: value})


def test_the_learning_rate_rises_and_falls() -> None:
    plan = HypernetPlan(steps=200, learning_rate=1.0)
    rates = [plan.rate_at(step) for step in range(200)]
    assert max(rates) == rates[5] == rates[6] == 1.0
    assert rates[0] == pytest.approx(1 / 6)
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_every_architecture_trains() -> None:
    for name in ("core_diagonal", "per_rank", "shared_heads", "heads"):
        made = train(course(network=network(architecture=name), validation=()), PLAN)
        first, *_, last = (loss for _, loss in made.history.learned)
        assert last < first, name


def test_reconstruction_is_that_of_dense_matrices() -> None:
    generator = torch.Generator().manual_seed(3)

    def pairs(rank: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        shapes = ((5, 7), (4, 3))
        return [
            (
                torch.randn(2, rank, into, generator=generator),
                torch.randn(2, out, rank, generator=generator),
            )
            for out, into in shapes
        ]

    own, wanted = pairs(2), pairs(3)
    expected = torch.zeros(2)
    size = torch.zeros(2)
    for (A, B), (A_, B_) in zip(own, wanted, strict=True):
        expected += (1.5 * B @ A - B_ @ A_).square().sum((1, 2))
        size += (B_ @ A_).square().sum((1, 2))
    torch.testing.assert_close(reconstruction(own, wanted, 1.5), (expected / size).mean())


def test_stored_factors_of_several_ranks_are_stacked(tmp_path: Path) -> None:
    model = llama()
    targets = targets_of(model)
    folders = {
        "a": write_adapter(tmp_path / "a", model, r=2, alpha=6, targets=["q_proj"]),
        "b": write_adapter(tmp_path / "b", model, r=4, alpha=4, targets=["q_proj"], seed=1),
    }
    found = stored_factors(targets, folders)
    for target, (A, B) in zip(targets, stacked([found["a"], found["b"]]), strict=True):
        for at, name in enumerate("ab"):
            own_A, own_B = found[name][targets.index(target)]
            torch.testing.assert_close(B[at] @ A[at], own_B @ own_A)
        assert (target.kind == "q_proj") == bool((B @ A).any())


def test_divergence_and_means_by_query() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    assert float(divergence(logits, logits)) == pytest.approx(0, abs=1e-6)
    other = logits.roll(1, -1)
    bare = other.softmax(-1)
    expected = (bare * (bare.log() - logits.log_softmax(-1))).sum(-1).mean()
    torch.testing.assert_close(divergence(logits, other), expected)
    labels = torch.tensor([[9, IGNORED, 9], [9, 9, IGNORED], [9, 9, 9], [9, IGNORED, 9]])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    found = mean_by_query(values, labels, 2)
    assert found.tolist() == [1.5, 4.0]


def test_scores_are_those_of_one_row_at_a_time() -> None:
    given = course()
    torch.nn.init.normal_(given.network.body.get_parameter("cores.weight"))
    rows = (("a", "x"), ("bcd", "yz"), ("ef", "w"))
    tasks = [Task(f"t{n}", (f"d{n}", f"e{n}"), rows[: n + 1]) for n in range(3)]
    encoder = TaskEncoder(given.model, given.tokenizer, given.encoder)
    encoded = encoder.tasks(tasks)
    found = score_tasks(given.model, given.network, encoded, descriptions=2)
    for one, task_ in zip(found, encoded, strict=True):
        losses = []
        for embedding in task_.embeddings:
            for row in task_.rows:
                ids, labels = torch.tensor([row.ids]), torch.tensor([row.labels])
                with generated_for(given.model, given.network, embedding[None]):
                    logits = given.model(ids).logits[:, :-1].log_softmax(-1)
                at = labels[0, 1:] != IGNORED
                losses += (-logits[0, at].gather(1, labels[0, 1:][at][:, None])).flatten().tolist()
        assert one.loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
        assert one.rows == len(task_.rows)


@pytest.mark.parametrize("rows", [0, -1])
def test_no_rows_are_not_scored(rows: int) -> None:
    given = course()
    encoded = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks(TASKS[:1])
    with pytest.raises(ConfigError, match=f"--rows is {rows}; it must be at least 1"):
        score_tasks(given.model, given.network, encoded, rows=rows)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_trains_and_validates_on_cuda() -> None:
    given = course(model=model().to("cuda"))
    trained = train(given, PLAN)
    assert trained.validation_loss is not None
    assert trained.validation_loss < 10


def test_a_bare_score_has_no_weights_on_the_model() -> None:
    given = course()
    bare = given.model(tokens()).logits
    with generated_for(given.model, None, torch.zeros(1, DIMENSION)):
        assert torch.equal(given.model(tokens()).logits, bare)
    assert task("a").name == "say-a"
