"""What a client would work with here, and where each value comes from."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import shutil
import sys
import textwrap
from typing import Any

import attrs

from aiosmrt.cli.terminal import name_flags
from aiosmrt.config import UNSIGNED, Config, RetryPolicy
from aiosmrt.errors import ConfigurationError, CredentialsError
from aiosmrt.plain_text import to_line
from aiosmrt.redaction import redact_url
from aiosmrt.settings import (
    Resolution,
    Resolved,
    Setting,
    Settings,
    build_policy,
    choose_proxy,
    find_settings,
)
from aiosmrt.signing import CredentialProvider, find_credentials

__all__ = ["show_configuration"]

_NONE = "-"
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


def show_configuration(config: Config, *, as_json: bool = False) -> None:
    """Print every option's value and its source; secrets are masked.

    A terminal gets what fits its width, all else a line for each option, or one JSON object.

    Raises:
        ConfigurationError: an option, a variable or a profile cannot be used; what does not depend
            on it was printed.
    """
    wrong = None
    try:
        resolved: Resolved | None = Resolution(config).resolve_now()
    except ConfigurationError as error:
        resolved, wrong = None, error
    settings = _find_settings(config) if resolved is None else resolved.settings
    rows = _list_settings(config, settings, resolved)
    rows += _list_credentials(config, None if settings is None else settings.region_name.value)
    if as_json:
        found = {
            name: {"value": None if value == _NONE else value, "source": source}
            for name, value, source in rows
        }
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        _print_table([("setting", "value", "source"), *rows], width)
    if wrong is not None:
        raise copy.copy(wrong) from wrong.__cause__


def _print_table(rows: list[tuple[str, str, str]], width: int | None) -> None:
    names = max(len(row[0]) for row in rows)
    # A value or a source that is much longer than others does not move all of them.
    values = max(len(row[1]) for row in rows if width is None or len(row[1]) <= width // 3)
    for name, value, source in rows:
        line = f"{name:<{names}}  {value:<{values}}  {source}".rstrip()
        if width is None or len(line) <= width:
            sys.stdout.write(f"{line}\n")
            continue
        sys.stdout.write(f"{name}\n")
        both = f"{value}  {source}"
        for text in (both,) if len(both) <= width - 4 else (value, source):
            wrapped = textwrap.wrap(text, max(width - 4, 1), break_on_hyphens=False)
            sys.stdout.writelines(f"    {line}\n" for line in wrapped)


def _find_settings(config: Config) -> Settings | None:
    try:
        return find_settings(config)
    except ConfigurationError:
        return None


def _list_settings(
    config: Config, found: Settings | None, resolved: Resolved | None
) -> list[tuple[str, str, str]]:
    settings: dict[str, Setting[Any]] = {}
    if found is not None:
        settings = attrs.asdict(found, recurse=False)
        policy = build_policy(found, config.retry)
        mode, attempts = settings.pop("retry_mode"), settings.pop("max_attempts")
        settings["retry.mode"] = Setting(policy.mode, mode.source)
        settings["retry.max_attempts"] = Setting(policy.max_attempts, attempts.source)
        for name in ("quota", "capacity_wait"):
            value = getattr(policy, name)
            given = value != getattr(RetryPolicy(), name)
            settings[f"retry.{name}"] = Setting(value, "argument" if given else "default")
        with contextlib.suppress(ValueError):  # no URL, which is told at the end
            settings["proxy"] = choose_proxy(config, found.endpoint_url.value or "https://")
    if resolved is not None:
        if resolved.settings.endpoint_url.value is None:
            settings["endpoint_url"] = Setting(resolved.endpoint_url, "the rules for the region")
        settings["proxy"] = resolved.proxy
        settings["user_agent"] = Setting(resolved.user_agent, "all of the above")
    for name in (
        *("use_ssl", "max_connections", "keep_alive", "max_connection_age"),
        *("parameter_validation", "api_version"),
        *("signature_version", "correct_clock_skew", "system_clock_offset", "client_cert"),
        *("proxy_verify", "proxy_client_cert"),
        *("user_agent_extra", "s3_input_prefix", "s3_expected_bucket_owner"),
        *("poll_interval", "max_poll_interval"),
    ):
        value = getattr(config, name)
        given = value != getattr(Config(), name)
        settings[name] = Setting(value, "argument" if given else "default")
    timeout = config.timeout
    for limit, usual in attrs.asdict(Config().timeout).items():
        seconds = getattr(timeout, limit)
        source = "default" if seconds == usual else "argument"
        settings[f"timeout.{limit}"] = Setting(seconds, source)
    return [
        (name, _show(setting.value), setting.source) for name, setting in sorted(settings.items())
    ]


def _show(value: object) -> str:
    if value is None:
        return _NONE
    text = str(value)
    return to_line(redact_url(text) if "://" in text else text)


def _list_credentials(config: Config, region_name: str | None) -> list[tuple[str, str, str]]:
    if config.signature_version is UNSIGNED:
        return [("credentials", _NONE, "signature_version says that none are needed")]
    provider = CredentialProvider(
        credentials=config.credentials,
        access_key_id=config.aws_access_key_id,
        secret_access_key=config.aws_secret_access_key,
        session_token=config.aws_session_token,
        profile_name=config.profile_name,
        region_name=region_name,
    )
    sources: list[str] | None = None
    if config.aws_access_key_id is None:
        if config.profile_name is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            sources = [f"environment variable {name.upper()}" for name in _KEYS]
        else:
            found = find_credentials(config.profile_name, region_name or "")
            if found is not None:
                where = provider.description.partition(" (")[0]
                provider = CredentialProvider(credentials=found)
                provider.source.description = f"{where}: {getattr(found, 'method', found)}"
    try:
        credentials = asyncio.run(provider.get())
    except CredentialsError as error:
        return [(_KEYS[0], _NONE, name_flags(str(error)))]
    values = [f"****{credentials.access_key_id[-4:]}", "****"]
    if credentials.session_token is not None:
        values.append("****")
    return list(zip(_KEYS, values, sources or [provider.description] * 3, strict=False))
