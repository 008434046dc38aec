"""A client's options: checked, and laid over those that it had. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from aiosmrt.config import Config, Timeout
from aiosmrt.errors import ConfigurationError, ParameterError
from aiosmrt.hooks import Hooks
from aiosmrt.service import (
    CONSTRAINTS,
    OPERATIONS,
    Arguments,
    ClientOptions,
    Operation,
    check_headers,
    spell,
)
from aiosmrt.settings.option_names import check_option_names

__all__ = [
    "IDENTITY",
    "RESOLVED",
    "bind_parameters",
    "choose_constraints",
    "configure",
    "refuse_pool_options",
]

# What, when it changes, changes how requests are addressed.
RESOLVED = frozenset(
    {
        "region_name",
        "endpoint_url",
        "s3_endpoint_url",
        "profile_name",
        "use_ssl",
        "use_fips_endpoint",
        "use_dualstack_endpoint",
        "retry",
        "signature_version",
        "user_agent_extra",
        "user_agent_appid",
    }
)
# What, when it changes, changes who signs them.
IDENTITY = frozenset(
    {
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "profile_name",
        "region_name",
        "credentials",
        "system_clock_offset",  # by which they end
    }
)
# What a derived client cannot have of its own, since it shares the pool.
_SHAPES_THE_POOL = (
    "session",
    "max_connections",
    "keep_alive",
    "max_connection_age",
    "proxy",
    "proxy_headers",
    "proxy_verify",
    "proxy_client_cert",
    "verify",
    "client_cert",
)

_NOBODY: ClientOptions = {
    "aws_access_key_id": None,
    "aws_secret_access_key": None,
    "aws_session_token": None,
    "credentials": None,
}
# What belongs to one body, or is an option of its own.
_NOT_FOR_ALL = (
    "content-md5",
    "x-amz-checksum-",
    "x-amz-expected-bucket-owner",
    "x-amz-sdk-checksum-",
)
_NAMES = tuple(field.name for field in attrs.fields(Config))
_PARAMETERS = sorted({name for operation in OPERATIONS.values() for name in operation.parameters})


def configure(config: object, options: ClientOptions) -> Config:
    """Lay options over those of `config`, and check what `Config` itself cannot.

    Raises:
        TypeError: there is no such option, or no operation has a parameter in `params`.
        ConfigurationError: an option whose value cannot be used.
    """
    if not isinstance(config, Config):
        raise TypeError(
            f"the only argument by position is an aiosmrt.Config, not {config!r}: give options by "
            "name, such as region_name='us-east-1'"
        )
    check_option_names(options, _NAMES)
    if "aws_access_key_id" in options or "credentials" in options:
        # A new identity is given whole: the old one's secret and token are of no use to it.
        options = {**_NOBODY, **options}
    timeout = options.get("timeout")
    if timeout is not None:
        # A number is the total; the other limits stay.
        options = {**options, "timeout": Timeout.of(timeout, config.timeout)}
    hooks = options.get("hooks")
    if isinstance(hooks, Hooks) and config.hooks is not None:
        options = {**options, "hooks": config.hooks.followed_by(hooks)}
    configured = attrs.evolve(config, **options)
    if not isinstance(configured.hooks, Hooks | None):
        raise ConfigurationError(f"hooks={configured.hooks!r}: an aiosmrt.Hooks, or None")
    choose_constraints(configured.parameter_validation)
    _check_put_headers(configured)
    for name in configured.params:
        if name not in _PARAMETERS:
            import difflib  # noqa: PLC0415 - start-up time

            near = difflib.get_close_matches(spell(name), _PARAMETERS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_PARAMETERS)}"
            raise TypeError(f"params: no operation has a parameter {name!r}: {hint}")
    return configured


def _check_put_headers(config: Config) -> None:
    try:
        check_headers(config.s3_put_headers, option="s3_put_headers")
    except ParameterError as error:
        raise ConfigurationError(str(error)) from None
    for name in config.s3_put_headers:
        if name.lower().startswith(_NOT_FOR_ALL):
            raise ConfigurationError(f"s3_put_headers: {name} is set by the client itself")


def refuse_pool_options(options: ClientOptions) -> None:
    """Refuse to derive a client with an option that shapes the pool, which clients share.

    Raises:
        TypeError: naming the option.
    """
    for name in _SHAPES_THE_POOL:
        if name in options:
            raise TypeError(
                f"with_options() cannot change {name}, which shapes the pool that the clients "
                "share; make a client of its own for that"
            )


def bind_parameters(
    operation: Operation, params: Mapping[str, object], arguments: Arguments
) -> None:
    """Lay what a call was given over those of `params` that its operation has.

    What is to be written as JSON stands in the place of a body.
    """
    if params:
        bound = {name: value for name, value in params.items() if name in operation.parameters}
        if arguments.json is not None:
            bound.pop("body", None)
        arguments.parameters = {**bound, **arguments.parameters}


def choose_constraints(validation: bool | Collection[str]) -> Collection[str]:  # noqa: FBT001 - boto3's option
    """Say which of the service model's constraints the option `parameter_validation` means.

    Raises:
        ConfigurationError: it is none of its values.
    """
    if isinstance(validation, bool):
        return CONSTRAINTS if validation else ()
    if not CONSTRAINTS.issuperset(validation):
        raise ConfigurationError(
            f"parameter_validation={validation!r}: True, False, or some of "
            f"{', '.join(sorted(CONSTRAINTS))} in a set"
        )
    return validation
