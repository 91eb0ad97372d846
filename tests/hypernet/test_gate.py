"""Who is refused, and how the threshold is found."""

from __future__ import annotations

import pytest
import torch

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.calibration import calibrate, calibrated_gate
from intrinsic.hypernet.encoders import HashedWords
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.probe import Probe
from tests.hypernet.nets import queries

AXES = torch.eye(4)
ASKED = ("weather", "price", "colour", "name", "size")
PLACES = ("city", "house", "river", "shop", "day")


def test_the_score_is_the_mean_cosine_of_the_nearest() -> None:
    gate = Gate(AXES, 0.5, neighbours=2)
    assert gate.score(torch.tensor([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.5)
    assert gate.score(torch.tensor([3.0, 3.0, 0.0, 0.0])) == pytest.approx(0.5**0.5)
    assert gate.score(torch.tensor([-1.0, -1.0, 0.0, 0.0])) == 0.0


def test_lengths_do_not_count() -> None:
    query = queries(1, dim=4)[0]
    one, other = Gate(AXES, 0.1), Gate(AXES * 5, 0.1)
    assert one.score(query) == pytest.approx(other.score(query * 7))


def test_fewer_descriptions_than_neighbours_all_count() -> None:
    gate = Gate(AXES[:2], 0.0, neighbours=4)
    assert gate.score(AXES[0]) == pytest.approx(0.5)


def test_far_from_all_is_refused_in_words() -> None:
    gate = Gate(AXES[:3], 0.3, neighbours=3)
    verdict = gate.admits(AXES[3])
    assert not verdict.admitted
    assert verdict.score == 0.0
    assert "3 nearest training descriptions is 0.000, below 0.300" in verdict.reason
    assert gate.admits(AXES[0]).admitted


def test_a_query_without_words_is_refused_whatever_the_threshold() -> None:
    verdict = Gate(AXES, -2.0).admits(torch.zeros(4))
    assert (verdict.admitted, verdict.score) == (False, 0.0)
    assert "it says nothing" in verdict.reason


def test_a_change_that_is_too_large_is_refused_in_words() -> None:
    gate = Gate(AXES, 0.0, max_relative_norm=0.5)
    assert gate.admits(AXES[0], 0.5).admitted
    refused = gate.admits(AXES[0], 0.51)
    assert not refused.admitted
    assert "is 0.51 of the weights' size, above 0.5" in refused.reason
    assert not gate.admits(AXES[0], float("nan")).admitted
    assert Gate(AXES, 0.0).admits(AXES[0], 99.0).admitted


@pytest.mark.parametrize(
    ("embedding", "words"),
    [
        (torch.ones(3), "has 3 values, the gate's descriptions have 4"),
        (torch.ones(2, 4), "has 8 values"),
        (torch.tensor([1.0, float("nan"), 0.0, 0.0]), "NaN or infinite"),
    ],
)
def test_an_embedding_that_cannot_be_judged_is_refused(embedding: torch.Tensor, words: str) -> None:
    with pytest.raises(HypernetError, match=words):
        Gate(AXES, 0.1).admits(embedding)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"max_relative_norm": 0.0}, "max_relative_norm is 0.0"),
        ({"neighbours": 0}, "neighbours is 0"),
    ],
)
def test_settings_that_are_not_valid_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Gate(**({"descriptions": AXES, "threshold": 0.1} | settings))  # type: ignore[arg-type]


def near(axis: int, count: int, seed: int) -> torch.Tensor:
    """Vectors near one axis of eight."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 8, generator=generator) * 0.1
    return torch.eye(8)[axis] + noise


def test_where_there_is_a_gap_the_threshold_lies_in_its_middle() -> None:
    tasks = {f"task {i}": near(0, 3, seed=i) for i in range(6)}
    found = calibrate(tasks, near(5, 20, seed=99))
    assert (found.refused_good, found.refused_nonsense, found.auroc) == (0.0, 1.0, 1.0)
    assert (found.good, found.nonsense) == (18, 20)
    gate = calibrated_gate(tasks, found, max_relative_norm=2.0)
    assert gate.admits(near(0, 1, seed=50)[0]).admitted
    assert not gate.admits(near(5, 1, seed=51)[0]).admitted
    assert gate.max_relative_norm == 2.0
    nonsense = max(gate.score(row) for row in near(5, 20, seed=99))
    lowest = 2 * found.threshold - nonsense
    assert nonsense < found.threshold < lowest


def test_a_task_is_scored_without_its_own_descriptions() -> None:
    tasks = {"alone": near(0, 3, seed=0), "other": near(1, 3, seed=1), "third": near(1, 3, seed=2)}
    found = calibrate(tasks, near(1, 10, seed=3), refuse_good=0.0)
    assert found.auroc < 0.5  # the task alone on its axis scores below what lies near the others


def test_where_they_overlap_at_most_the_given_share_of_the_good_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = {f"t{i}": torch.randn(10, 8, generator=generator) for i in range(20)}
    nonsense = torch.randn(200, 8, generator=generator)
    for share in (0.0, 0.01, 0.1):
        found = calibrate(tasks, nonsense, refuse_good=share)
        assert found.refused_good <= share
        assert 0.35 < found.auroc < 0.65
    assert found.refused_nonsense > 0.0


def test_words_that_nonsense_shares_are_not_enough_for_the_probe() -> None:
    encoder = HashedWords(256)
    asked = ("reverse the word", "double the word", "reverse the letters", "double the letters")
    tasks = {text: encoder.encode([text, f"please {text}"]) for text in asked}
    nonsense = [f"what is the {thing} of the {place}" for thing in ASKED for place in PLACES]
    probe = calibrate(tasks, encoder.encode(nonsense), refuse_good=0.0).probe
    foreign = encoder.encode(["what is the word of the day in the city"])[0]
    known = encoder.encode(["reverse double letters"])[0]
    descriptions = torch.cat([torch.from_numpy(rows) for rows in tasks.values()])
    assert Gate(descriptions, 0.5).admits(foreign).admitted
    gate = Gate(descriptions, 0.5, probe=probe)
    refused = gate.admits(foreign)
    assert not refused.admitted
    assert "log-odds against nonsense are" in refused.reason
    assert gate.admits(known).admitted


def test_the_probe_is_judged_on_what_it_has_not_seen() -> None:
    """Nonsense that could be learned by heart: fitted to all of it, the probe refuses all."""
    generator = torch.Generator().manual_seed(1)
    tasks = {f"t{i}": torch.randn(2, 64, generator=generator) for i in range(10)}
    nonsense = torch.randn(20, 64, generator=generator)
    found = calibrate(tasks, nonsense, refuse_good=0.0)
    everything = torch.cat(list(tasks.values()))
    assert found.probe.log_odds(everything).min() > found.probe.log_odds(nonsense).max()
    assert found.auroc < 0.8


def test_reworded_descriptions_set_how_far_a_query_may_be() -> None:
    tasks = {f"task {i}": near(0, 3, seed=i) for i in range(6)}
    far = {task: rows + 0.8 * torch.eye(8)[1] for task, rows in tasks.items()}
    strict = calibrate(tasks, near(5, 20, seed=99))
    loose = calibrate(tasks, near(5, 20, seed=99), reworded=far)
    assert loose.threshold < strict.threshold
    assert loose.probe.threshold == strict.probe.threshold
    nearer = {task: torch.eye(8)[:1] for task in tasks}
    same = calibrate(tasks, near(5, 20, seed=99), reworded=nearer)
    assert same.threshold == strict.threshold


def test_a_probe_that_cannot_judge_is_refused() -> None:
    with pytest.raises(HypernetError, match=r"direction has the shape \(2, 2\)"):
        Probe(torch.ones(2, 2), 0.0)
    with pytest.raises(HypernetError, match="NaN or infinite"):
        Probe(torch.ones(2), float("nan"))
    with pytest.raises(HypernetError, match="the probe has 3 values, the gate's descriptions"):
        Gate(AXES, 0.1, probe=Probe(torch.ones(3), 0.0))


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ConfigError, match="two tasks or more, not 1"):
        calibrate({"one": AXES}, AXES)
    with pytest.raises(ConfigError, match=r"refuse_good is 1\.5"):
        calibrate({"one": AXES, "two": AXES}, AXES, refuse_good=1.5)
    with pytest.raises(HypernetError, match="nonsense has the shape"):
        calibrate({"one": AXES, "two": AXES}, torch.zeros(0, 4))
