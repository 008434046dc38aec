"""Every setting's value, and where it came from.

The sources and their order are botocore's: an argument, the environment, the profile of the shared
config and credentials files, the default. Three things differ on purpose: `AWS_REGION` counts
(after `AWS_DEFAULT_REGION`), a variable that is set but empty counts as unset, and a value that
makes no sense is an error where botocore ignores it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Generic, TypeVar

import attrs

from aiosmrt.errors import ConfigurationError
from aiosmrt.redaction import show_url
from aiosmrt.transport import DESCRIPTOR_ADVICE, have_run_out
from aiosmrt.value import Shown, Value

__all__ = ["Setting", "Settings", "resolve_settings", "shared_files_exist"]

T = TypeVar("T")
D = TypeVar("D")


@attrs.frozen(eq=False, repr=False)
class Setting(Value, Generic[T]):
    """A value and, for people, its source: `argument`, `environment variable AWS_REGION`, ..."""

    value: T = attrs.field(repr=show_url)  # some are URLs
    source: str


@attrs.frozen(eq=False, repr=False)
class Settings(Shown):
    """What `resolve_settings` found. `None` and the source `default`: nobody said anything."""

    profile_name: Setting[str | None]
    region_name: Setting[str | None]
    endpoint_url: Setting[str | None]
    s3_endpoint_url: Setting[str | None]
    use_fips_endpoint: Setting[bool]
    use_dualstack_endpoint: Setting[bool]
    verify: Setting[bool | str]  # whether to verify certificates, or against which CA bundle
    max_attempts: Setting[int | None]  # attempts, the first one included
    retry_mode: Setting[str | None]  # "legacy", "standard" or "adaptive"
    user_agent_appid: Setting[str | None]


def resolve_settings(
    *,
    profile_name: str | None = None,
    region_name: str | None = None,
    endpoint_url: str | None = None,
    s3_endpoint_url: str | None = None,
    use_fips_endpoint: bool | None = None,
    use_dualstack_endpoint: bool | None = None,
    verify: bool | str | None = None,
    max_attempts: int | None = None,
    retry_mode: str | None = None,
    user_agent_appid: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Resolve every setting; an argument that is `None` was not given.

    This blocks: it reads files, and where a shared config or credentials file exists it imports
    botocore (100 to 300 ms) to parse them. An event loop has it called in a thread.

    Raises `ConfigurationError` for a profile that does not exist, a file that cannot be read, and
    a value that cannot be used; it names the source and what is allowed. Region and URLs are not
    judged here but where they are used.
    """
    chosen_profile = _choose(
        profile_name, _variables(environ, "AWS_DEFAULT_PROFILE", "AWS_PROFILE"), str, None
    )
    profile = _Profile(chosen_profile, environ)

    def configured(key: str, *variables: str) -> Iterator[Setting[str]]:
        return chain(_variables(environ, *variables), profile.values(key))

    def configured_url(service: str) -> Iterator[Setting[str]]:
        ignored = configured(
            "ignore_configured_endpoint_urls", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
        )
        if not _choose(None, ignored, _boolean, default=False).value:
            yield from _variables(
                environ, f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"
            )
            yield from profile.service_urls(service)
            yield from profile.values("endpoint_url")

    return Settings(
        profile_name=chosen_profile,
        region_name=_choose(
            region_name, configured("region", "AWS_DEFAULT_REGION", "AWS_REGION"), str, None
        ),
        endpoint_url=_choose(endpoint_url, configured_url("sagemaker_runtime"), str, None),
        s3_endpoint_url=_choose(s3_endpoint_url, configured_url("s3"), str, None),
        use_fips_endpoint=_choose(
            use_fips_endpoint,
            configured("use_fips_endpoint", "AWS_USE_FIPS_ENDPOINT"),
            _boolean,
            default=False,
        ),
        use_dualstack_endpoint=_choose(
            use_dualstack_endpoint,
            configured("use_dualstack_endpoint", "AWS_USE_DUALSTACK_ENDPOINT"),
            _boolean,
            default=False,
        ),
        verify=_choose_verify(
            verify,
            chain(
                configured("ca_bundle", "AWS_CA_BUNDLE"), _variables(environ, "REQUESTS_CA_BUNDLE")
            ),
        ),
        max_attempts=_choose(
            max_attempts, configured("max_attempts", "AWS_MAX_ATTEMPTS"), _attempts, None
        ),
        retry_mode=_choose(retry_mode, configured("retry_mode", "AWS_RETRY_MODE"), _mode, None),
        user_agent_appid=_choose(
            user_agent_appid, configured("sdk_ua_app_id", "AWS_SDK_UA_APP_ID"), str, None
        ),
    )


def _choose(
    argument: T | None,
    found: Iterable[Setting[str]],
    parse: Callable[[str], T],
    default: D,
) -> Setting[T | D]:
    """Take the first of argument, `found` and default; `parse` says what is allowed instead."""
    if argument is not None:
        return Setting(argument, "argument")
    for text in found:
        try:
            return Setting(parse(text.value), text.source)
        except ValueError as error:
            raise ConfigurationError(
                f"{text.source} has the value {text.value!r}, but {error}."
            ) from None
    return Setting(default, "default")


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError("it must be 'true' or 'false'") from None


def _attempts(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("it must be a whole number of attempts, 1 or more")
    return int(text)


def _mode(text: str) -> str:
    if text not in {"legacy", "standard", "adaptive"}:
        raise ValueError("it must be 'legacy', 'standard' or 'adaptive'")
    return text


def _choose_verify(
    argument: bool | str | None,  # noqa: FBT001, not a switch of this function
    found: Iterable[Setting[str]],
) -> Setting[bool | str]:
    verify: Setting[bool | str] = _choose(argument, found, str, default=True)
    if isinstance(verify.value, str) and not os.path.exists(verify.value):  # noqa: PTH110, a str
        raise ConfigurationError(
            f"The CA bundle {verify.value!r} does not exist ({verify.source}). Give the path of a "
            f"PEM file as verify= or AWS_CA_BUNDLE, or unset it to use the default bundle."
        )
    return verify


def _variables(environ: Mapping[str, str], *names: str) -> Iterator[Setting[str]]:
    for name in names:
        if value := environ.get(name):
            yield Setting(value, f"environment variable {name}")


def shared_files_exist(environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether there is a shared config or credentials file, so that resolving blocks."""
    return any(map(os.path.isfile, _shared_files(environ)))


def _shared_files(environ: Mapping[str, str]) -> tuple[str, str]:
    """Give the paths of config and credentials file, expanded as botocore expands them."""

    def expand(variable: str, default: str) -> str:
        return os.path.expanduser(os.path.expandvars(environ.get(variable) or default))  # noqa: PTH111, a Path raises where there is no home

    return (
        expand("AWS_CONFIG_FILE", "~/.aws/config"),
        expand("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    )


class _Profile:
    """One profile of the shared files; empty where none was named and no file exists."""

    def __init__(self, name: Setting[str | None], environ: Mapping[str, str]) -> None:
        files = _shared_files(environ)
        self._all = _read(*files) if shared_files_exist(environ) else {}
        profiles = self._all.get("profiles", {})
        self._values = profiles.get(name.value or "default", {})
        self._source = f"profile {name.value or 'default'!r}"
        if name.value is not None and name.value not in profiles:
            known = ", ".join(map(repr, sorted(profiles))) or "none"
            raise ConfigurationError(
                f"The profile {name.value!r} does not exist ({name.source}). Available in "
                f"{' and '.join(files)}: {known}."
            )

    def values(self, key: str) -> Iterator[Setting[str]]:
        value = self._values.get(key)
        if value and isinstance(value, str):  # a nested section is a dict
            yield Setting(value, f"{key} of {self._source}")

    def service_urls(self, service: str) -> Iterator[Setting[str]]:
        for section in self.values("services"):
            services = self._all.get("services", {})
            if section.value not in services:
                raise ConfigurationError(
                    f"{section.source} names [services {section.value}], which the shared config "
                    f"file does not have: add that section or remove the line."
                )
            values = services[section.value].get(service)
            if isinstance(values, dict) and (value := values.get("endpoint_url")):
                yield Setting(value, f"section 'services {section.value}' of {self._source}")


def _read(config_file: str, credentials_file: str) -> dict[str, Any]:
    import botocore.exceptions  # noqa: PLC0415, slow, and only needed when there are files
    import botocore.session  # noqa: PLC0415

    session = botocore.session.Session()
    session.set_config_variable("config_file", config_file)
    session.set_config_variable("credentials_file", credentials_file)
    try:
        parsed: dict[str, Any] = session.full_config
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        advice = f"; {DESCRIPTOR_ADVICE}" if have_run_out(error) else ""
        raise ConfigurationError(
            f"The shared files {config_file} and {credentials_file} cannot be read: {error}{advice}"
        ) from error
    return parsed
