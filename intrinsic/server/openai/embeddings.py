"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from intrinsic.embedding import EmbeddingProvider
from intrinsic.registry import AdapterRegistry
from intrinsic.server.access import Plain, Serving
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.lora_field import LoraField, Part
from intrinsic.server.openai.sampling import Text
from intrinsic.server.openai.target import AUTO, BASE_NAME
from intrinsic.server.refusals import refusals
from intrinsic.server.turn import turn

router = APIRouter(tags=["openai"])

_MOST_TEXTS = 2048
_WORDS = re.compile(r"\w+|[^\w\s]")


def _texts(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and any(isinstance(one, int | list) for one in value):
        raise ValueError(
            "token ids are not read here, as the encoder has a tokenizer of its own; send texts "
            "(LangChain: check_embedding_ctx_length=False)"
        )
    return value


class EmbeddingRequest(BaseModel):
    """What `POST /v1/embeddings` takes. `lora` names adapters of the encoder, with weights."""

    model_config = ConfigDict(extra="allow")

    input: Annotated[
        list[Text],
        BeforeValidator(_texts, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=_MOST_TEXTS),
    ]
    model: str | None = Field(default=None, max_length=4000)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    lora: LoraField = None


class Embedding(BaseModel):
    """One vector: numbers, or their little-endian float32 as base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Words and marks of the texts, which is near the encoder's own tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """One vector per text, in their order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@router.post(
    "/v1/embeddings",
    summary="Texts as vectors",
    response_model=EmbeddingList,
    responses=refusals(404, 409, 429),
)
async def embeddings(
    body: EmbeddingRequest, request: Request, service: Serving, who: Plain
) -> Response:
    """Embed texts with the encoder, under the adapters that `model` or `lora` name."""
    provider = await service.embedding()
    if body.dimensions not in (None, provider.dimension):
        raise ApiError(
            400,
            f"dimensions is {body.dimensions}; vectors of this encoder have {provider.dimension}, "
            "and a part of one is none",
        )
    adapter = _adapter(body, provider, service.system.registry)
    async with turn(request, service.queue.place()):
        vectors = await provider.embed_batch(body.input, adapters=adapter)
    words = sum(len(_WORDS.findall(text)) for text in body.input)
    return JSONResponse(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _packed(vector)
                    if body.encoding_format == "base64"
                    else [float(one) for one in vector],
                }
                for index, vector in enumerate(vectors)
            ],
            "model": body.model or provider.name,
            "usage": {"prompt_tokens": words, "total_tokens": words},
        }
    )


def _packed(vector: Any) -> str:  # noqa: ANN401
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")


def _adapter(
    body: EmbeddingRequest, provider: EmbeddingProvider, registry: AdapterRegistry
) -> str | dict[str, float] | None:
    """What `model` and `lora` name; None is the encoder as it is configured."""
    own = {None, "", AUTO, provider.name, Path(provider.name).name}
    if body.lora is not None:
        if body.lora.routes or body.lora.mixture is None:
            raise ApiError(400, "texts are embedded without routing; give weights in 'lora'")
        if body.model not in own:
            raise ApiError(400, "both 'model' and 'lora' name adapters; leave one out")
        return _weights(body.lora.mixture)
    if body.model in own:
        return None
    assert body.model is not None
    if body.model in (BASE_NAME, "default") or registry.knows(body.model):
        return body.model
    raise ApiError(
        404,
        f"unknown encoder {body.model!r:.80}; ask {Path(provider.name).name!r}, 'base', or an "
        "adapter that was made for it",
    )


def _weights(parts: list[Part]) -> dict[str, float]:
    found: dict[str, float] = {}
    for who, weight in parts:
        if isinstance(who, int):
            raise ApiError(400, "adapters of the encoder have no numbers; name them")
        if who in found:
            raise ApiError(400, f"adapter {who!r:.80} is named twice; add its weights up")
        found[who] = weight
    return found
