"""botocore's chain of credentials: what it finds, where, and where it is looking."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from aiosmrt.config import BotocoreCredentials
from aiosmrt.signing.clock import Clock

__all__ = ["Chain", "find_credentials", "name_method"]

# What botocore calls the ways to credentials (`METHOD` in its botocore/credentials.py), and how
# people know them; where it is not obvious, with what sets them up.
_METHODS = {
    "env": "environment variables",
    "assume-role": "AssumeRole of STS, for the role_arn",
    "assume-role-with-web-identity": "AssumeRoleWithWebIdentity of STS, for a role's ARN",
    "sso": "SSO",
    "login": "the login session",
    "shared-credentials-file": "the shared credentials file",
    "custom-process": "the credential_process",
    "config-file": "the shared config file",
    "container-role": (
        "the container's endpoint, by AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI and "
        "AWS_CONTAINER_AUTHORIZATION_TOKEN"
    ),
    "iam-role": "the instance metadata service, IMDS",
}
_OF_PROFILES = {
    "assume-role",
    "sso",
    "login",
    "shared-credentials-file",
    "custom-process",
    "config-file",
}


class Chain:
    """botocore's chain, shaped like a session that can forget what it found.

    Args:
        profile_name: a profile of the shared files; `None` leaves it to botocore.
        find_region: gives the region in which STS and SSO are asked, `None` to leave it to
            botocore; it is called where credentials are looked for.
        clock: by which the credentials that are found judge whether they have ended.

    Attributes:
        method: botocore's name of where it looks, or has found them; empty before.
        chosen_profile: the profile that botocore reads where none was given.
    """

    def __init__(
        self,
        profile_name: str | None,
        find_region: Callable[[], str | None],
        clock: Clock,
    ) -> None:
        self.profile_name = profile_name
        self.method: str = ""
        self.chosen_profile: str = "default"
        self._find_region = find_region
        self._clock = clock
        self._found: BotocoreCredentials | None = None
        self._pid = os.getpid()

    def get_credentials(self) -> BotocoreCredentials | None:
        """Find credentials, or give those that were found; this blocks."""
        # After a fork, a lock inside may be held by a thread that is not there.
        if self._found is None or self._pid != os.getpid():
            self.method = ""
            self._found = self._look()
            self._pid = os.getpid()
        return self._found

    def _look(self) -> BotocoreCredentials | None:
        import botocore.session  # noqa: PLC0415, slow, and not needed by every source

        session = botocore.session.Session(profile=self.profile_name)
        region_name = self._find_region()
        if region_name is not None:
            session.set_config_variable("region", region_name)
        self.chosen_profile = session.get_config_variable("profile") or "default"
        # As its `load_credentials` does, which does not tell which of them keeps it waiting.
        for provider in session.get_component("credential_provider").providers:
            self.method = provider.METHOD
            found: Any = provider.load()
            if found is not None:
                if hasattr(found, "_time_fetcher"):
                    # Its own clock is this machine's; with that of the service it neither ends
                    # credentials that hold, nor holds on to those that have ended.
                    found._time_fetcher = self._clock.now  # noqa: SLF001 - it has no public name
                credentials: BotocoreCredentials = found
                return credentials
        self.method = ""
        return None

    def forget(self) -> None:
        """Look anew when asked next."""
        self._found = None

    @property
    def reads_files(self) -> bool:
        """Whether it reads the shared files at the moment, or has found keys in them."""
        return self.method in ("shared-credentials-file", "config-file")

    def describe(self) -> str:
        """Say for people where it looks, or has found them; empty before."""
        known = self.profile_name is not None or self.method not in _OF_PROFILES
        return name_method(self.method) + ("" if known else f" of profile {self.chosen_profile!r}")


def name_method(method: object) -> str:
    """Say what people call a way to credentials that botocore names by its own word."""
    return _METHODS.get(str(method), str(method))


def find_credentials(profile_name: str | None, region_name: str) -> BotocoreCredentials | None:
    """Find credentials as a client does, but such as tell where they are from.

    Files are read, and hosts asked, meanwhile.

    Returns:
        `None` where there are none, or none can be had: a client says in its own words why.
    """
    import botocore.exceptions  # noqa: PLC0415 - slow, and not needed for every source

    try:
        return Chain(profile_name, lambda: region_name, Clock()).get_credentials()
    except botocore.exceptions.BotoCoreError:
        return None
