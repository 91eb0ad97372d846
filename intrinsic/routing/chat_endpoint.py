"""A judge behind HTTP: any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from intrinsic.errors import ConfigError, RoutingError
from intrinsic.extras import how_to_install
from intrinsic.routing.card_lines import card_lines, one_line
from intrinsic.routing.chat_answer import AnswerError, ChatAnswer, read_answer
from intrinsic.routing.judge import Candidate, Judgement

if TYPE_CHECKING:
    import ssl

_MOST_BYTES = 1_000_000
_SHOWN = 200
_QUERY_SHARE = 0.4
_REFUSED_AS_ASKED = (400, 422)
_TASK = (
    "You route questions to specialists. Answer with the number of the one specialist who should "
    "answer the question, or with 0 if none of them should. Write the number and nothing else."
)


class ChatEndpoint:
    """Asks `POST {base_url}/chat/completions` for one candidate's number, or 0 for none.

    A `base_url` without a path gets `/v1`. The confidence is the probability that the server gives
    its answer (`logprobs`); where it gives none, the fixed `confidence`. The `api_key` is sent as a
    bearer token and shown nowhere. Needs the extra `endpoint`. Raises `ConfigError` for
    settings that are not valid.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 10.0,
        confidence: float = 0.75,
        max_prompt_chars: int = 8_000,
    ) -> None:
        self.url = _completions_url(base_url)
        self.model = model
        self.timeout_s = timeout_s
        self.confidence = confidence
        self.max_prompt_chars = max_prompt_chars
        self._api_key = api_key
        self._is_plain = False
        self._tls: ssl.SSLContext | None = None
        if not isinstance(model, str) or not model.strip():
            raise ConfigError(f"model is {model!r}; name a model of the endpoint")
        if not (math.isfinite(timeout_s) and timeout_s > 0.0):
            raise ConfigError(f"timeout_s is {timeout_s}; it must be a finite number above 0")
        if not 0.0 <= confidence <= 1.0:
            raise ConfigError(f"confidence is {confidence}; it must lie in [0, 1]")
        if max_prompt_chars < 100:
            raise ConfigError(f"max_prompt_chars is {max_prompt_chars}; it must be at least 100")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key):
            raise ConfigError(
                "api_key is empty or holds a character that no header carries (a line break?); "
                "check where it is read from"
            )
        if importlib.util.find_spec("httpx") is None:
            raise ConfigError(
                "an endpoint needs httpx, which is not installed; " + how_to_install("endpoint")
            )

    def __repr__(self) -> str:
        return f"ChatEndpoint({self.url!r}, {self.model!r}, timeout_s={self.timeout_s:g})"

    async def judge(self, query: str, candidates: Sequence[Candidate]) -> Judgement:
        """Ask within `timeout_s`.

        Raises `RoutingError`, in one sentence, for an endpoint that cannot be reached, is too slow,
        refuses, or answers anything but a candidate's number.
        """
        try:
            with anyio.fail_after(self.timeout_s):
                reply = await self._complete(query, candidates)
        except TimeoutError:
            raise self._failed(f"did not answer within {self.timeout_s:g} s") from None
        try:
            answer = read_answer(reply, len(candidates))
        except AnswerError as error:
            raise self._failed(f"gave no answer that counts: {error}") from None
        return self._judgement(answer, len(candidates))

    def _judgement(self, answer: ChatAnswer, count: int) -> Judgement:
        said = f"{self.model} answered {answer.number or 'none of them'}"
        known = answer.probabilities
        how = "" if known is not None else ", without a probability"
        if known is None:
            known = {answer.number: self.confidence}
        numbers = range(1, count + 1)
        return Judgement(
            tuple(known.get(number, 0.0) for number in numbers),
            tuple(
                f"{self.model} answered its number{how}" if number == answer.number else said
                for number in numbers
            ),
        )

    async def _complete(self, query: str, candidates: Sequence[Candidate]) -> object:
        """Ask with all that helps; a server that refuses that is asked for the bare minimum."""
        body = self._body(query, candidates)
        helping = {"temperature": 0, "max_tokens": 16, "logprobs": True, "top_logprobs": 20}
        status, text = await self._post(body if self._is_plain else {**body, **helping})
        if status in _REFUSED_AS_ASKED and not self._is_plain:
            status, text = await self._post(body)
            self._is_plain = status == 200
        if status != 200:
            raise self._failed(f"answered with status {status}: {self._shown(text)}")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise self._failed(f"answered with no JSON: {self._shown(text)}") from None

    async def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        import httpx

        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            if self._tls is None:
                self._tls = await anyio.to_thread.run_sync(httpx.create_ssl_context)
            async with (
                httpx.AsyncClient(timeout=self.timeout_s, verify=self._tls) as client,
                client.stream("POST", self.url, json=body, headers=headers) as response,
            ):
                text, size = b"", 0
                async for part in response.aiter_bytes():  # to its end: none is left half read
                    size += len(part)
                    text += part[: _MOST_BYTES - len(text)]
                status = response.status_code
        except Exception as error:  # of sockets, certificates, addresses, proxies, the protocol
            why = self._shown(str(error).encode())
            raise self._failed(f"failed: {type(error).__name__}: {why}") from None
        if size > _MOST_BYTES:
            raise self._failed(f"answered with more than {_MOST_BYTES:,} bytes")
        return status, text

    def _body(self, query: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
        room = int(self.max_prompt_chars * _QUERY_SHARE)
        lines = card_lines(candidates, examples=5, max_chars=self.max_prompt_chars - room)
        listed = "\n".join(
            f"{number}. {one.label}: {line}"
            for number, (one, line) in enumerate(zip(candidates, lines, strict=True), 1)
        )
        asked = f"{listed}\n0. none of them\n\nQuestion: {one_line(query, room)}\nNumber:"
        turns = [{"role": "system", "content": _TASK}, {"role": "user", "content": asked}]
        return {"model": self.model, "messages": turns}

    def _shown(self, text: bytes) -> str:
        """What may be told of a server's words: short, on one line, without the key."""
        said = text.decode(errors="replace")
        if self._api_key is not None:
            said = said.replace(self._api_key, "***")
        return one_line(said, _SHOWN) or "no words"

    def _failed(self, what: str) -> RoutingError:
        return RoutingError(f"the endpoint {self.url} {what}")


def _completions_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ConfigError("base_url is not valid; pass something like 'http://localhost:8000/v1'")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "base_url holds a user name, a query or a fragment; pass the address alone, and a key "
            "as api_key"
        )
    path = parts.path.rstrip("/") or "/v1"
    if not path.endswith("/chat/completions"):
        path += "/chat/completions"
    return f"{parts.scheme}://{parts.netloc}{path}"
