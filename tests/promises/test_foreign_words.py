"""The words of services, models and processes: one line in texts, logs and at the terminal.

Each place where such words come from is made to say what takes more than a line, controls a
terminal, or turns the direction of reading round. The error's attributes keep them as they were.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from aiosmrt import (
    AiosmrtError,
    AsyncInferenceError,
    RetryPolicy,
)
from aiosmrt.cli.terminal import complain
from aiosmrt.eventstream import encode_message
from aiosmrt.service.model import spell

if TYPE_CHECKING:
    from tests.conftest import Connect, EventStreams, SeenRequest, Serve

Respond: TypeAlias = Callable[..., bytes]
Answers: TypeAlias = dict[str, tuple[str, bytes, str]]
Check: TypeAlias = Callable[[AiosmrtError, str], None]

STREAM = "InvokeEndpointWithResponseStream"
ASYNC = "InvokeEndpointAsync"

# A colour, a title, a bell, lines of three kinds, and a control of eight bits.
WORDS = "said\r\n \x1b[31mred\x1b[0m\x1b]0;title\x07 on\u2028two \x9b1mlines and \u202ereversed"
LINE = "said red on two lines and reversed"
# What a header can hold of it.
VALUE = "said on\u2028two \u202ereversed".encode()
VALUE_LINE = "said on two reversed"


FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}
FORBIDDEN_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _is_plain(line: str) -> bool:
    return FORBIDDEN.isdisjoint(map(unicodedata.category, line)) and (
        FORBIDDEN_DIRECTIONS.isdisjoint(map(unicodedata.bidirectional, line))
    )


async def _call(client: Any, operation: str) -> None:
    outcome = await getattr(client, spell(operation))(endpoint_name="e", body=b"{}")
    await (outcome.result(timeout=5) if operation == ASYNC else outcome.read())


async def _fail(client: Any, operation: str) -> Any:
    """Make a call that must fail, and give its error."""
    with pytest.raises(AiosmrtError) as caught:
        await _call(client, operation)
    return caught.value


@pytest.fixture
def answers(respond: Respond, events: type[EventStreams]) -> Answers:
    """Give by names: the operation, what is answered, and what the error's text has of it."""
    said = {"message": WORDS}
    plain = "InvokeEndpoint"

    def stream(*frames: bytes) -> bytes:
        return events.head() + events.chunk(*frames) + events.END

    def turn(value: bytes, answer: bytes) -> bytes:
        return answer.replace(b"VALUE", value)

    return {
        "a message": (plain, respond(400, json.dumps(said).encode()), LINE),
        "a code": (plain, respond(400, json.dumps({"__type": WORDS}).encode()), "said red on"),
        "a container": (
            plain,
            respond(
                424,
                json.dumps({"OriginalStatusCode": 500, "OriginalMessage": WORDS}).encode(),
                x_amzn_errortype="ModelError",
            ),
            LINE,
        ),
        "a container's JSON": (
            plain,
            respond(
                424,
                json.dumps({"OriginalMessage": json.dumps({"error": WORDS})}).encode(),
                x_amzn_errortype="ModelError",
            ),
            LINE,
        ),
        "a log": (
            plain,
            respond(
                424, json.dumps({"LogStreamArn": WORDS}).encode(), x_amzn_errortype="ModelError"
            ),
            LINE,
        ),
        "a page": (plain, respond(502, WORDS.encode()), "said red on two"),
        "a place": (plain, turn(VALUE, respond(302, b"", location="VALUE")), VALUE_LINE),
        "a request's id": (
            plain,
            turn(VALUE, respond(400, b"{}", x_amzn_requestid="VALUE")),
            VALUE_LINE,
        ),
        "a media type": (
            STREAM,
            turn(VALUE, respond(200, b"", content_type="VALUE")),
            "not an event stream",
        ),
        "an exception": (
            STREAM,
            stream(events.exception("ModelStreamError", json.dumps({"Message": WORDS}).encode())),
            LINE,
        ),
        "an exception's code": (
            STREAM,
            stream(events.exception("ModelStreamError", json.dumps({"ErrorCode": WORDS}).encode())),
            LINE,
        ),
        "an exception without a message": (
            STREAM,
            stream(events.exception("Odd", WORDS.encode())),
            "said red on two lines",
        ),
        "an error": (
            STREAM,
            stream(
                encode_message(
                    {
                        ":message-type": "error",
                        ":error-code": WORDS,
                        ":error-message": WORDS,
                    },
                    b"",
                )
            ),
            "said red on two lines and reversed: said red on two lines and reversed",
        ),
        "a kind of message": (
            STREAM,
            stream(encode_message({":message-type": WORDS}, b"")),
            "whose :message-type is",
        ),
    }


NAMES = (
    *("a message", "a code", "a container", "a container's JSON", "a log", "a page", "a place"),
    *("a request's id", "a media type", "an exception", "an exception's code", "an error"),
    *("an exception without a message", "a kind of message"),
)


@pytest.fixture
def check(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Check:
    """Give what sees to it that texts, logs and the terminal have words on one line."""
    caplog.set_level(logging.DEBUG, "aiosmrt")

    def see(error: AiosmrtError, words: str) -> None:
        complain(error)
        told = capsys.readouterr().err
        # A traceback ends with the text.
        last = traceback.format_exception_only(error)[0]
        for shown in (f"{error}\n", told, last):
            assert words in shown
            assert _is_plain(shown.removesuffix("\n"))
        assert all(_is_plain(record.getMessage()) for record in caplog.records)

    return see


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.asyncio
async def test_words_come_on_one_line(
    name: str,
    serve: Serve,
    connect: Connect,
    answers: Answers,
    check: Check,
) -> None:
    operation, data, words = answers[name]

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async with serve(answer) as server, connect(server) as client:
        error = await _fail(client, operation)
    check(error, words)


@pytest.mark.asyncio
async def test_attributes_have_the_words_as_they_were_sent(
    serve: Serve, connect: Connect, answers: Answers
) -> None:
    data = b""

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async def fail(name: str) -> Any:
        nonlocal data
        operation, data, _ = answers[name]
        return await _fail(client, operation)

    async with serve(answer) as server, connect(server) as client:
        for name in ("a message", "an exception"):
            error = await fail(name)
            assert error.message == WORDS
            assert WORDS in error.fields.values()
        assert (await fail("an exception's code")).error_code == WORDS
        assert (await fail("a container")).original_message == WORDS
        assert (await fail("a container's JSON")).original_json == {"error": WORDS}
        assert (await fail("a log")).log_stream_arn == WORDS
        assert (await fail("a place")).headers["location"] == VALUE.decode()
        assert (await fail("a request's id")).request_id == VALUE.decode()


@pytest.mark.parametrize("what", ["S3", "failure"])
@pytest.mark.asyncio
async def test_words_of_s3_come_on_one_line(
    what: str,
    serve: Serve,
    connect: Connect,
    respond: Respond,
    check: Check,
) -> None:
    # XML has no words for most of it.
    xml = "<Error><Code>Odd</Code><Message>said\n red &#x9b;1mon two\u202e lines</Message></Error>"
    accepted = respond(
        202,
        b"{}",
        x_amzn_sagemaker_outputlocation="s3://b/out",
        x_amzn_sagemaker_failurelocation="s3://b/failure",
    )

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.startswith("/endpoints"):
            writer.write(accepted)
        elif what == "S3":
            writer.write(respond(400, xml.encode()))
        elif request.target.endswith("out"):
            writer.write(respond(404, b"<Error><Code>NoSuchKey</Code></Error>"))
        else:
            body = WORDS.encode()
            writer.write(respond(200, b"" if request.method == "HEAD" else body))

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        error = await _fail(client, ASYNC)
    if isinstance(error, AsyncInferenceError):
        assert error.message == WORDS
    check(error, "said red on two lines")


@pytest.mark.asyncio
async def test_a_proxys_reason_comes_on_one_line(
    serve: Serve,
    connect: Connect,
    check: Check,
) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 407 " + VALUE + b"\r\ncontent-length: 0\r\n\r\n")

    async with serve(answer) as proxy:
        for url in ("http://127.0.0.1:9", "https://127.0.0.1:9"):
            async with connect(proxy, endpoint_url=url, proxy=proxy.url) as client:
                error = await _fail(client, "InvokeEndpoint")
            check(error, VALUE_LINE)


@pytest.mark.asyncio
async def test_words_of_a_credential_process_come_on_one_line(
    serve: Serve,
    connect: Connect,
    check: Check,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = tmp_path / "process.py"
    script.write_text(f"import os; os.write(2, {WORDS.encode()!r}); os._exit(1)")
    config = tmp_path / "config"
    config.write_text(f"[profile p]\ncredential_process = {sys.executable} -S {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    keys = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"))

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        raise AssertionError

    async with serve(answer) as server, connect(server, **keys, profile_name="p") as client:
        error = await _fail(client, "InvokeEndpoint")
    check(error, "said red on two lines")


@pytest.mark.asyncio
async def test_a_retry_is_logged_on_one_line(
    serve: Serve, connect: Connect, respond: Respond, caplog: pytest.LogCaptureFixture
) -> None:
    code = json.dumps({"__type": f"Throttled\x1b[1m\n{WORDS}"}).encode()
    caplog.set_level(logging.DEBUG, "aiosmrt")

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(503, code))

    policy = RetryPolicy(base_delay=0)
    async with serve(answer) as server, connect(server, retry=policy) as client:
        await _fail(client, "InvokeEndpoint")
    logged = [record.getMessage() for record in caplog.records]
    assert sum("failed with Throttled said red" in text for text in logged) == 3
    assert all(map(_is_plain, logged))
