"""botocore's chain of credentials, asked by whoever wants to know where they are from."""

from __future__ import annotations

from aiosmrt.config import BotocoreCredentials

__all__ = ["find_credentials"]


def find_credentials(profile_name: str | None, region_name: str) -> BotocoreCredentials | None:
    """Find credentials as a client does, but such as tell where they are from.

    Files are read, and hosts asked, meanwhile.

    Returns:
        `None` where there are none, or none can be had: a client says in its own words why.
    """
    import botocore.exceptions  # noqa: PLC0415 - slow, and not needed for every source
    import botocore.session  # noqa: PLC0415 - as above

    session = botocore.session.Session(profile=profile_name)
    session.set_config_variable("region", region_name)
    try:
        found: BotocoreCredentials | None = session.get_credentials()
    except botocore.exceptions.BotoCoreError:
        return None
    return found
