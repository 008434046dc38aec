"""What an endpoint is told to answer, and what is to go wrong: one line each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import attrs

from aiosmrt.errors import ConfigurationError, ServiceError
from aiosmrt.local.contents import CONTENTS
from aiosmrt.local.faults import (
    Corrupt,
    Cut,
    Damage,
    Hang,
    Inside,
    Reset,
    StreamFailure,
    find_position,
)
from aiosmrt.local.line import AnswerOptions, StepOptions, read_line
from aiosmrt.local.recording import Recorder
from aiosmrt.local.refusals import (
    StreamCode,
    make_dependency_failure,
    make_expired_token,
    make_failing_model,
    make_internal_failure,
    make_internal_stream_failure,
    make_invalid_request,
    make_no_capacity,
    make_not_ready,
    make_page,
    make_redirect,
    make_stream_error,
    make_throttling,
    make_unavailable,
)
from aiosmrt.local.script_file import follow_script
from aiosmrt.local.steps import Play, Steps
from aiosmrt.local.words import check_count, check_header, check_seconds

__all__ = ["Script"]

_STREAM = ("InvokeEndpointWithResponseStream",)
_DIRECT = ("InvokeEndpoint", *_STREAM)  # whose answer is the model's


class Script:
    """Steps, each written in one line; a request gets the first that is for it.

    A step is for one request, or for as many as `times` says; then it is used up. A fault inside
    an answer (`cut`, `corrupt`, `hang`, `reset`, `stream_error`, `slow`, `split`) takes the answer
    in the same line, in the words of `answer`; without one it happens to what is answered as a
    rule: by an `answer(times=None)`, or the model, or as many parts as it takes.
    """

    def __init__(self) -> None:
        self._steps = Steps()

    def answer(
        self, *, error: ServiceError | None = None, **options: Unpack[AnswerOptions]
    ) -> None:
        """Answer with a content.

        Args:
            error: a service error, answered in place of a content, as the service would.
            options: the fields of `AnswerOptions`.

        Raises:
            ConfigurationError: no content, two, or one that cannot be written.
            TypeError: an option that does not exist.
        """
        contents = [name for name in CONTENTS if name in options]
        if (
            error is None
            and not contents
            and options.keys() <= AnswerOptions.__annotations__.keys()
        ):
            raise ConfigurationError(f"an answer needs a content: {', '.join(CONTENTS)} or error")
        if error is not None and contents:
            raise ConfigurationError(f"error and {contents[0]}: an answer has one content")
        if error is not None:
            if not isinstance(error, ServiceError):
                raise ConfigurationError(
                    "error must be a service error, such as aiosmrt.ThrottlingException('slow "
                    f"down'), not {error!r}"
                )
            for name, value in (("the error's code", error.code), *error.headers.items()):
                check_header(name, value)
            said = {"error": error}
            self._add("answer", said, options, Play(refusal=error), answers=False)
        else:
            self._add("answer", {}, options)

    def throttle(
        self,
        times: int | None = 1,
        *,
        retry_after: float | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        """Refuse for the rate: ThrottlingException, HTTP 400; nothing ran.

        Args:
            times: how many requests; `None` is any number.
            retry_after: seconds that the answer asks for, in `x-amz-retry-after`.
            options: the fields of `StepOptions`.
        """
        said = {} if retry_after is None else {"retry_after": retry_after}
        self._deny("throttle", said, times, options, Play(refusal=make_throttling(retry_after)))

    def not_ready(self, times: int | None = 1, **options: Unpack[StepOptions]) -> None:
        """Refuse for a model that is being loaded: ModelNotReadyException, HTTP 429."""
        self._deny("not_ready", {}, times, options, Play(refusal=make_not_ready()))

    def unavailable(self, times: int | None = 1, **options: Unpack[StepOptions]) -> None:
        """Refuse for the service: ServiceUnavailable, HTTP 503; nothing ran."""
        self._deny("unavailable", {}, times, options, Play(refusal=make_unavailable()))

    def internal_failure(self, times: int | None = 1, **options: Unpack[StepOptions]) -> None:
        """Fail in the service: InternalFailure, HTTP 500; the model may have run."""
        self._deny("internal_failure", {}, times, options, Play(refusal=make_internal_failure()))

    def dependency_failure(self, times: int | None = 1, **options: Unpack[StepOptions]) -> None:
        """Fail before the model: InternalDependencyException, HTTP 530."""
        self._deny(
            "dependency_failure", {}, times, options, Play(refusal=make_dependency_failure())
        )

    def validation_error(
        self,
        message: str = "1 validation error detected",
        times: int | None = 1,
        **options: Unpack[StepOptions],
    ) -> None:
        """Refuse an invalid request: ValidationError, HTTP 400."""
        play = Play(refusal=make_invalid_request(message))
        self._deny("validation_error", {"message": message}, times, options, play)

    def expired_token(self, times: int | None = 1, **options: Unpack[StepOptions]) -> None:
        """Refuse keys that have ended: ExpiredTokenException, HTTP 403."""
        self._deny("expired_token", {}, times, options, Play(refusal=make_expired_token()))

    def no_capacity(
        self, seconds: float, times: int | None = None, **options: Unpack[StepOptions]
    ) -> None:
        """Refuse as an inference component does that is scaled to zero: ValidationError, HTTP 400.

        Args:
            seconds: how long, from the first refusal on.
            times: how many requests at most.
            options: the fields of `StepOptions`.
        """
        said, play = {"seconds": seconds}, Play(refusal=make_no_capacity())
        self._deny("no_capacity", said, times, options, play, seconds=seconds)

    def model_error(
        self,
        status: int = 500,
        message: str = "the model failed",
        times: int | None = 1,
        **options: Unpack[StepOptions],
    ) -> None:
        """Fail in the model: ModelError, HTTP 424; of an asynchronous invocation a failure file.

        Args:
            status: the container's own, `OriginalStatusCode`.
            message: its words, `OriginalMessage`.
            times: how many requests; `None` is any number.
            options: the fields of `StepOptions`.
        """
        said = {"status": status, "message": message}
        play = Play(content=make_failing_model(status, message))
        self._deny("model_error", said, times, options, play)

    def proxy_page(
        self, status: int = 502, times: int | None = 1, **options: Unpack[StepOptions]
    ) -> None:
        """Answer with the HTML page of a proxy that cannot reach the service."""
        self._deny("proxy_page", {"status": status}, times, options, Play(page=make_page(status)))

    def redirect(
        self,
        location: str = "https://moved.invalid/",
        status: int = 307,
        times: int | None = 1,
        **options: Unpack[StepOptions],
    ) -> None:
        """Answer with a redirect, which the service never does."""
        said, page = {"location": location, "status": status}, make_redirect(location, status)
        self._deny("redirect", said, times, options, Play(page=page))

    def hang(
        self, at: str = "head", seconds: float | None = None, **options: Unpack[AnswerOptions]
    ) -> None:
        """Send nothing more.

        The output of an asynchronous invocation that hangs at a part never comes.

        Args:
            at: `connect`, where a connection is not even taken (by Linux and macOS); `head`,
                before the answer's head; `first_part`, behind it; `part n`, before that. Where it
                is `connect`, all connections hang from the moment when no step for a request
                stands before this one.
            seconds: how long, and then it goes on, the head with the first part; `None` is until
                the client leaves.
            options: the fields of `AnswerOptions`; none of them where it is `connect`.
        """
        said = {"at": at, **({} if seconds is None else {"seconds": seconds})}
        if at == "connect":
            _refuse_options("hang", options)
            never = {"times": None, "optional": True}
            self._add("hang", said, never, Play(connection="hang"), seconds=seconds)
        elif seconds is None:
            self._add("hang", said, options, Play(fault=Hang(find_position(at))))
        else:
            waits = max(0, find_position(at) - 1) * (0.0,)
            play = Play(delays=(*waits, check_seconds("seconds", seconds), 0.0))
            self._add("hang", said, options, play)

    def reset(self, at: str = "head", **options: Unpack[AnswerOptions]) -> None:
        """Reset the connection (RST).

        Args:
            at: `connect`, as soon as there is a connection (of TLS: its handshake is over by then);
                else as for `hang`, and the request was received whole.
            options: the fields of `AnswerOptions`; `times` alone where it is `connect`.
        """
        if at == "connect":
            _refuse_options(
                "reset", {name: said for name, said in options.items() if name != "times"}
            )
            self._add("reset", {"at": at}, options, Play(connection="reset"))
            return
        fault = Reset(find_position(at))
        # At the head it is a connection's, whatever was asked for on it.
        operations = () if at == "head" else _DIRECT
        self._add("reset", {"at": at}, options, Play(fault=fault), operations=operations)

    def cut(
        self, after: int = 0, inside: Inside | None = None, **options: Unpack[AnswerOptions]
    ) -> None:
        """Break an answer off.

        Args:
            after: how many parts come whole before the cut.
            inside: `None` is between two frames, `chunk` in the middle of one of HTTP's chunks;
                there the connection is closed. `frame` and `prelude` are in the middle of a frame
                and of its first twelve bytes, behind which HTTP ends properly, as it does behind a
                proxy. A whole answer is cut before its stated length.
            options: the fields of `AnswerOptions`.
        """
        if inside not in (None, "frame", "prelude", "chunk"):
            raise ConfigurationError(f"inside must be frame, prelude or chunk, not {inside!r}")
        said = {"after": after, "inside": inside}
        play = Play(fault=Cut(check_count("after", after, 0) + 1, inside))
        self._add("cut", said, options, play, operations=_DIRECT)

    def corrupt(
        self, part: int = 1, where: Damage = "payload", **options: Unpack[AnswerOptions]
    ) -> None:
        """Have one bit of a stream's frame be wrong, its checksums as they were.

        Args:
            part: whose frame, from 1.
            where: `prelude`, `headers`, `payload` or `crc`.
            options: the fields of `AnswerOptions`.
        """
        if where not in ("prelude", "headers", "payload", "crc"):
            raise ConfigurationError(f"where: prelude, headers, payload or crc, not {where!r}")
        said = {"part": part, "where": where}
        play = Play(fault=Corrupt(check_count("part", part, 1), where))
        self._add("corrupt", said, options, play, operations=_STREAM, framed=True)

    def stream_error(
        self,
        after: int = 0,
        code: StreamCode = "StreamBroken",
        message: str = "The model has ended the stream.",
        **options: Unpack[AnswerOptions],
    ) -> None:
        """Have the model fail inside a stream: ModelStreamError.

        Args:
            after: how many parts come before.
            code: its `ErrorCode`, `StreamBroken` or `ModelInvocationTimeExceeded`.
            message: its words.
            options: the fields of `AnswerOptions`.
        """
        position = check_count("after", after, 0) + 1
        play = Play(fault=StreamFailure(position, make_stream_error(code, message)))
        said = {"after": after, "code": code, "message": message}
        self._add("stream_error", said, options, play, operations=_STREAM, framed=True)

    def internal_stream_failure(
        self,
        after: int = 0,
        message: str = "An internal failure occurred while streaming.",
        **options: Unpack[AnswerOptions],
    ) -> None:
        """Have the service fail inside a stream: InternalStreamFailure.

        Args:
            after: how many parts come before.
            message: its words.
            options: the fields of `AnswerOptions`.
        """
        position = check_count("after", after, 0) + 1
        play = Play(fault=StreamFailure(position, make_internal_stream_failure(message)))
        said = {"after": after, "message": message}
        self._add("internal_stream_failure", said, options, play, operations=_STREAM, framed=True)

    def slow(self, seconds: float, **options: Unpack[AnswerOptions]) -> None:
        """Take so many seconds before the answer's head, and before each part after the first."""
        play = Play(delays=(check_seconds("seconds", seconds),))
        self._add("slow", {"seconds": seconds}, options, play)

    def split(self, bytes: int = 1, **options: Unpack[AnswerOptions]) -> None:  # noqa: A002 - a unit
        """Give parts of so many bytes, whatever they part: lines, characters, documents."""
        play = Play(split=check_count("bytes", bytes, 1))
        self._add("split", {"bytes": bytes}, options, play)

    def clock(self, offset: float) -> None:
        """Set the service's clock, from now on, so many seconds ahead of this machine's.

        Signatures are judged by it, and `Date` shows it: 300 seconds are too many.
        """
        self._steps.clock_offset = check_seconds("offset", offset, -(10**9))

    def follow(self, path: str | os.PathLike[str]) -> None:
        """Take the steps of a file behind those that there are.

        Args:
            path: of a list of steps in JSON or YAML (`.json`, else YAML), each a word of these with
                its options; or of Python (`.py`), with a function `script(endpoint)`.

        Raises:
            ConfigurationError: it cannot be read, or a step says what cannot be done.
        """
        follow_script(self, Path(path))

    def record(self, to: str | os.PathLike[str]) -> None:
        """Write what is answered without a step, from now on, into a file to `follow`.

        Parts keep their borders and pauses; a request is known again by endpoint, operation and
        body. Headers of requests are not written.

        Args:
            to: the path of the file, in JSON; what is there is replaced.

        Raises:
            ConfigurationError: it cannot be written.
        """
        try:
            self._steps.recorder = Recorder(Path(to))
        except OSError as error:
            raise ConfigurationError(f"{to} cannot be written: {error}") from error

    def assert_complete(
        self, *, allow_unexpected: bool = False, allow_unused: bool = False
    ) -> None:
        """Make sure that each step was asked for, and each request had an answer.

        Args:
            allow_unexpected: whether requests may have come that a strict endpoint has refused.
            allow_unused: whether steps may be left.

        Raises:
            AssertionError: the text names what was not, where it was written, and what comes
                nearest.
        """
        complaint = self._steps.complain(unexpected=not allow_unexpected, unused=not allow_unused)
        if complaint:
            raise AssertionError(complaint)

    def _deny(
        self,
        name: str,
        said: Mapping[str, object],
        times: int | None,
        options: StepOptions,
        play: Play,
        *,
        seconds: float | None = None,
    ) -> None:
        given = {**options, "times": times}
        self._add(name, said, given, play, seconds=seconds, answers=False)

    def _add(
        self,
        name: str,
        said: Mapping[str, object],
        options: Mapping[str, Any],
        play: Play = Play(),  # noqa: B008 - it is frozen
        *,
        seconds: float | None = None,
        operations: tuple[str, ...] = (),
        framed: bool = False,
        answers: bool = True,
    ) -> None:
        if seconds is not None:
            check_seconds("seconds", seconds)
        step = read_line(name, said, options, play, operations, framed=framed, answers=answers)
        self._steps.add(attrs.evolve(step, seconds=seconds))


def _refuse_options(name: str, options: Mapping[str, object]) -> None:
    if options:
        raise ConfigurationError(
            f"{name}(at='connect') takes no {', '.join(options)}: there is no request yet"
        )
