"""A conversation as an event: whose words count, and how much."""

from __future__ import annotations

from intrinsic.conversation import KEPT_PER_TURN, MOST_TURNS, conversation_event
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector


def heard(event: MemoryEvent) -> dict[str, float]:
    return {vector.source_text: vector.relevance_score for vector in event.vectors}


def turn(role: str, content: str) -> dict[str, object]:
    return {"role": role, "content": content}


def test_one_question_is_the_event_of_its_text() -> None:
    event = conversation_event([turn("system", "Be brief."), turn("user", "Is 91 prime?")])
    assert event.text == MemoryEvent.from_text("Is 91 prime?").text
    assert heard(event) == {"Is 91 prime?": 1.0}
    assert event.channel is InjectionChannel.DYNAMIC_LORA


def test_earlier_turns_of_the_user_count_less_and_nobody_elses_at_all() -> None:
    event = conversation_event(
        [turn("user", "first"), turn("assistant", "wrong"), turn("user", "second")]
    )
    assert heard(event) == {"second": 1.0, "first": KEPT_PER_TURN}
    assert event.text == "second\nfirst"


def test_of_a_long_conversation_the_latest_turns_count() -> None:
    event = conversation_event([turn("user", str(number)) for number in range(50)])
    assert list(heard(event)) == [str(49 - age) for age in range(MOST_TURNS)]


def test_where_no_user_spoke_the_last_turn_counts() -> None:
    event = conversation_event([turn("system", "one"), turn("assistant", "two")])
    assert heard(event) == {"two": 1.0}
    assert conversation_event([]).vectors == ()


def test_memories_ids_and_settings_come_along() -> None:
    memory = MemoryVector("m", "she is a nurse", relevance_score=0.3)
    event = conversation_event(
        [turn("user", "hello")],
        memories=[memory],
        request_id="r",
        session_id="s",
        metadata={"top_k": 1},
    )
    assert event.vectors[-1] is memory
    assert (event.context.request_id, event.context.session_id) == ("r", "s")
    assert event.metadata["top_k"] == 1
    assert len({vector.memory_id for vector in event.vectors}) == 2
