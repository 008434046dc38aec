"""Chunks to messages."""

from __future__ import annotations

import time

from aiosmrt.payload import ChatAccumulator, ChatChunk, ChatMessage, ToolCall


def test_nothing_is_an_empty_message() -> None:
    accumulator = ChatAccumulator()
    assert accumulator.messages == ()
    assert accumulator.message == ChatMessage(0, "", "", "", (), None, None)


def test_chunks_add_up_for_each_choice_and_can_be_had_at_any_time() -> None:
    accumulator = ChatAccumulator()
    accumulator.add(ChatChunk(1, "b", usage={"completion_tokens": 1}))
    accumulator.add(ChatChunk(0, "a", reasoning="r", refusal="n"))
    accumulator.add(
        ChatChunk(0, tool_calls=(ToolCall(1, "y", "g", ""), ToolCall(0, "x", "f", "{")))
    )
    assert accumulator.message.text == "a"
    assert accumulator.message.finish_reason is None
    accumulator.add(ChatChunk(0, "A", "R", "N", (ToolCall(0, "", "", "}"),), "stop"))
    accumulator.add(ChatChunk(0, usage={"completion_tokens": 2}))
    accumulator.add(ChatChunk(1, "B", finish_reason="length"))
    usage = {"completion_tokens": 2}
    calls = (ToolCall(0, "x", "f", "{}"), ToolCall(1, "y", "g", ""))
    assert accumulator.messages == (
        ChatMessage(0, "aA", "rR", "nN", calls, "stop", usage),
        ChatMessage(1, "bB", "", "", (), "length", usage),
    )
    assert accumulator.message == accumulator.messages[0]


def test_the_work_is_linear() -> None:
    def once(number: int) -> float:
        accumulator = ChatAccumulator()
        piece = (ToolCall(0, "", "", "x" * 50),)
        began = time.thread_time()
        for _ in range(number):
            accumulator.add(ChatChunk(0, "y" * 50, "z" * 50, "", piece))
        assert len(accumulator.message.text) == 50 * number
        return time.thread_time() - began

    few, many = (min(once(number) for _ in range(3)) for number in (2_000, 20_000))
    assert many < 40 * few  # measured: 10
