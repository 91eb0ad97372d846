"""The head: closed form, logistic regression, and what stands in until that is fitted."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import anyio
import numpy as np
import pytest
import scipy.optimize
from threadpoolctl import threadpool_info, threadpool_limits

from intrinsic.routing import head as head_module
from intrinsic.routing import refit
from intrinsic.routing.blend import usual
from intrinsic.routing.head import MOST_ROWS, Head, closed_form, extended, fit, units
from intrinsic.routing.refit import Refit, worth_fitting
from intrinsic.routing.tuning import tuned
from tests.bus.backends import both_backends
from tests.routing.vectors import crowd, near

NONE = np.zeros(0)


def _accuracy(score: object, ways: np.ndarray, noise: float = 1.5) -> float:
    rng = np.random.default_rng(9)
    asked = [(row, near(ways[row], noise, rng)) for row in range(len(ways)) for _ in range(20)]
    return float(np.mean([np.argmax(score(query, NONE)) == row for row, query in asked]))  # type: ignore[operator]


def test_the_closed_form_ranks_by_the_angle_to_what_is_special_of_each() -> None:
    _, dense, ways = crowd(30, 3)
    head = closed_form(dense.centroids)
    assert not head.fitted
    common = dense.centroids.mean(0) * 30 / 80
    expected = 20.0 * units(dense.centroids - common) @ (ways[3] - common)
    found = head.score(ways[3], dense.centroids.astype(np.float64) @ ways[3])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_regression_has_no_gradient_left_and_is_better_on_what_it_saw() -> None:
    _, dense, ways = crowd(6, 8, noise=1.2)
    texts = dense.texts()
    head = fit(texts, dense.centroids)
    assert head.fitted
    logits = texts.vectors @ head.W.T + head.b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert (p.argmax(1) == texts.owners).mean() == 1.0
    p[np.arange(len(p)), texts.owners] -= 1.0
    bias_gradient = p.T @ texts.weights  # the offsets are not drawn anywhere
    assert np.abs(bias_gradient).max() < 0.02
    assert _accuracy(head.score, ways) > 0.8


def test_many_examples_of_one_do_not_crowd_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    _, dense, ways = crowd(12, [2, 60] * 6, noise=1.2)
    rng = np.random.default_rng(5)
    asked = [(row, near(ways[row], 1.2, rng)) for row in range(0, 12, 2) for _ in range(30)]

    def found() -> float:
        score = fit(dense.texts(), dense.centroids).score
        return float(np.mean([score(query, NONE).argmax() == row for row, query in asked]))

    balanced = found()
    monkeypatch.setattr(head_module, "_balance", lambda texts: np.ones_like(texts.weights))
    assert balanced > found() + 0.05


def test_a_newcomer_is_found_before_the_head_is_fitted_anew_and_takes_nothing_from_others() -> None:
    _, dense, ways = crowd(20, 6, noise=1.0)
    old = fit(dense.texts(), dense.centroids)
    at = np.array([*range(19), -1])  # as if the last had not been there
    own = np.stack([card.positive.mean(0) for card in dense.cards])
    head = extended(old, at, dense.centroids, own)
    np.testing.assert_array_equal(head.W[:19], old.W[:19])
    assert head.score(ways[19], NONE).argmax() == 19
    assert all(head.score(ways[row], NONE).argmax() == row for row in range(19))


def test_the_blend_leans_on_nearness_where_adapters_are_uneven() -> None:
    even = usual(np.full(10, 20), fitted=True)
    uneven = usual(np.array([0, 40] * 5), fitted=True)
    assert even.near == pytest.approx(0.3)
    assert even.words == 0.2
    assert uneven.near > 0.9
    assert usual(np.full(10, 5), fitted=False, worded=False).words == 0.1
    assert usual(np.zeros(10, np.intp), fitted=False).words == 0.05


def test_cross_validation_takes_words_that_tell_more_than_meaning() -> None:
    view, dense, _ = crowd(8, 12, noise=6.0)  # vectors say little; texts begin with the row
    _, blend = tuned(view, dense)
    assert blend.words == 0.4
    clear_view, clear, _ = crowd(8, 12, noise=0.1)
    assert tuned(clear_view, clear)[1] == usual(clear.n_examples, fitted=True)


def test_nothing_is_fitted_on_cards_alone_or_beyond_a_thousand() -> None:
    assert not worth_fitting(crowd(5, 0)[1])
    assert not worth_fitting(crowd(1, 9)[1])
    assert worth_fitting(crowd(2, 1)[1])
    assert not worth_fitting(crowd(MOST_ROWS + 1, 1, d=2)[1])


@both_backends
async def test_the_old_head_answers_until_the_new_one_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view, dense, _ = crowd(6, 5)
    fits = Refit()
    fits.take(view, dense)
    first = dense.judge
    assert first[0].fitted  # few adapters: fitted at once
    monkeypatch.setattr(refit, "QUICK", 0)
    go, reached = threading.Event(), threading.Event()

    def slow(*_: object) -> object:
        reached.set()
        go.wait(10)
        return tuned(view, again)

    monkeypatch.setattr(refit, "tuned", slow)
    _, again, _ = crowd(6, 5)
    fits.take(view, again)
    await anyio.to_thread.run_sync(reached.wait, 10)
    assert again.judge[0].fitted
    assert isinstance(again.judge[0], Head)
    assert isinstance(first[0], Head)
    np.testing.assert_array_equal(again.judge[0].W, first[0].W)  # taken over
    held = again.judge
    go.set()
    await fits.settled()
    assert again.judge is not held


@both_backends
async def test_a_fit_that_fails_is_logged_and_leaves_the_closed_form(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> object:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(refit, "tuned", broken)
    view, dense, ways = crowd(6, 5)
    Refit().take(view, dense)
    assert "could not be fitted" in caplog.text
    assert not dense.judge[0].fitted
    assert dense.weigh(ways[2]).linear.argmax() == 2


@both_backends
async def test_without_a_thread_for_it_the_closed_form_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(refit, "QUICK", 0)
    view, dense, ways = crowd(6, 5)
    fits = Refit()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        fits.take(view, dense)
    assert "no routing head could be fitted" in caplog.text
    assert not dense.unfit
    assert dense.weigh(ways[2]).linear.argmax() == 2
    assert fits._idle.is_set()
    fits.queue(view, dense)
    await fits.settled()


class Held:
    """`scipy.optimize.minimize`, which holds fits of more than five rows until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = scipy.optimize.minimize
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.threads: list[set[int]] = []
        monkeypatch.setattr(scipy.optimize, "minimize", self)

    def __call__(self, loss: object, start: np.ndarray, **options: Any) -> object:
        self.threads.append(blas_threads())
        if len(start) > 5 * 25:
            self.reached.set()
            assert self.go_on.wait(30)
        return self.real(loss, start, **options)


def blas_threads() -> set[int]:
    """How many threads the BLAS libraries of this process use."""
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_a_quick_fit_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "QUICK", 100)
    held = Held(monkeypatch)
    _, large, _ = crowd(12, 8)
    _, small, ways = crowd(4, 2)
    slow = threading.Thread(target=fit, args=(large.texts(), large.centroids))
    slow.start()
    found: list[Head] = []
    quick = threading.Thread(target=lambda: found.append(fit(small.texts(), small.centroids)))
    try:
        assert held.reached.wait(30)
        quick.start()
        quick.join(10)
        assert found
        assert found[0].score(ways[3], NONE).argmax() == 3
    finally:
        held.go_on.set()
        for thread in (slow, quick):
            thread.join()


@pytest.mark.parametrize("fails", [False, True])
def test_the_threads_of_the_blas_are_given_back(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    held.go_on.set()
    if fails:
        monkeypatch.setattr(held, "real", lambda *_, **__: 1 / 0)
    _, dense, _ = crowd(12, 20)
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("a BLAS whose threads cannot be set")
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            fit(dense.texts(), dense.centroids)
        assert blas_threads() == {2}
    assert held.threads == [{1}]
