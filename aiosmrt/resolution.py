"""What a client's options come to, found out once, at the first call."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import attrs

from aiosmrt.config import Config, RetryPolicy
from aiosmrt.endpoints import resolve_endpoint, validate_region
from aiosmrt.errors import ConfigurationError
from aiosmrt.settings import Settings, resolve_settings, shared_files_exist
from aiosmrt.signing import Signer
from aiosmrt.threads import Flight

__all__ = ["Resolution", "Resolved"]


@attrs.frozen(eq=False)
class Resolved:
    """The options together with the environment and the profile."""

    settings: Settings
    region_name: str
    endpoint_url: str
    origin: str  # of the endpoint's URL: scheme, host, port
    base_path: str  # of the endpoint's URL, without a slash at its end
    tls: ssl.SSLContext | bool = attrs.field(repr=False)  # aiohttp's `ssl` argument
    retry: RetryPolicy
    signer: Signer


class Resolution:
    """Resolves a `Config`: lazily, once, and never on the event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._flight = Flight(lambda: _resolve(config))
        self.resolved: Resolved | None = None

    async def resolve(self) -> Resolved:
        """Resolve, in a thread.

        Raises:
            ConfigurationError: an option, a variable or a profile cannot be used.
        """
        if self.resolved is None:
            self.resolved = await self._flight.join()
        return self.resolved

    def resolve_now(self) -> Resolved:
        """Resolve without waiting, unless that would read files on a running event loop.

        Raises:
            ConfigurationError: as `resolve`, and where it would block the loop.
        """
        if self.resolved is None:
            if _on_a_loop() and (self._config.profile_name or shared_files_exist()):
                raise ConfigurationError(
                    "the shared config files have not been read yet, and reading them here would "
                    "block the event loop: await client.warm_up() first"
                )
            self.resolved = _resolve(self._config)
        return self.resolved


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _resolve(config: Config) -> Resolved:
    verify = config.verify
    settings = resolve_settings(
        profile_name=config.profile_name,
        region_name=config.region_name,
        endpoint_url=config.endpoint_url,
        use_fips_endpoint=config.use_fips_endpoint,
        use_dualstack_endpoint=config.use_dualstack_endpoint,
        verify=True if isinstance(verify, ssl.SSLContext) else verify,
        max_attempts=None if config.retry is None else config.retry.max_attempts,
        retry_mode=None if config.retry is None else config.retry.mode,
    )
    endpoint_url = resolve_endpoint(
        settings.region_name.value,
        endpoint_url=settings.endpoint_url.value,
        use_fips_endpoint=settings.use_fips_endpoint.value,
        use_dualstack_endpoint=settings.use_dualstack_endpoint.value,
        use_ssl=config.use_ssl,
    )
    region_name = validate_region(settings.region_name.value)
    parts = urlsplit(endpoint_url)
    return Resolved(
        settings=settings,
        region_name=region_name,
        endpoint_url=endpoint_url,
        origin=f"{parts.scheme}://{parts.netloc}",
        base_path=parts.path,
        tls=verify if isinstance(verify, ssl.SSLContext) else _load(settings.verify.value),
        retry=config.retry or _build_policy(settings),
        signer=Signer(region_name),
    )


def _build_policy(settings: Settings) -> RetryPolicy:
    max_attempts = settings.max_attempts.value
    policy = RetryPolicy() if max_attempts is None else RetryPolicy(max_attempts=max_attempts)
    return (
        attrs.evolve(policy, mode="adaptive") if settings.retry_mode.value == "adaptive" else policy
    )


def _load(verify: bool | str) -> ssl.SSLContext | bool:  # noqa: FBT001 - boto3's option
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the CA bundle {verify!r} cannot be read: {error}; it must be a file of PEM "
            "certificates"
        ) from error
