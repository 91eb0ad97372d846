"""Texts of many callers, encoded together: whatever comes while the model is busy is one batch.

callers (any task, thread, event loop) -> waiting, in turn -> one thread -> the model
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

import anyio
import numpy as np
from anyio.lowlevel import EventLoopToken, current_token

from intrinsic.errors import AdapterError, EncoderError
from intrinsic.exiting import exit_waits
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector
from intrinsic.worker import post_on_loop

_IDLE_S = 10.0

_T = TypeVar("_T", bound=Hashable)
"""A text, or a text with all that its vector depends on."""

Answer = Vector | Exception
"""A text's vector, or the error that is its own and no other text's."""


class QueryBatches(Generic[_T]):
    """Gives each caller the vectors of its own texts, whoever else waits.

    Callers take turns, so that few texts never wait behind many. A text that several ask for is
    encoded once. `encode` gives a vector per text, or the error that is that text's own. When a
    batch fails its texts are tried one by one, and only the callers of those that fail again get
    the error; an error of `prepare`, which is called before each batch, is for all of its callers.
    A caller that leaves takes only its own waiting texts with it.
    """

    def __init__(
        self,
        prepare: Callable[[], object],
        encode: Callable[[list[_T]], Iterable[Answer]],
        *,
        name: str,
        size: int,
        busy_timeout_s: float,
    ) -> None:
        self._prepare = prepare
        self._encode = encode
        self._name = name
        self._size = size
        self._busy_timeout_s = busy_timeout_s
        self._changed = threading.Condition()
        self._calls: deque[_Call[_T]] = deque()
        self._flying: frozenset[_T] = frozenset()
        self._moved_at = 0.0
        self._thread: threading.Thread | None = None

    async def embed(self, texts: Sequence[_T]) -> Vectors:
        """Return one vector per text, in their order; raises `EncoderError`.

        An `AdapterError` stays what it is, all else that went wrong becomes an `EncoderError`.
        It raises too when the model has not got done with others' texts for `busy_timeout_s`.
        """
        call = _Call(texts)
        with self._changed:
            self._calls.append(call)
            self._wake()
        try:
            while not call.done.is_set():
                with anyio.move_on_after(self._busy_timeout_s):
                    await call.done.wait()
                if not call.done.is_set():
                    self._refuse_if_stuck(call)
        finally:
            with self._changed:
                if call in self._calls:
                    self._calls.remove(call)
        if call.error is not None:
            kind = type(call.error) if isinstance(call.error, AdapterError) else EncoderError
            raise kind(str(call.error)) from call.error
        return np.stack([call.vectors[text] for text in texts])

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # a fork leaves it behind
            self._moved_at = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="intrinsic-encoder", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _refuse_if_stuck(self, call: _Call[_T]) -> None:
        with self._changed:
            stuck_s = time.monotonic() - self._moved_at
            if stuck_s < self._busy_timeout_s or not self._flying.isdisjoint(call.missing):
                return
        raise EncoderError(
            f"encoder {self._name!r} was busy for {self._busy_timeout_s:g} s; "
            "raise busy_timeout_s or send fewer texts at once"
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._changed.wait(_IDLE_S)
                if not self._calls:
                    self._thread = None
                    return
                batch = self._next_batch()
                self._flying = frozenset(batch)
                self._moved_at = time.monotonic()
            with exit_waits():
                self._answer(batch)

    def _next_batch(self) -> list[_T]:
        batch: dict[_T, None] = {}
        served = list(islice(self._calls, self._size))
        for share in (max(1, self._size // len(served)), self._size):
            for call in served:
                room = min(share, self._size - len(batch))
                batch.update(dict.fromkeys(call.first(room, batch)))
        self._calls.rotate(-len(served))
        return list(batch)

    def _answer(self, batch: list[_T]) -> None:
        try:
            self._prepare()
        except BaseException as error:  # the thread is nobody's; its callers are told
            self._deliver(dict.fromkeys(batch, error))
        else:
            self._answer_prepared(batch)

    def _answer_prepared(self, batch: list[_T]) -> None:
        try:
            answers = dict(zip(batch, self._encode(batch), strict=True))
        except BaseException as error:
            if len(batch) == 1:
                self._deliver({batch[0]: error})
                return
            for text in batch:
                self._answer_prepared([text])
        else:
            self._deliver(answers)

    def _deliver(self, answers: Mapping[_T, Vector | BaseException]) -> None:
        with self._changed:
            self._flying = self._flying.difference(answers)
            self._moved_at = time.monotonic()
            ended = [call for call in self._calls if call.take(answers)]
            for call in ended:
                self._calls.remove(call)
        for call in ended:
            call.post_done()


class _Call(Generic[_T]):
    """What one caller still waits for, and what it got."""

    def __init__(self, texts: Sequence[_T]) -> None:
        self.missing = dict.fromkeys(texts)
        self.vectors: dict[_T, Vector] = {}
        self.error: BaseException | None = None
        self.done = anyio.Event()
        self._token: EventLoopToken = current_token()

    def first(self, most: int, beside: Container[_T]) -> list[_T]:
        """Return the first texts that are missing and not among those `beside`."""
        return list(islice((text for text in self.missing if text not in beside), most))

    def take(self, answers: Mapping[_T, Vector | BaseException]) -> bool:
        """Take the answers to what is missing; True when nothing is left to wait for."""
        for text in self.missing.keys() & answers.keys():
            answer = answers[text]
            if isinstance(answer, BaseException):
                self.error = answer
                return True
            self.vectors[text] = answer
            del self.missing[text]
        return not self.missing

    def post_done(self) -> None:
        """From a thread, wake the caller; nobody is there where its event loop has ended."""
        post_on_loop(self._token, self.done.set)
