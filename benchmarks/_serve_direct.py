"""The system without the service, in a process of its own: `python -m benchmarks._serve_direct`.

A line of JSON in is a question, a line out its answer and the time to its first token, measured
here, from the question to the first piece of text.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from intrinsic.backends import Generation, GenerationOptions
from intrinsic.config import load_settings
from intrinsic.conversation import conversation_event
from intrinsic.system import System, open_system


async def main() -> None:
    """Answer until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = load_settings({"manager.max_loaded": int(sys.argv[1])}, environ={})
    async with open_system(settings) as system:
        print(json.dumps({"ready": True}), flush=True)
        while line := await reader.readline():
            print(json.dumps(await _answer(system, json.loads(line))), flush=True)


async def _answer(system: System, asked: dict[str, Any]) -> dict[str, Any]:
    turns = [{"role": "user", "content": asked["question"]}]
    options = GenerationOptions(max_new_tokens=asked["max_tokens"])
    started = time.perf_counter()
    what: Any = asked["mixture"]
    if what is None:
        what = conversation_event(turns)
        await system.bus.publish(what)
    first_ms = 0.0
    async with system.manager.lease(what) as lease:
        async for piece in lease.pieces(turns, options):  # type: ignore[arg-type]
            if isinstance(piece, Generation):
                whole = piece
            elif not first_ms and piece.text:
                first_ms = (time.perf_counter() - started) * 1e3
    return {"first_ms": first_ms, "text": whole.text, "tokens": whole.tokens}


if __name__ == "__main__":
    asyncio.run(main())
