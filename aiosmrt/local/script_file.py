"""Scripts in files: JSON, YAML or Python."""

from __future__ import annotations

import base64
import binascii
import inspect
import json
import runpy
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiosmrt.errors import AiosmrtError, ConfigurationError, ServiceError
from aiosmrt.local.line import PLACE
from aiosmrt.local.model import load_model
from aiosmrt.local.words import check_status, check_text, suggest

__all__ = ["LINES", "follow_script"]

LINES = (
    *("answer", "throttle", "not_ready", "unavailable", "internal_failure", "dependency_failure"),
    *("validation_error", "expired_token", "no_capacity", "model_error", "proxy_page", "redirect"),
    *("hang", "reset", "cut", "corrupt", "stream_error", "internal_stream_failure", "slow"),
    *("split", "clock"),
)
"""The words that a step can be: methods of `Script`."""

_ERROR = {"code": "InternalFailure", "message": "", "status": 500}


def follow_script(script: object, path: Path) -> None:
    """Have an endpoint follow the script in a file.

    A Python file has a function `script(endpoint)`. Other files are lists of steps, each a mapping
    of one word to its options, or to its first option alone::

        - throttle: 2
        - answer: {json: {"ok": true}, on: my-endpoint, times: null}
        - cut: {after: 2, inside: frame, chat: Once upon a time}

    Bytes are `{"base64": "..."}`, `model` is `package.module:function`, and `error` has `code`,
    `message` and `status`. YAML needs the extra aiosmrt[yaml].

    Raises:
        ConfigurationError: the file cannot be read, or a step of it says what cannot be done.
    """
    if path.suffix == ".py":
        _run_python(script, path)
        return
    for place, step in _read_steps(path):
        reading = PLACE.set(f"{path.name}, {place}")
        try:
            _take_step(script, step)
        except (AiosmrtError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{path}, {place}: {error}") from error
        finally:
            PLACE.reset(reading)


def _run_python(script: object, path: Path) -> None:
    try:
        function = runpy.run_path(str(path)).get("script")
        if callable(function) and not inspect.iscoroutinefunction(function):
            function(script)
            return
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        kind = "" if isinstance(error, AiosmrtError) else f"{type(error).__name__}: "
        raise ConfigurationError(f"{place}: {kind}{error}") from error
    raise ConfigurationError(f"{path} has no function script(endpoint), which is not async")


def _read_steps(path: Path) -> list[tuple[str, object]]:
    """Give the steps, each with its place in the file."""
    lines: Sequence[int] = ()
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            steps = json.loads(text)
        else:
            steps, lines = _load_yaml(path, text)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(steps, list):
        raise ConfigurationError(f"{path} is no list of steps, but a {type(steps).__name__}")
    places = [f"line {line}" for line in lines] or [f"step {n + 1}" for n in range(len(steps))]
    return list(zip(places, steps, strict=True))


def _load_yaml(path: Path, text: str) -> tuple[object, list[int]]:
    """Give what the file says, and the lines in which its steps begin."""
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            f"{path}: YAML needs the extra aiosmrt[yaml]; a file that ends in .json needs none"
        ) from None
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        steps = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace('in "<unicode string>", ', "in ")) from error
    begins = root.value if root is not None and isinstance(steps, list) else ()
    return steps, [step.start_mark.line + 1 for step in begins]


def _take_step(script: object, step: object) -> None:
    if isinstance(step, str):
        step = {step: None}
    if not isinstance(step, Mapping) or len(step) != 1:
        raise ConfigurationError(f"a step is one word with its options, not {step!r}")
    [(word, said)] = step.items()
    if word not in LINES:
        raise ConfigurationError(f"there is no step {word!r}{suggest(word, LINES)}")
    line = getattr(script, word)
    if said is None:
        line()
    elif isinstance(said, Mapping):
        # YAML 1.1 has `on` for true.
        named = {"on" if name is True else str(name): value for name, value in said.items()}
        line(**{name: _read_option(name, value) for name, value in named.items()})
    elif word == "answer":
        raise ConfigurationError(f"an answer says what it is, as in {{text: {said!r}}}")
    else:
        line(said)


def _read_option(name: str, value: Any) -> object:  # noqa: ANN401 - whatever a file has
    if name == "model":
        return load_model(value)
    if name == "error":
        return _read_error(value)
    if name == "stream" and isinstance(value, list):
        return [_unpack(part) for part in value]
    if name == "on" and isinstance(value, Mapping):
        return {
            member: _unpack(wanted) if member == "body" else wanted
            for member, wanted in value.items()
        }
    # Elsewhere it is a document of somebody's own.
    return _unpack(value) if name == "body" else value


def _read_error(value: object) -> ServiceError:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"error has code, message and status, and is not {value!r}")
    for name in value:
        if name not in _ERROR:
            raise ConfigurationError(f"error has no {name!r}{suggest(name, _ERROR)}")
    said = {**_ERROR, **value}
    code, message = check_text("code", said["code"]), check_text("message", said["message"])
    return ServiceError(message, code=code, status=check_status(said["status"], 400))


def _unpack(value: object) -> object:
    if not (isinstance(value, Mapping) and list(value) == ["base64"]):
        return value
    try:
        return base64.b64decode(str(value["base64"]), validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from error
