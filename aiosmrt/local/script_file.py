"""Scripts in files: JSON, YAML or Python."""

from __future__ import annotations

import base64
import binascii
import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiosmrt.errors import AiosmrtError, ConfigurationError, ServiceError
from aiosmrt.local.model import load_model

__all__ = ["LINES", "follow_script"]

LINES = (
    *("answer", "throttle", "not_ready", "unavailable", "internal_failure", "dependency_failure"),
    *("validation_error", "expired_token", "no_capacity", "model_error", "proxy_page", "redirect"),
    *("hang", "reset", "cut", "corrupt", "stream_error", "internal_stream_failure", "slow"),
    *("split", "clock"),
)
"""The words that a step can be: methods of `Script`."""


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
    steps = _read_steps(path)
    for number, step in enumerate(steps, 1):
        try:
            _take_step(script, step)
        except (AiosmrtError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{path}, step {number}: {error}") from error


def _run_python(script: object, path: Path) -> None:
    try:
        function = runpy.run_path(str(path)).get("script")
    except Exception as error:
        raise ConfigurationError(f"{path}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ConfigurationError(f"{path} has no function script(endpoint)")
    function(script)


def _read_steps(path: Path) -> list[object]:
    try:
        text = path.read_text(encoding="utf-8")
        steps = json.loads(text) if path.suffix == ".json" else _import_yaml(path)(text)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(steps, list):
        raise ConfigurationError(f"{path} is no list of steps, but a {type(steps).__name__}")
    return steps


def _import_yaml(path: Path) -> Callable[[str], object]:
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            f"{path}: YAML needs the extra aiosmrt[yaml]; a file that ends in .json needs none"
        ) from None

    def load(text: str) -> object:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(error) from error

    return load


def _take_step(script: object, step: object) -> None:
    if isinstance(step, str):
        step = {step: None}
    if not isinstance(step, Mapping) or len(step) != 1:
        raise ConfigurationError(f"a step is one word with its options, not {step!r}")
    [(word, said)] = step.items()
    if word not in LINES:
        import difflib  # noqa: PLC0415 - start-up time

        near = difflib.get_close_matches(str(word), LINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"there is no step {word!r}{hint}")
    line = getattr(script, word)
    if said is None:
        line()
    elif isinstance(said, Mapping):
        # YAML 1.1 has `on` for true.
        named = {"on" if name is True else str(name): value for name, value in said.items()}
        line(**{name: _read_option(name, value) for name, value in named.items()})
    else:
        line(said)


def _read_option(name: str, value: Any) -> object:  # noqa: ANN401 - whatever a file has
    if name == "model":
        return load_model(value)
    if name == "error":
        return ServiceError(
            str(value.get("message", "")),
            code=str(value.get("code", "InternalFailure")),
            status=int(value.get("status", 500)),
        )
    if name == "stream":
        return [_unpack(part) for part in value]
    if name == "on" and isinstance(value, Mapping):
        return {member: _unpack(wanted) for member, wanted in value.items()}
    return _unpack(value)


def _unpack(value: object) -> object:
    if not (isinstance(value, Mapping) and list(value) == ["base64"]):
        return value
    try:
        return base64.b64decode(str(value["base64"]), validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from error
