"""What is shown of an answer, and where."""

from __future__ import annotations

import io
import sys

import pytest

from aiosmrt.cli.transcript import Transcript
from aiosmrt.payload import ChatChunk, ChatMessage, ToolCall


class _Both:
    """Standard output and standard error at once: a terminal shows both in their order."""

    def __init__(self, *, terminal: bool) -> None:
        self.shown = ""
        self._terminal = terminal

    @property
    def buffer(self) -> _Both:
        return self

    def isatty(self) -> bool:
        return self._terminal

    def write(self, data: str | bytes) -> None:
        self.shown += data.decode() if isinstance(data, bytes) else data

    def flush(self) -> None: ...


def _show(
    monkeypatch: pytest.MonkeyPatch, *chunks: ChatChunk, terminal: bool = False, term: str = "xterm"
) -> str:
    both = _Both(terminal=terminal)
    monkeypatch.setenv("TERM", term)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", both)
        patched.setattr(sys, "stderr", both)
        transcript = Transcript()
        for chunk in chunks:
            transcript.show(chunk)
        transcript.end()
        transcript.end()
    return both.shown


def _call(index: int, arguments: str, name: str = "", call_id: str = "") -> ChatChunk:
    return ChatChunk(0, tool_calls=(ToolCall(index, call_id, name, arguments),))


ANSWER = [
    ChatChunk(0),
    ChatChunk(0, reasoning="Hm, "),
    ChatChunk(0, reasoning="Zürich.\n"),
    ChatChunk(0, "Let me "),
    ChatChunk(0, "look."),
    _call(0, "", call_id="call_a"),
    _call(0, "", "get_weather"),
    _call(0, '{"city": '),
    _call(0, '"Zürich"}'),
    _call(1, "{}", "get_time"),
    ChatChunk(0, refusal="I will not."),
    ChatChunk(0, finish_reason="tool_calls"),
]
SHOWN = """\
[reasoning: Hm, Zürich.
]
Let me look.
[call get_weather {"city": "Zürich"}]
[call get_time {}]
[refusal: I will not.]
"""


def test_what_is_about_an_answer_is_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _show(monkeypatch, *ANSWER) == SHOWN


def test_an_answer_goes_to_standard_output_and_all_else_does_not(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    transcript = Transcript()
    for chunk in ANSWER:
        transcript.show(chunk)
    transcript.end()
    written = capsysbinary.readouterr()
    assert written.out == b"Let me look.\n"
    assert written.err.decode() == SHOWN.replace("Let me look.\n", "")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_is_not_to_dim_gets_the_same_text(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shown = _show(monkeypatch, *ANSWER, terminal=True, term=variables.get("TERM", "xterm"))
    assert shown == SHOWN


def test_a_terminal_shows_it_dimmed_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")  # which says nothing
    shown = _show(monkeypatch, *ANSWER, terminal=True)
    assert shown.startswith("\x1b[2m[reasoning: \x1b[0m\x1b[2mHm, \x1b[0m")
    assert "\nLet me look.\n" in shown
    assert shown.count("\x1b[2m") == shown.count("\x1b[0m")
    assert shown.replace("\x1b[2m", "").replace("\x1b[0m", "") == SHOWN


def test_pieces_of_calls_in_turn_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [_call(0, "[", "f"), _call(1, "{", "g"), _call(0, "]"), _call(1, "}")]
    assert _show(monkeypatch, *chunks) == "[call f []\n[call g {]\n[call f ]]\n[call g }]\n"


def test_no_word_of_a_model_controls_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "\x1b[2J\x1b]0;mine\x07word"
    chunks = [ChatChunk(0, words, words, words), _call(0, words, words)]
    shown = _show(monkeypatch, *chunks, terminal=True)
    shown = shown.replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert shown == "[reasoning: word]\nword\n[refusal: word]\n[call word word]\n"


@pytest.mark.parametrize(
    ("reason", "usage", "line"),
    [
        ("stop", None, ""),
        ("tool_calls", {}, ""),
        (
            None,
            {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
            "tokens: 9 prompt, 4 completion",
        ),
        (
            "length",
            {"completion_tokens": 4, "prompt_tokens": None},
            "ended by length; tokens: 4 completion",
        ),
        ("\x1b[2Jstrange\n", None, "ended by strange"),
    ],
)
def test_how_it_ended_and_what_it_cost(
    reason: str | None, usage: dict[str, int], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Transcript().close(ChatMessage(0, "", "", "", (), reason, usage))
    assert capsys.readouterr().err == (f"[{line}]\n" if line else "")


def test_an_answer_goes_on_where_nobody_hears_what_is_about_it(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    transcript = Transcript()
    for chunk in ANSWER:
        transcript.show(chunk)
    transcript.end()
    assert capsysbinary.readouterr().out == b"Let me look.\n"
