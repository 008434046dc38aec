"""What a client's options come to, found out once, at the first call."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import ssl
from urllib.parse import urlsplit

import attrs

from aiosmrt.config import UNSIGNED, Config, RetryPolicy
from aiosmrt.errors import ConfigurationError
from aiosmrt.settings.endpoints import resolve_endpoint, validate_region
from aiosmrt.settings.plain_http import judge_plain_http, warn_of_plain_http
from aiosmrt.settings.sources import Setting, Settings, resolve_settings, shared_files_exist
from aiosmrt.settings.tls import load_proxy_tls, load_tls
from aiosmrt.signing import Signer
from aiosmrt.threads import Flight
from aiosmrt.tracebacks import hides_locals
from aiosmrt.transport import find_proxy
from aiosmrt.value import Shown
from aiosmrt.version import __version__

__all__ = ["Resolution", "Resolved", "build_policy", "choose_proxy", "find_settings"]


@attrs.frozen(eq=False, repr=False)
class Resolved(Shown):
    """The options together with the environment and the profile."""

    settings: Settings
    region_name: str
    endpoint_url: str
    origin: str  # of the endpoint's URL: scheme, host, port
    base_path: str  # of the endpoint's URL, without a slash at its end
    tls: ssl.SSLContext | bool  # aiohttp's `ssl` argument
    proxy_tls: ssl.SSLContext | None  # for proxies, None where they are checked as endpoints are
    retry: RetryPolicy
    signer: Signer | None  # None where requests are not signed
    proxy: Setting[str | None]
    user_agent: str
    in_lambda: bool  # whether this is a Lambda function, whose trace is passed on

    def describe_place(self) -> str:
        """Say where endpoints are looked for, and who has said so."""
        region, url = self.settings.region_name, self.settings.endpoint_url
        source = url.source if url.value is not None else "the rules for the region"
        return (
            f"region_name {region.value or 'is not set'} ({region.source}), endpoint_url "
            f"{self.endpoint_url} ({source})"
        )


class Resolution:
    """Resolves a `Config`: lazily, once, and in a thread where files have to be read."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._flight = Flight(lambda: _resolve(config))
        self.resolved: Resolved | None = None

    async def resolve(self) -> Resolved:
        """Resolve without blocking the event loop.

        Raises:
            ConfigurationError: an option, a variable or a profile cannot be used.
        """
        if self.resolved is None:
            # A thread takes longer to start than all of this without a file.
            reads = _reads_files(self._config)
            self.resolved = await self._flight.join() if reads else _resolve(self._config)
        return self.resolved

    def resolve_now(self) -> Resolved:
        """Resolve without waiting, unless that would read files on a running event loop.

        Raises:
            ConfigurationError: as `resolve`, and where it would block the loop.
        """
        if self.resolved is None:
            if _on_a_loop() and _reads_files(self._config):
                raise ConfigurationError(
                    "the shared config files or certificates have not been read yet, and reading "
                    "them here would block the event loop: await client.warm_up() first"
                )
            self.resolved = _resolve(self._config)
        return self.resolved


def _reads_files(config: Config) -> bool:
    verify: object = config.verify
    if verify is None:
        verify = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    files = (config.profile_name, config.client_cert, isinstance(verify, str))
    proxy_files = (config.proxy_client_cert, isinstance(config.proxy_verify, bool | str))
    return any((*files, *proxy_files)) or shared_files_exist()


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@hides_locals  # a password in a URL, and the whole environment
def find_settings(config: Config) -> Settings:
    """Find what has several sources; blocks, and raises, as `resolve_settings`."""
    verify = config.verify
    return resolve_settings(
        profile_name=config.profile_name,
        region_name=config.region_name,
        endpoint_url=config.endpoint_url,
        s3_endpoint_url=config.s3_endpoint_url,
        use_fips_endpoint=config.use_fips_endpoint,
        use_dualstack_endpoint=config.use_dualstack_endpoint,
        verify=True if isinstance(verify, ssl.SSLContext) else verify,
        max_attempts=None if config.retry is None else config.retry.max_attempts,
        retry_mode=None if config.retry is None else config.retry.mode,
        user_agent_appid=config.user_agent_appid,
    )


@hides_locals  # a password in a URL, and the whole environment
def _resolve(config: Config) -> Resolved:
    settings = find_settings(config)
    endpoint_url = resolve_endpoint(
        settings.region_name.value,
        endpoint_url=settings.endpoint_url.value,
        use_fips_endpoint=settings.use_fips_endpoint.value,
        use_dualstack_endpoint=settings.use_dualstack_endpoint.value,
        use_ssl=config.use_ssl,
    )
    proxy = choose_proxy(config, endpoint_url)
    unsigned = config.signature_version is UNSIGNED
    region_name = settings.region_name.value or ""
    if not unsigned:
        region_name = validate_region(region_name)
        option = f"endpoint_url ({settings.endpoint_url.source})"
        if judge_plain_http(endpoint_url, proxy.value, option, use_ssl=config.use_ssl):
            warn_of_plain_http(endpoint_url)
    parts = urlsplit(endpoint_url)
    return Resolved(
        settings=settings,
        region_name=region_name,
        endpoint_url=endpoint_url,
        origin=f"{parts.scheme}://{parts.netloc}",
        base_path=parts.path,
        tls=load_tls(settings.verify.value, config),
        proxy_tls=load_proxy_tls(settings.verify.value, config),
        retry=build_policy(settings, config.retry),
        signer=None if unsigned else Signer(region_name),
        proxy=proxy,
        user_agent=_build_user_agent(settings.user_agent_appid.value, config.user_agent_extra),
        in_lambda="AWS_LAMBDA_FUNCTION_NAME" in os.environ,
    )


def choose_proxy(config: Config, endpoint_url: str) -> Setting[str | None]:
    """Say through which proxy the endpoint is reached."""
    if config.proxy is not None:
        return Setting(config.proxy, "argument")
    found = find_proxy(endpoint_url, os.environ)
    if found is None:
        return Setting(None, "default")
    return Setting(found[0], f"environment variable {found[1]}")


def _build_user_agent(appid: str | None, extra: str | None) -> str:
    agent = f"aiosmrt/{__version__} Python/{platform.python_version()} {platform.system()}"
    if appid:
        # What an HTTP token may not hold becomes a hyphen, as in the SDKs.
        agent += " app/" + re.sub(r"[^0-9A-Za-z!#$%&'*+\-.^_`|~]", "-", appid)
    return f"{agent} {extra}" if extra else agent


def build_policy(settings: Settings, given: RetryPolicy | None) -> RetryPolicy:
    """Give the policy that was given, else what environment and profile say."""
    if given is not None:
        return given
    max_attempts = settings.max_attempts.value
    policy = RetryPolicy() if max_attempts is None else RetryPolicy(max_attempts=max_attempts)
    return (
        attrs.evolve(policy, mode="adaptive") if settings.retry_mode.value == "adaptive" else policy
    )
