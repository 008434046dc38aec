from __future__ import annotations

import datetime

import pytest

from aiosmrt.config import Credentials
from aiosmrt.errors import ConfigurationError, CredentialsError
from aiosmrt.signing.keys import find_fault, take_arguments, take_environment

SECRET = "hunter2/secret"
NAMES = ("access_key_id", "secret_access_key", "session_token")


def _find_fault(**keys: object) -> str | None:
    sound = {"access_key_id": "id", "secret_access_key": SECRET, "session_token": "hunter2/token"}
    return find_fault(Credentials(**(sound | keys)), lambda name: f"the {name} of mine")  # type: ignore[arg-type]  # the wrong ones


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("hunter2\n", "has white space around it; was it read with the end of its line?"),
        ("hunter2\r\n", "has white space around it"),
        (" hunter2", "has white space around it"),
        ("hunter2\t", "has white space around it"),
        ("hunter2\N{NO-BREAK SPACE}", "has white space around it"),
        (" ", "has white space around it"),
        ("hunter2\nhunter2", "is not printable ASCII text"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}hunter2", "is not printable ASCII text"),
        ("hunter2\x00", "is not printable ASCII text"),
        ('"hunter2"', "has quotes around it"),
        ("'hunter2'", "has quotes around it"),
        (b"hunter2", "is not text but bytes"),
    ],
)
def test_a_key_of_no_use_is_named(name: str, key: object, why: str) -> None:
    fault = _find_fault(**{name: key})
    assert fault is not None
    assert fault.startswith(f"Unusable: the {name} of mine {why}")
    assert "hunter2" not in fault


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["", None])
def test_only_a_token_may_be_missing(name: str, key: str | None) -> None:
    fault = _find_fault(**{name: key})
    assert (fault is None) is (name == "session_token")


def test_what_a_key_may_hold() -> None:
    assert _find_fault() is None
    assert _find_fault(secret_access_key="a+/=b c'd", session_token="FwoGZXIvYXdzE//=") is None


def test_variables_are_read_in_botocores_order() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET}
    assert take_environment(environ) == Credentials("id", SECRET)
    environ["AWS_SESSION_TOKEN"] = "new"
    environ["AWS_CREDENTIAL_EXPIRATION"] = "2030-01-31T23:59:59Z"
    end = datetime.datetime(2030, 1, 31, 23, 59, 59, tzinfo=datetime.UTC)
    assert take_environment(environ) == Credentials("id", SECRET, "new", end)
    environ["AWS_SECURITY_TOKEN"] = "old"
    assert take_environment(environ) == Credentials("id", SECRET, "old", end)
    assert take_environment({"AWS_SECRET_ACCESS_KEY": SECRET}) is None


def test_half_a_pair_is_refused() -> None:
    assert take_arguments(None, None, None) is None
    with pytest.raises(ConfigurationError, match="belong together"):
        take_arguments("id", None, None)
    with pytest.raises(CredentialsError, match="without AWS_SECRET_ACCESS_KEY"):
        take_environment({"AWS_ACCESS_KEY_ID": "id"})
