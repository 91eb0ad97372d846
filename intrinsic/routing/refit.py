"""Heads are fitted beside the requests: the old one answers until the new one is ready."""

from __future__ import annotations

import logging
import threading
import time

import anyio.to_thread
import numpy as np

from intrinsic.routing.blend import usual
from intrinsic.routing.dense import DenseView
from intrinsic.routing.head import MOST_ROWS, Head, extended
from intrinsic.routing.index import CandidateView
from intrinsic.routing.tuning import tuned

_log = logging.getLogger(__name__)

QUICK = 20_000
"""Texts times rows up to which a head is fitted at once: some tens of milliseconds."""


class Refit:
    """Fits the heads of views, the latest first; safe between threads and event loops.

    A view that came while another was fitted waits; one that was waiting then is dropped. A fit
    that fails is logged and leaves the head as it was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: tuple[CandidateView, DenseView] | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._last: tuple[CandidateView, Head] | None = None

    def take(self, view: CandidateView, dense: DenseView) -> None:
        """Give `dense` the best head that is quickly to be had, and the fitted one when ready."""
        if not worth_fitting(dense):
            return
        if sum(len(card.positive) for card in dense.cards) * len(dense.cards) <= QUICK:
            self._fit(view, dense)
            return
        self._extend(view, dense)
        with self._lock:
            self._waiting = (view, dense)
            if not self._idle.is_set():
                return
            self._idle.clear()
        threading.Thread(target=self._work, name="intrinsic-route-head", daemon=True).start()

    async def settled(self) -> None:
        """Wait until no head is being fitted."""
        await anyio.to_thread.run_sync(self._idle.wait, abandon_on_cancel=True)

    def _work(self) -> None:
        while True:
            with self._lock:
                job, self._waiting = self._waiting, None
                if job is None:
                    self._idle.set()
                    return
            self._fit(*job)

    def _fit(self, view: CandidateView, dense: DenseView) -> None:
        start = time.perf_counter()
        try:
            head, blend = tuned(view, dense)
        except Exception:
            _log.exception("the routing head of %d adapters could not be fitted", len(dense.cards))
            return
        dense.judge = (head, blend)
        self._last = (view, head)
        spent = time.perf_counter() - start
        _log.debug("routing head of %d adapters fitted in %.2f s", len(dense.cards), spent)

    def _extend(self, view: CandidateView, dense: DenseView) -> None:
        """Take over the rows that the last head has, where it has most."""
        if self._last is None:
            return
        old_view, old = self._last
        row_of = {card: row for row, card in enumerate(old_view.cards)}
        at = np.array([row_of.get(card, -1) for card in view.cards], np.intp)
        if (at >= 0).sum() * 2 < len(at):
            return
        own = np.stack([card.positive.mean(0) for card in dense.cards])
        blend = usual(dense.n_examples, fitted=True)
        dense.judge = (extended(old, at, dense.centroids, own), blend)


def worth_fitting(dense: DenseView) -> bool:
    """Whether there are examples enough to fit on, and not too many adapters."""
    rows = len(dense.cards)
    return 2 <= rows <= MOST_ROWS and int(dense.n_examples.sum()) >= rows
