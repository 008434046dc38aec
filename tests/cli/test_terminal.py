"""What the command writes for people: text that controls no terminal."""

from __future__ import annotations

import io
import sys

import pytest

from aiosmrt.cli.terminal import Output, complain
from aiosmrt.errors import ConfigurationError, ConnectError, ModelError, ServiceError

# Clears the screen, sets the title, and is text in between; the last character is split.
SAID = "\x1b[2Jgone\x1b]0;owned\x07\n\tsaid\x9bK ✓".encode()


class _Stdout:
    def __init__(self, *, terminal: bool) -> None:
        self.buffer = io.BytesIO()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_terminal_gets_text_that_does_not_control_it(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = _Stdout(terminal=True)
    monkeypatch.setattr(sys, "stdout", stdout)
    output = Output()
    for start in range(0, len(SAID), size):
        output.write(SAID[start : start + size])
    shown = stdout.buffer.getvalue().decode()
    assert output.is_terminal
    assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]
    for words in ("gone", "\n\tsaid", " ✓"):
        assert words in shown


def test_a_file_gets_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = _Stdout(terminal=False)
    monkeypatch.setattr(sys, "stdout", stdout)
    output = Output()
    output.write(SAID)
    output.write(b"\xff\x00")
    assert stdout.buffer.getvalue() == SAID + b"\xff\x00"
    assert not output.is_terminal


@pytest.mark.parametrize(
    "error", [ServiceError(SAID.decode(), code="Strange\x1b[1mCode"), OSError(SAID.decode())]
)
def test_an_error_is_told_on_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    complain(error)
    told = capsys.readouterr().err
    assert told.startswith(f"aiosmrt: {type(error).__name__}: ")
    assert told.endswith("gone said ✓\n")
    assert told.removesuffix("\n").isprintable()


def test_an_error_names_its_class_once_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    complain(ModelError("region_name= is odd", advice="use invoke_endpoint_async."))
    complain(ConnectError("no connection; check endpoint_url"))
    complain(ConfigurationError("Pass region_name= to the client, or s3_endpoint_url='http://x'."))
    complain(ConfigurationError("ftp://x (the profile's endpoint_url)"))
    first, *others = capsys.readouterr().err.splitlines()
    # What the model has said stays as it is.
    assert first.count("ModelError") == 1
    assert "region_name= is odd" in first
    assert "use `aiosmrt invoke-async`." in first
    assert others == [
        "aiosmrt: ConnectError: no connection; check --endpoint-url",
        "aiosmrt: ConfigurationError: Pass --region, or --s3-endpoint-url='http://x'.",
        "aiosmrt: ConfigurationError: ftp://x (the profile's endpoint_url)",
    ]


@pytest.mark.parametrize(
    ("terminal", "said", "shown"),
    [
        (True, b"said", b"said\n"),
        (True, b"said\n", b"said\n"),
        (True, b"", b""),
        (False, b"said", b"said"),
    ],
)
def test_a_line_ends_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, said: bytes, shown: bytes, *, terminal: bool
) -> None:
    stdout = _Stdout(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", stdout)
    output = Output()
    output.write(said)
    output.write(b"")
    output.end()
    assert stdout.buffer.getvalue() == shown
