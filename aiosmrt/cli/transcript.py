"""How a terminal, or a pipe, shows an answer while it comes."""

from __future__ import annotations

import contextlib
import os
import sys

from aiosmrt.cli.terminal import Output, can_rewrite
from aiosmrt.payload import ChatChunk, ChatMessage, ToolCall
from aiosmrt.plain_text import strip_controls, to_line

__all__ = ["Transcript"]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"  # ECMA-48, section 8.3.117
# Reasons to end that say no more than that there is an end.
_ENDS = (None, "stop", "tool_calls", "function_call")
_COUNTS = {"prompt_tokens": "prompt", "completion_tokens": "completion"}


class Transcript:
    """Writes answers on standard output, and what is about them on standard error.

    So a pipe gets the answers alone. Of what is about them, all is in brackets, and dimmed where
    standard error is a terminal that can, unless NO_COLOR forbids it (https://no-color.org).
    """

    def __init__(self) -> None:
        self._output = Output()
        self._remark: object = None  # what the bracket that is open is about
        self._has_text = False  # whether a line of the answer is open
        self._names: dict[int, str] = {}  # of the tools that are called
        self._dims = can_rewrite(sys.stderr) and not os.environ.get("NO_COLOR")

    def show(self, chunk: ChatChunk) -> None:
        """Show the next piece of an answer."""
        if chunk.reasoning:
            self._go_on("reasoning", "reasoning: ", chunk.reasoning)
        if chunk.text:
            self._close_remark()
            self._has_text = True
            self._output.write(chunk.text.encode())
        if chunk.refusal:
            self._go_on("refusal", "refusal: ", chunk.refusal)
        for call in chunk.tool_calls:
            self._show_call(call)

    def end(self) -> None:
        """End the lines that are open."""
        self._close_remark()
        self._close_text()

    def close(self, message: ChatMessage) -> None:
        """Say how an answer has ended, where that says something, and what it has cost."""
        said = []
        if message.finish_reason not in _ENDS:
            said.append(f"ended by {message.finish_reason}")
        counts = [
            f"{count} {name}"
            for member, name in _COUNTS.items()
            if isinstance(count := (message.usage or {}).get(member), int)
        ]
        if counts:
            said.append(f"tokens: {', '.join(counts)}")
        if said:
            self.remark("; ".join(said))

    def remark(self, text: str) -> None:
        """Write a line in brackets."""
        self.end()
        self._write(f"[{to_line(text)}]")
        self._write("\n")

    def _show_call(self, call: ToolCall) -> None:
        # What comes of a call before its name is little, and shown with it.
        if call.name or call.arguments:
            name = self._names[call.index] = call.name or self._names.get(call.index, "")
            self._go_on(call.index, f"call {to_line(name)} ", call.arguments)

    def _go_on(self, about: object, beginning: str, text: str) -> None:
        """Write the next piece of a remark."""
        if about != self._remark:
            self.end()
            self._remark = about
            self._write(f"[{beginning}")
        self._write(strip_controls(text))

    def _close_remark(self) -> None:
        if self._remark is not None:
            self._remark = None
            self._write("]")
            self._write("\n")

    def _close_text(self) -> None:
        if self._has_text:
            self._has_text = False
            self._output.write(b"\n")

    def _write(self, text: str) -> None:
        # Each piece is whole in itself: whatever stops the next one, the terminal is as it was.
        with contextlib.suppress(OSError):  # answers are worth more than what is about them
            sys.stderr.write(f"{_DIM}{text}{_PLAIN}" if self._dims and text.strip() else text)
            sys.stderr.flush()
