"""Heads are fitted beside the requests: the old one answers until the new one is ready."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

import anyio.to_thread
import numpy as np

from intrinsic.routing.blend import usual
from intrinsic.routing.dense import DenseView
from intrinsic.routing.head import MOST_ROWS, QUICK, Head, extended
from intrinsic.routing.index import CandidateView
from intrinsic.routing.tuning import tuned

_log = logging.getLogger(__name__)

MOST_WORK = 20_000_000
"""Texts times rows beyond which none is fitted: their logits alone take 80 MB."""

_MOST_WAITING = 8
_MOST_KEPT = 4


class Refit:
    """Fits the heads of views, the latest first; safe between threads and event loops.

    Of views that wait, the eight latest are kept; one that was dropped is `unfit` still, and can
    be queued again. A fit that fails is logged and leaves the head as it was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[CandidateView, DenseView] = OrderedDict()
        self._fitting: DenseView | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._fitted: OrderedDict[CandidateView, Head] = OrderedDict()  # the latest last

    def take(self, view: CandidateView, dense: DenseView) -> None:
        """Give `dense` the best head that is quickly to be had, and the fitted one when ready."""
        if not worth_fitting(dense):
            return
        dense.unfit = True
        if int(dense.sizes.sum()) * len(dense.cards) <= QUICK:
            self._fit(view, dense)
            return
        self._extend(view, dense)
        self.queue(view, dense)

    def queue(self, view: CandidateView, dense: DenseView) -> None:
        """Have `dense` fitted next, unless it is being fitted."""
        with self._lock:
            if dense is self._fitting:
                return
            self._waiting[view] = dense
            self._waiting.move_to_end(view)
            while len(self._waiting) > _MOST_WAITING:
                self._waiting.popitem(last=False)
            if not self._idle.is_set():
                return
            self._idle.clear()
        worker = threading.Thread(target=self._work, name="intrinsic-route-head", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._give_up()

    async def settled(self) -> None:
        """Wait until no head is being fitted."""
        await anyio.to_thread.run_sync(self._idle.wait, abandon_on_cancel=True)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._fitting = None
                if not self._waiting:
                    self._idle.set()
                    return
                view, self._fitting = self._waiting.popitem()
                dense = self._fitting
            if dense.unfit:
                self._fit(view, dense)

    def _give_up(self) -> None:
        with self._lock:
            for dense in self._waiting.values():
                dense.unfit = False
            self._waiting.clear()
            self._idle.set()
        _log.exception("no routing head could be fitted")

    def _fit(self, view: CandidateView, dense: DenseView) -> None:
        start = time.perf_counter()
        try:
            head, blend = tuned(view, dense)
        except Exception:
            _log.exception("the routing head of %d adapters could not be fitted", len(dense.cards))
            dense.unfit = False
            return
        dense.judge = (head, blend)
        dense.unfit = False
        with self._lock:
            self._fitted[view] = head
            while len(self._fitted) > _MOST_KEPT:
                self._fitted.popitem(last=False)
        spent = time.perf_counter() - start
        _log.debug("routing head of %d adapters fitted in %.2f s", len(dense.cards), spent)

    def _extend(self, view: CandidateView, dense: DenseView) -> None:
        """Take over the rows of the fitted head that has most of them, if that is half."""
        with self._lock:
            fitted = list(self._fitted.items())
        best, head = np.full(len(view.cards), -1), None
        for old_view, old in fitted:
            row_of = {card: row for row, card in enumerate(old_view.cards)}
            at = np.array([row_of.get(card, -1) for card in view.cards], np.intp)
            if (at >= 0).sum() >= (best >= 0).sum():
                best, head = at, old
        if head is None or (best >= 0).sum() * 2 < len(best):
            return
        own = np.stack([card.positive.mean(0) for card in dense.cards])
        blend = usual(dense.n_examples, fitted=True, worded=view.phrases is not None)
        dense.judge = (extended(head, best, dense.centroids, own), blend)


def worth_fitting(dense: DenseView) -> bool:
    """Whether there are examples enough to fit on, and not too many adapters or texts."""
    rows = len(dense.cards)
    enough = 2 <= rows <= MOST_ROWS and int(dense.n_examples.sum()) >= rows
    return enough and int(dense.sizes.sum()) * rows <= MOST_WORK
