from __future__ import annotations

import asyncio
import contextlib
import datetime
import importlib.util
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import attrs
import boto3
import botocore.credentials
import botocore.session
import pytest

import aiosmrt.signing.clock
import aiosmrt.signing.credentials
from aiosmrt.config import Credentials
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConfigurationError,
    CredentialsError,
    CredentialsTimeout,
)
from aiosmrt.signing.credentials import CredentialProvider

T = TypeVar("T")

SECRET = "hunter2/secret"
TOKEN = "hunter2/token"
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave nothing of the machine's settings to be found, and no metadata service to be asked."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path


@attrs.define
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now

    def read(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.now, datetime.UTC)


@attrs.define
class Vendor:
    """Vends numbered credentials the way botocore's sources do: in a thread, blocking."""

    clock: Clock = attrs.field(factory=Clock)
    life: float = 3600.0  # seconds
    calls: int = 0
    threads: set[int] = attrs.field(factory=set)
    broken: bool = False
    open: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self.open.set()

    def vend(self) -> dict[str, str]:
        self.calls += 1
        number = self.calls
        self.threads.add(threading.get_ident())
        assert self.open.wait(10)
        if self.broken:
            raise OSError("the vendor is closed")
        end = self.clock.read() + datetime.timedelta(seconds=self.life)
        return {
            "access_key": f"key-{number}",
            "secret_key": SECRET,
            "token": TOKEN,
            "expiry_time": end.isoformat(),
        }

    def credentials(self) -> botocore.credentials.RefreshableCredentials:
        return botocore.credentials.DeferredRefreshableCredentials(
            self.vend, method="vendor", time_fetcher=self.clock.read
        )

    def provider(self) -> CredentialProvider:
        return CredentialProvider(self.credentials(), clock=self.clock)


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


def at_once(coroutine: Coroutine[object, None, T]) -> T:
    """Give the result of a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    pytest.fail("suspended")


async def landing(provider: CredentialProvider) -> None:
    """Wait for the flight in the background without being one of its callers."""
    flight = provider._flight
    assert flight is not None
    await asyncio.wait_for(asyncio.wrap_future(flight.outcome), 10)


def fetch(provider: CredentialProvider) -> Credentials:
    return asyncio.run(asyncio.wait_for(provider.get(), 20))


def run_script(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which imports the package that is under test here."""
    spec = importlib.util.find_spec("aiosmrt")
    assert spec is not None
    assert spec.origin is not None
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(spec.origin).parent.parent,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# Keys that are at hand


def test_keys_given_are_there_without_suspending() -> None:
    keys = Credentials("id", SECRET, TOKEN)
    given = CredentialProvider(access_key_id="id", secret_access_key=SECRET, session_token=TOKEN)
    assert at_once(given.get()) == keys
    assert at_once(CredentialProvider(keys).get()) is keys
    # A profile given as well is for the other settings.
    with_profile = CredentialProvider(
        access_key_id="id", secret_access_key=SECRET, profile_name="dev"
    )
    assert at_once(with_profile.get()) == Credentials("id", SECRET)


@pytest.mark.parametrize(
    "keys",
    [
        {"access_key_id": "id"},
        {"secret_access_key": SECRET},
        {"session_token": TOKEN},
        {"access_key_id": "id", "session_token": TOKEN},
        {"access_key_id": "id", "secret_access_key": ""},
    ],
)
def test_half_a_key_pair_is_refused(keys: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="belong together") as caught:
        CredentialProvider(**keys)
    assert "hunter2" not in str(caught.value)


def test_two_sources_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="leave one of them out"):
        CredentialProvider(Credentials("a", "b"), access_key_id="c", secret_access_key="d")


@pytest.mark.parametrize("given", [{"access_key": "id"}, {}])
def test_what_is_no_source_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="credentials= is a dict"):
        CredentialProvider(given)  # type: ignore[arg-type]  # the wrong argument


def test_keys_with_an_end_serve_until_then() -> None:
    clock = Clock()
    keys = Credentials("id", SECRET, expires_at=clock.read() + datetime.timedelta(minutes=1))
    provider = CredentialProvider(keys, clock=clock)
    for second in range(60):
        clock.now = NOW + second
        assert at_once(provider.get()) is keys
    clock.now = NOW + 60
    with pytest.raises(CredentialsError, match="keys given as arguments ended at 2027-01-15"):
        at_once(provider.get())


# The environment's keys


ENVIRONMENTS: list[dict[str, str]] = [
    {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET},
    {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN},
    {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SECURITY_TOKEN": "old"},
    {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_SECURITY_TOKEN": "old",
    },
    {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": ""},
    {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_PROFILE": "dev"},
    {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_PROFILE": "dev"},
    {"AWS_SECRET_ACCESS_KEY": SECRET},
    {"AWS_DEFAULT_PROFILE": "dev"},
    {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CREDENTIAL_EXPIRATION": "2999-01-01T00:00:00Z",
    },
]


@pytest.mark.parametrize("profile_name", [None, "dev"])
@pytest.mark.parametrize("environ", ENVIRONMENTS)
def test_the_keys_are_the_ones_botocore_finds(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    profile_name: str | None,
) -> None:
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = default\naws_secret_access_key = d\n"
        "[dev]\naws_access_key_id = dev\naws_secret_access_key = e\naws_session_token = t\n"
    )
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    session = botocore.session.Session(profile=profile_name)
    theirs = session.get_credentials().get_frozen_credentials()
    ours = fetch(CredentialProvider(profile_name=profile_name))
    assert (ours.access_key_id, ours.secret_access_key, ours.session_token) == (
        theirs.access_key,
        theirs.secret_key,
        theirs.token,
    )


def test_the_environments_keys_are_there_without_suspending() -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CREDENTIAL_EXPIRATION": "2027-01-15T08:30:00Z",  # in half an hour
    }
    clock = Clock()
    provider = CredentialProvider(environ=environ, clock=clock)
    end = datetime.datetime(2027, 1, 15, 8, 30, tzinfo=datetime.UTC)
    assert at_once(provider.get()) == Credentials("id", SECRET, None, end)
    # Somebody renews them in time, and is not asked before: then in the middle of their life.
    environ |= {"AWS_ACCESS_KEY_ID": "new", "AWS_CREDENTIAL_EXPIRATION": "2027-01-15T09:30:00Z"}
    assert at_once(provider.get()).access_key_id == "id"
    clock.now += 15 * 60
    assert at_once(provider.get()).access_key_id == "new"


def test_the_environments_keys_end() -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CREDENTIAL_EXPIRATION": "2027-01-15T08:00:00Z",
    }
    clock = Clock(NOW - 1)
    provider = CredentialProvider(environ=environ, clock=clock)
    assert at_once(provider.get()).access_key_id == "id"
    clock.now = NOW
    with pytest.raises(CredentialsError, match="ended at 2027-01-15 08:00:00"):
        at_once(provider.get())


def test_a_key_without_its_secret_is_an_error_as_in_botocore() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SESSION_TOKEN": TOKEN}
    provider = CredentialProvider(environ=environ)
    with pytest.raises(CredentialsError, match="without AWS_SECRET_ACCESS_KEY"):
        at_once(provider.get())
    environ["AWS_SECRET_ACCESS_KEY"] = SECRET
    assert at_once(provider.get()).secret_access_key == SECRET


def test_old_keys_that_still_hold_beat_an_error(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CREDENTIAL_EXPIRATION": "2027-01-15T08:30:00Z",
    }
    clock = Clock()
    provider = CredentialProvider(environ=environ, clock=clock)
    at_once(provider.get())
    del environ["AWS_SECRET_ACCESS_KEY"]
    clock.now += 20 * 60
    assert at_once(provider.get()).access_key_id == "id"
    assert "old ones serve for 600 more seconds" in caplog.text


@pytest.mark.parametrize("expiration", ["soon", "2027-01-15T08:30:00", "1800000000"])
def test_a_malformed_expiration_is_named(expiration: str) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CREDENTIAL_EXPIRATION": expiration,
    }
    with pytest.raises(ConfigurationError, match="AWS_CREDENTIAL_EXPIRATION") as caught:
        at_once(CredentialProvider(environ=environ).get())
    assert repr(expiration) in str(caught.value)


def test_botocore_is_not_imported_for_keys_at_hand() -> None:
    code = """if True:
        import asyncio, sys
        from aiosmrt.signing.credentials import CredentialProvider
        print(asyncio.run(CredentialProvider().get()).access_key_id)
        asyncio.run(CredentialProvider(access_key_id="a", secret_access_key="b").get())
        print([name for name in sys.modules if "boto" in name])
    """
    done = run_script(code, AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY=SECRET)
    assert done.stdout.split("\n")[:2] == ["id", "[]"], done.stderr


# botocore's chain, on real files, processes and sockets


@attrs.define
class Web:
    """A server with the metadata services and STS."""

    url: str
    seen: list[tuple[str, str, Mapping[str, str], bytes]] = attrs.field(factory=list)


CONTAINER = {
    "AccessKeyId": "container",
    "SecretAccessKey": SECRET,
    "Token": TOKEN,
    "Expiration": "2999-01-01T00:00:00Z",
}
ASSUMED = """<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
<Credentials><AccessKeyId>{action}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
<SessionToken>{token}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn>
<AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser></{action}Result></{action}Response>"""


@pytest.fixture
def web() -> Iterator[Web]:
    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            served.seen.append((self.command, self.path, dict(self.headers), body))
            role = "/latest/meta-data/iam/security-credentials/"
            text = {
                "/latest/api/token": "imds-token",
                role: "role",
                f"{role}role": json.dumps(
                    {**CONTAINER, "Code": "Success", "AccessKeyId": "machine"}
                ),
                "/container": json.dumps(CONTAINER),
            }.get(self.path, "")
            for action in ("AssumeRoleWithWebIdentity", "AssumeRole"):
                if not text and f"Action={action}&".encode() in body:
                    text = ASSUMED.format(action=action, secret=SECRET, token=TOKEN)
            self.send_response(200 if text else 404)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_POST = answer  # noqa: N815, the names of the base class

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    served = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_shared_credentials_file(home: Path) -> None:
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = default\naws_secret_access_key = {SECRET}\n"
    )
    assert fetch(CredentialProvider()) == Credentials("default", SECRET)


def process_profile(home: Path, body: str) -> Path:
    """Write a profile `proc` whose process notes each of its runs in the file that is returned."""
    runs = home / "runs"
    runs.touch()
    script = home / "process.py"
    script.write_text(f"import sys, json, time\nopen({str(runs)!r}, 'a').write('x')\n{body}")
    (home / ".aws/config").write_text(
        f"[profile proc]\ncredential_process = {sys.executable} {script}\n"
    )
    return runs


def test_credential_process(home: Path) -> None:
    answer = {
        "Version": 1,
        "AccessKeyId": "process",
        "SecretAccessKey": SECRET,
        "SessionToken": TOKEN,
        "Expiration": "2999-01-01T00:00:00Z",
    }
    runs = process_profile(home, f"print(json.dumps({answer!r}))")
    provider = CredentialProvider(profile_name="proc")

    async def ask_often() -> Credentials:
        return (await asyncio.gather(*[provider.get() for _ in range(50)]))[-1]

    credentials = asyncio.run(ask_often())
    assert credentials.access_key_id == "process"
    assert credentials.session_token == TOKEN
    assert credentials.expires_at is not None
    assert runs.read_text() == "x"


@pytest.mark.parametrize(
    "body",
    [
        f"sys.exit('no login')  # {SECRET}",
        f"print({SECRET!r})",
        f"print(json.dumps(dict(Version=1, AccessKeyId='id', Secret={SECRET!r})))",
    ],
    ids=["exit", "no json", "incomplete"],
)
def test_a_process_that_fails_is_an_error_without_its_output(
    home: Path, caplog: pytest.LogCaptureFixture, body: str
) -> None:
    caplog.set_level(logging.DEBUG)
    runs = process_profile(home, body)
    provider = CredentialProvider(profile_name="proc")
    for times in (1, 2):
        with pytest.raises(CredentialsError, match="profile 'proc' failed") as caught:
            fetch(provider)
        assert caught.value.__cause__ is not None
        assert "hunter2" not in f"{caught.value}{caught.value.__cause__}{caplog.text}"
        assert runs.read_text() == "x" * times  # the failure is not remembered


def test_container_and_instance_metadata(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", web.url)
    assert fetch(CredentialProvider()).access_key_id == "machine"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/container")
    credentials = fetch(CredentialProvider())
    assert credentials.access_key_id == "container"
    assert credentials.session_token == TOKEN


def test_a_role_is_assumed_in_the_region_given(
    home: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", web.url)
    (home / ".aws/config").write_text(
        "[profile base]\naws_access_key_id = base\naws_secret_access_key = b\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
        "region = us-east-1\n"
    )
    credentials = fetch(CredentialProvider(profile_name="role", region_name="eu-west-1"))
    assert credentials.access_key_id == "AssumeRole"
    assert "/eu-west-1/sts/" in web.seen[-1][2]["Authorization"]
    assert fetch(CredentialProvider(profile_name="role")).access_key_id == "AssumeRole"
    assert "/us-east-1/sts/" in web.seen[-1][2]["Authorization"]


def test_a_web_identity_is_exchanged(home: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "identity").write_text("identity-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", web.url)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(home / "identity"))
    credentials = fetch(CredentialProvider(region_name="eu-west-1"))
    assert credentials.access_key_id == "AssumeRoleWithWebIdentity"
    assert b"identity-token" in web.seen[-1][3]


def test_nothing_found_says_where_was_looked_and_what_to_do(home: Path) -> None:
    provider = CredentialProvider()
    with pytest.raises(CredentialsError) as caught:
        fetch(provider)
    for words in (
        "No AWS credentials were found",
        "environment",
        "instance metadata",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "profile_name=",
    ):
        assert words in str(caught.value)
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = late\naws_secret_access_key = {SECRET}\n"
    )
    assert fetch(provider).access_key_id == "late"


def test_a_missing_profile_is_an_error() -> None:
    with pytest.raises(CredentialsError, match=r"'prod' failed \(ProfileNotFound\)") as caught:
        fetch(CredentialProvider(profile_name="prod"))
    assert caught.value.__cause__ is not None


BAD = f"{SECRET}\n"


def test_a_variable_of_no_use_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    provider = CredentialProvider()
    for name in (*sound, "AWS_SECURITY_TOKEN"):
        with monkeypatch.context() as patched:
            for variable, value in {**sound, name: BAD}.items():
                patched.setenv(variable, value)
            with pytest.raises(
                CredentialsError, match=f"environment variable {name} has"
            ) as caught:
                at_once(provider.get())
        assert "hunter2" not in str(caught.value)
    # Once they are gone, it is not they that are named.
    (home / ".aws/credentials").write_text("[default]\naws_access_key_id = 'a'\n")
    with (home / ".aws/credentials").open("a") as file:
        file.write(f"aws_secret_access_key = {SECRET}\n")
    words = (
        "aws_access_key_id of the default chain (the shared credentials file of profile 'default')"
    )
    with pytest.raises(CredentialsError, match=re.escape(f"{words} has quotes around it")):
        fetch(provider)


def test_an_argument_of_no_use_is_named() -> None:
    for name in ("access_key_id", "secret_access_key", "session_token"):
        keys: dict[str, Any] = {"access_key_id": "id", "secret_access_key": SECRET, name: BAD}
        for provider, prefix in (
            (CredentialProvider(**keys), "aws_"),
            (CredentialProvider(Credentials(**keys)), ""),
        ):
            words = f"the {prefix}{name} of the keys given as arguments has white space"
            with pytest.raises(CredentialsError, match=words) as caught:
                at_once(provider.get())
            assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("file", ["config", "credentials"])
def test_a_profile_of_no_use_is_named(home: Path, file: str) -> None:
    heading = "[profile dev]" if file == "config" else "[dev]"
    (home / f".aws/{file}").write_text(
        f'{heading}\naws_access_key_id = id\naws_secret_access_key = "{SECRET}"\n'
    )
    kind = "shared config file" if file == "config" else "shared credentials file"
    words = f"the aws_secret_access_key of the profile 'dev' (the {kind}) has quotes around it"
    with pytest.raises(CredentialsError, match=re.escape(words)):
        fetch(CredentialProvider(profile_name="dev"))


@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey", "SessionToken"])
def test_a_process_that_gives_a_key_of_no_use_is_named(home: Path, name: str) -> None:
    answer = {"Version": 1, "AccessKeyId": "id", "SecretAccessKey": SECRET, name: BAD}
    process_profile(home, f"print(json.dumps({answer!r}))")
    with pytest.raises(
        CredentialsError, match=r"of the profile 'proc' \(the credential_process\) has white space"
    ) as caught:
        fetch(CredentialProvider(profile_name="proc"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey", "Token"])
def test_a_container_that_gives_a_key_of_no_use_is_named(
    web: Web, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/container")
    monkeypatch.setitem(CONTAINER, name, BAD)
    with pytest.raises(CredentialsError, match=r"the container's endpoint.* has white space"):
        fetch(CredentialProvider())


def test_a_containers_token_with_the_end_of_its_line_is_named(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", BAD)
    with pytest.raises(CredentialsError, match="AWS_CONTAINER_AUTHORIZATION_TOKEN") as caught:
        fetch(CredentialProvider())
    assert "hunter2" not in str(caught.value)


# The end of what is found


@pytest.mark.parametrize("end", ["2999-01-01T00:00:00", "2999-01-01"])
def test_an_end_without_a_zone_is_refused(
    home: Path, web: Web, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    answer = {"Version": 1, **CONTAINER, "SessionToken": TOKEN, "Expiration": end}
    process_profile(home, f"print(json.dumps({answer!r}))")
    with pytest.raises(ConfigurationError, match=r"credential_process.* has no zone") as caught:
        fetch(CredentialProvider(profile_name="proc"))
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/container")
    monkeypatch.setitem(CONTAINER, "Expiration", end)
    with pytest.raises(ConfigurationError, match=r"the container's endpoint.* has no zone"):
        fetch(CredentialProvider())


@pytest.mark.asyncio
async def test_a_providers_own_end_without_a_zone_is_refused() -> None:
    naive = datetime.datetime(2030, 1, 1)  # noqa: DTZ001 - that is it

    async def source() -> Credentials:
        return Credentials("id", SECRET, TOKEN, naive)

    with pytest.raises(ConfigurationError, match=r"2030, 1, 1, 0, 0\)\) has no zone"):
        await CredentialProvider(source).get()

    metadata = {"access_key": "id", "secret_key": SECRET, "token": TOKEN, "expiry_time": str(naive)}
    for botocores in (
        botocore.credentials.DeferredRefreshableCredentials(lambda: metadata, "mine"),
        botocore.credentials.RefreshableCredentials.create_from_metadata(metadata, dict, "mine"),
    ):
        with pytest.raises(ConfigurationError, match=r"credentials= \(mine\) gave has no zone"):
            await CredentialProvider(botocores).get()


HOUR = 3600.0


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_credentials_end_by_the_corrected_clock(offset: float) -> None:
    """The machine is an hour wrong; they live from half an hour before to half an hour behind."""
    correction = aiosmrt.signing.clock.Clock()
    clock = Clock()
    half = datetime.timedelta(seconds=offset / 2)
    provider = CredentialProvider(
        Credentials("id", SECRET, expires_at=clock.read() + half),
        clock=clock,
        correction=correction,
    )
    if offset > 0:
        assert at_once(provider.get()).access_key_id == "id"
        correction.offset = offset
        with pytest.raises(CredentialsError, match=r"by the service's clock \(\+3600 s from"):
            at_once(provider.get())
    else:
        with pytest.raises(CredentialsError, match=r"ended at 2027-01-15 07:30:00\+00:00\."):
            at_once(provider.get())
        correction.offset = offset
        assert at_once(provider.get()).access_key_id == "id"


def test_a_function_is_asked_again_by_the_corrected_clock() -> None:
    correction = aiosmrt.signing.clock.Clock()
    clock = Clock()
    asked = []

    async def source() -> Credentials:
        asked.append(correction.offset)
        seconds = correction.offset + HOUR
        return Credentials(
            "id", SECRET, expires_at=clock.read() + datetime.timedelta(seconds=seconds)
        )

    provider = CredentialProvider(source, clock=clock, correction=correction)
    fetch(provider)
    assert asked == [0.0]
    correction.offset = HOUR
    fetch(provider)
    assert asked == [0.0, HOUR]


@pytest.mark.parametrize("offset", [-2 * HOUR, 0.0, 2 * HOUR])
def test_what_the_chain_finds_ends_by_the_corrected_clock(home: Path, offset: float) -> None:
    """The process gives credentials that live for an hour by the service's clock."""
    runs = process_profile(
        home,
        f"seconds = time.time() + {offset + HOUR}\n"
        "end = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))\n"
        "print(json.dumps(dict(Version=1, AccessKeyId='id', SecretAccessKey='s',"
        " SessionToken='t', Expiration=end)))",
    )
    correction = aiosmrt.signing.clock.Clock(offset)
    provider = CredentialProvider(profile_name="proc", correction=correction)
    end = fetch(provider).expires_at
    assert end is not None
    assert end.timestamp() == pytest.approx(time.time() + offset + HOUR, abs=20)
    assert runs.read_text() == "x"
    # By the service's clock they are over: the process is asked, and says the same.
    correction.offset += 1.1 * HOUR
    with pytest.raises(CredentialsError, match="still expired"):
        fetch(provider)
    assert runs.read_text() == "xx"


# The time limit


@pytest.mark.asyncio
async def test_who_has_waited_too_long_is_told_for_whom(vendor: Vendor) -> None:
    vendor.open.clear()
    provider = vendor.provider()
    source = r"the botocore object given as credentials= \(vendor\)"
    for _ in range(2):
        with pytest.raises(
            CredentialsTimeout, match=rf"{source} within 0\.02 s \(Timeout\.credentials\)"
        ) as caught:
            await provider.get(0.02)
        assert isinstance(caught.value, CredentialsError)
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.limit, caught.value.seconds) == ("credentials", 0.02)
    # It goes on for whoever asks later, and there is only one.
    patient = asyncio.create_task(provider.get())
    await asyncio.sleep(0.01)
    vendor.open.set()
    assert (await patient).access_key_id == "key-1"
    assert vendor.calls == 1


@pytest.mark.asyncio
async def test_a_function_that_never_returns_has_a_limit() -> None:
    async def source() -> Credentials:
        await asyncio.Event().wait()
        raise AssertionError

    provider = CredentialProvider(source)
    with pytest.raises(CredentialsTimeout, match="from the function given as credentials= within"):
        await provider.get(0.02)
    await provider.aclose()


@pytest.mark.asyncio
async def test_a_limit_does_not_count_what_is_at_hand(vendor: Vendor) -> None:
    provider = vendor.provider()
    await provider.get()
    vendor.open.clear()
    vendor.clock.now = NOW + 3600 - 500
    assert (await provider.get(1e-9)).access_key_id == "key-1"
    vendor.open.set()
    await landing(provider)


@pytest.mark.parametrize("way", ["process", "container", "machine", "role"])
def test_the_limit_names_the_way_that_is_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        profile_name: str | None = "dev"
        config = home / ".aws/config"
        if way == "process":
            config.write_text("[profile dev]\ncredential_process = sleep 5\n")
            words = "the profile 'dev' (the credential_process)"
        elif way == "role":
            config.write_text(
                "[profile base]\naws_access_key_id = base\naws_secret_access_key = b\n[profile dev]"
                "\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
            )
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
            words = "the profile 'dev' (AssumeRole of STS, for the role_arn)"
        elif way == "container":
            profile_name = None
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/container")
            words = "the default chain (the container's endpoint, by AWS_CONTAINER"
        else:
            profile_name = None
            monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
            words = "the default chain (the instance metadata service, IMDS)"
        provider = CredentialProvider(profile_name=profile_name)

        async def wait() -> None:
            async with asyncio.timeout(20):
                while words.partition("(")[2] not in provider.source.place:
                    with contextlib.suppress(CredentialsTimeout):
                        await provider.get(0.05)
            with pytest.raises(CredentialsTimeout, match=re.escape(f"came from {words}")):
                await provider.get(0.05)

        asyncio.run(wait())


def test_sessions_and_objects_of_botocore() -> None:
    session = botocore.session.Session()
    session.set_credentials("id", SECRET, TOKEN)
    objects = [
        session,
        boto3.Session(
            aws_access_key_id="id", aws_secret_access_key=SECRET, aws_session_token=TOKEN
        ),
        session.get_credentials(),
        session.get_credentials().get_frozen_credentials(),
    ]
    for given in objects:
        provider = CredentialProvider(given)
        assert fetch(provider) == Credentials("id", SECRET, TOKEN)
        assert at_once(provider.get()).access_key_id == "id"
    with pytest.raises(CredentialsError, match="object given as credentials= has none"):
        fetch(CredentialProvider(botocore.session.Session()))


def test_a_session_that_can_be_called_is_a_session_still() -> None:
    class Session(botocore.session.Session):  # type: ignore[misc]  # botocore is untyped
        def __call__(self) -> None:
            raise AssertionError

    session = Session()
    session.set_credentials("id", SECRET)
    assert fetch(CredentialProvider(session)).access_key_id == "id"


def test_whatever_is_raised_in_the_thread_gets_to_the_caller() -> None:
    class Exiting:
        def get_frozen_credentials(self) -> None:
            raise SystemExit

    with pytest.raises(CredentialsError, match=r"\(SystemExit\): no details"):
        fetch(CredentialProvider(Exiting()))


def test_objects_whose_methods_are_coroutines_are_refused() -> None:
    class Asynchronous:
        async def get_credentials(self) -> None: ...

    class Refreshing:
        async def get_frozen_credentials(self) -> None: ...

    for given in (Asynchronous(), Refreshing()):
        provider = CredentialProvider(given)  # type: ignore[arg-type]  # the wrong argument
        with pytest.raises(ConfigurationError, match=r"Not credentials: .* gave a coroutine"):
            fetch(provider)


# One flight for everybody


@pytest.mark.asyncio
async def test_a_thousand_callers_share_one_fetch(vendor: Vendor) -> None:
    vendor.open.clear()
    provider = vendor.provider()
    calls = [asyncio.create_task(provider.get()) for _ in range(1000)]
    await asyncio.sleep(0.01)
    vendor.open.set()
    assert {c.access_key_id for c in await asyncio.gather(*calls)} == {"key-1"}
    assert vendor.calls == 1
    assert vendor.threads.isdisjoint({threading.get_ident()})


@pytest.mark.asyncio
async def test_a_cancelled_caller_disturbs_nobody(vendor: Vendor) -> None:
    vendor.open.clear()
    provider = vendor.provider()
    first, second, third = (asyncio.create_task(provider.get()) for _ in range(3))
    await asyncio.sleep(0.01)
    first.cancel()
    third.cancel()
    await asyncio.wait([first, third])
    assert first.cancelled()
    assert third.cancelled()
    assert not second.done()
    vendor.open.set()
    assert (await second).access_key_id == "key-1"
    assert (await provider.get()).access_key_id == "key-1"
    assert vendor.calls == 1


@pytest.mark.asyncio
async def test_a_fetch_that_everybody_left_still_counts(vendor: Vendor) -> None:
    vendor.open.clear()
    provider = vendor.provider()
    only = asyncio.create_task(provider.get())
    await asyncio.sleep(0.01)
    only.cancel()
    await asyncio.wait([only])
    vendor.open.set()
    await landing(provider)
    assert at_once(provider.get()).access_key_id == "key-1"
    assert vendor.calls == 1


@pytest.mark.asyncio
async def test_the_loop_runs_on_during_a_fetch(vendor: Vendor) -> None:
    vendor.open.clear()
    provider = vendor.provider()
    call = asyncio.create_task(provider.get())
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not call.done()
    vendor.open.set()
    assert (await call).access_key_id == "key-1"


@pytest.mark.asyncio
async def test_every_caller_gets_an_error_of_their_own(vendor: Vendor) -> None:
    vendor.open.clear()
    vendor.broken = True
    provider = vendor.provider()
    calls = [asyncio.create_task(provider.get()) for _ in range(3)]
    await asyncio.sleep(0.01)
    vendor.open.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, CredentialsError)
        assert "failed (OSError): the vendor is closed" in str(error)
        assert isinstance(error.__cause__, OSError)
    vendor.broken = False
    assert (await provider.get()).access_key_id == "key-2"


# Renewal


@pytest.mark.asyncio
async def test_the_old_ones_serve_while_new_ones_are_fetched(vendor: Vendor) -> None:
    provider = vendor.provider()
    await provider.get()
    vendor.open.clear()
    vendor.clock.now = NOW + 3600 - 899
    for _ in range(100):
        assert at_once(provider.get()).access_key_id == "key-1"
    vendor.clock.now = NOW + 3600 - 61
    assert at_once(provider.get()).access_key_id == "key-1"
    vendor.open.set()
    await landing(provider)
    assert at_once(provider.get()).access_key_id == "key-2"
    assert vendor.calls == 2


@pytest.mark.asyncio
async def test_calls_wait_in_the_last_minute(vendor: Vendor) -> None:
    provider = vendor.provider()
    await provider.get()
    vendor.open.clear()
    vendor.clock.now = NOW + 3600 - 899
    assert at_once(provider.get()).access_key_id == "key-1"
    vendor.clock.now = NOW + 3600 - 59
    call = asyncio.create_task(provider.get())
    await asyncio.sleep(0.01)
    assert not call.done()
    vendor.open.set()
    assert (await call).access_key_id == "key-2"
    assert vendor.calls == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("life", "left"), [(6 * 3600, 900), (3600, 900), (1200, 600), (300, 150), (10, 5)]
)
async def test_renewal_begins_in_time_and_not_before(vendor: Vendor, life: int, left: int) -> None:
    vendor.life = life
    provider = vendor.provider()
    await provider.get()
    for seconds in range(0, life - left, max(1, life // 100)):
        vendor.clock.now = NOW + seconds
        assert at_once(provider.get()).access_key_id == "key-1"
    assert vendor.calls == 1
    vendor.open.clear()
    vendor.clock.now = NOW + life - left + 1  # the end is known to the second, rounded up
    assert at_once(provider.get()).access_key_id == "key-1"
    vendor.open.set()
    await landing(provider)
    assert at_once(provider.get()).access_key_id == "key-2"
    assert vendor.calls == 2


@pytest.mark.asyncio
async def test_a_failed_renewal_is_told_and_tried_again_later(
    vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    async def source() -> Credentials:
        tries.append(round(NOW + 3600 - vendor.clock.now))
        if len(tries) > 1:
            raise LookupError("the vault is closed")
        return Credentials("id", SECRET, TOKEN, vendor.clock.read() + datetime.timedelta(hours=1))

    provider = CredentialProvider(source, clock=vendor.clock)
    await provider.get()
    for left in range(920, 60, -1):
        vendor.clock.now = NOW + 3600 - left
        assert at_once(provider.get()).access_key_id == "id"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert at_once(provider.get()).access_key_id == "id"
    assert tries == [3600, 900, 450, 225, 112]
    assert [record.name for record in caplog.records] == ["aiosmrt.signing.credentials"] * 4
    for left in tries[1:]:
        assert f"the old ones serve for {left} more seconds" in caplog.text
    assert "the vault is closed" in caplog.text
    assert "hunter2" not in caplog.text
    vendor.clock.now = NOW + 3600 - 60
    for _ in range(2):
        with pytest.raises(CredentialsError, match="the vault is closed"):
            await provider.get()
    assert len(tries) == 7
    assert len(caplog.records) == 4  # who gets an error needs no warning


@pytest.mark.asyncio
async def test_a_failed_renewal_of_botocores_is_tried_again_later(vendor: Vendor) -> None:
    provider = vendor.provider()
    await provider.get()
    vendor.broken = True
    for left in (899, 890, 451, 440, 430):
        vendor.clock.now = NOW + 3600 - left
        vendor.open.clear()
        assert at_once(provider.get()).access_key_id == "key-1"
        vendor.open.set()
        if provider._flight is not None:
            await landing(provider)
    assert vendor.calls == 3  # the first one, at 899 and at 440
    vendor.clock.now = NOW + 3600 - 59
    with pytest.raises(CredentialsError, match="the vendor is closed"):
        await provider.get()
    vendor.broken = False
    assert (await provider.get()).access_key_id == f"key-{vendor.calls}"


@pytest.mark.asyncio
async def test_an_old_failure_in_the_background_is_not_raised_later(vendor: Vendor) -> None:
    provider = vendor.provider()
    await provider.get()
    vendor.broken = True
    vendor.open.clear()
    vendor.clock.now = NOW + 3600 - 500
    at_once(provider.get())
    vendor.open.set()
    await landing(provider)
    vendor.broken = False
    vendor.clock.now = NOW + 7200
    assert (await provider.get()).access_key_id == "key-3"


@pytest.mark.parametrize(("forked", "runs"), [(False, 3), (True, 4)])
def test_botocores_session_is_kept_and_not_taken_over_a_fork(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    forked: bool,
    runs: int,
) -> None:
    # botocore runs the process when it finds it, and once more for every question in the last
    # 15 minutes.
    noted = process_profile(
        home,
        "end = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 800))\n"
        "print(json.dumps(dict(Version=1, AccessKeyId='id', SecretAccessKey='s',"
        " SessionToken='t', Expiration=end)))",
    )
    clock = Clock(time.time())
    provider = CredentialProvider(profile_name="proc", clock=clock)
    first = fetch(provider)
    assert noted.read_text() == "xx"
    if forked:
        monkeypatch.setattr(os, "getpid", lambda: -1)
    clock.now += 780  # the last tenth
    assert fetch(provider) != first
    assert noted.read_text() == "x" * runs


@pytest.mark.asyncio
async def test_a_source_that_gives_the_same_again_is_not_asked_all_the_time(
    vendor: Vendor,
) -> None:
    end = vendor.clock.read() + datetime.timedelta(hours=1)
    asked = []

    async def source() -> Credentials:
        asked.append(round(NOW + 3600 - vendor.clock.now))
        return Credentials("same", SECRET, expires_at=end)

    provider = CredentialProvider(source, clock=vendor.clock)
    await provider.get()
    for left in range(1000, 0, -1):
        vendor.clock.now = NOW + 3600 - left
        for _ in range(2):
            assert (await provider.get()).access_key_id == "same"
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    assert asked[:5] == [3600, 900, 450, 225, 112]
    assert len(asked) < 15
    vendor.clock.now = NOW + 3600
    with pytest.raises(CredentialsError, match="function given as credentials= ended at"):
        await provider.get()


@pytest.mark.asyncio
async def test_credentials_that_are_over_when_they_come_are_an_error(vendor: Vendor) -> None:
    vendor.life = -5
    provider = vendor.provider()
    with pytest.raises(CredentialsError, match="still expired"):
        await provider.get()
    vendor.life = 3600
    assert (await provider.get()).access_key_id.startswith("key-")


@pytest.mark.asyncio
async def test_very_long_lives_are_looked_at_now_and_then(vendor: Vendor) -> None:
    vendor.life = 400 * 86400
    provider = vendor.provider()
    end = (await provider.get()).expires_at
    assert end is not None
    assert 86400 < end.timestamp() - NOW < vendor.life
    vendor.clock.now = end.timestamp()
    assert (await provider.get()).access_key_id == "key-1"
    assert vendor.calls == 1


@pytest.mark.asyncio
async def test_refreshable_credentials_may_have_no_end(vendor: Vendor) -> None:
    endless = botocore.credentials.RefreshableCredentials(
        "id", SECRET, TOKEN, None, refresh_using=vendor.vend, method="vendor"
    )
    provider = CredentialProvider(endless, clock=vendor.clock)
    assert await provider.get() == Credentials("id", SECRET, TOKEN)
    assert vendor.calls == 0


# Refused credentials


@pytest.mark.asyncio
async def test_refused_credentials_are_fetched_anew(home: Path) -> None:
    file = home / ".aws/credentials"
    keys = "[default]\naws_access_key_id = {}\naws_secret_access_key = s\n"
    file.write_text(keys.format("old"))
    provider = CredentialProvider()
    old = await provider.get()
    file.write_text(keys.format("new"))
    assert (await provider.get()) is old
    provider.invalidate(old)
    new = await provider.get()
    assert new.access_key_id == "new"
    provider.invalidate(old)  # by a call that was slower than the others
    assert at_once(provider.get()) is new


@pytest.mark.asyncio
async def test_refused_credentials_of_a_function_are_fetched_anew() -> None:
    numbers = iter(range(9))

    async def source() -> Credentials:
        return Credentials(f"key-{next(numbers)}", SECRET)

    provider = CredentialProvider(source)
    first = await provider.get()
    assert (await provider.get()) is first
    provider.invalidate(first)
    assert (await provider.get()).access_key_id == "key-1"


# Functions of the user


@pytest.mark.asyncio
async def test_a_function_is_awaited_on_the_loop_once_for_everybody() -> None:
    gate = asyncio.Event()
    calls = []

    async def source() -> Credentials:
        calls.append(asyncio.get_running_loop())
        await gate.wait()
        return Credentials("id", SECRET)

    provider = CredentialProvider(source)
    tasks = [asyncio.create_task(provider.get()) for _ in range(100)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert set(results[1:]) == {Credentials("id", SECRET)}
    assert calls == [asyncio.get_running_loop()]


@pytest.mark.asyncio
async def test_a_function_may_give_what_is_botocores(vendor: Vendor) -> None:
    async def source() -> botocore.credentials.RefreshableCredentials:
        return vendor.credentials()

    provider = CredentialProvider(source, clock=vendor.clock)
    credentials = await provider.get()
    assert credentials.access_key_id == "key-1"
    assert credentials.expires_at is not None
    assert vendor.threads.isdisjoint({threading.get_ident()})

    vendor.broken = True
    provider.invalidate(credentials)
    with pytest.raises(CredentialsError, match="vendor is closed"):
        await provider.get()


@pytest.mark.asyncio
async def test_a_function_that_is_not_async_is_refused() -> None:
    def source() -> Credentials:
        return Credentials("id", SECRET)

    provider = CredentialProvider(source)  # type: ignore[arg-type]  # the wrong argument
    with pytest.raises(ConfigurationError, match="make it `async def`") as caught:
        await provider.get()
    assert "hunter2" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_function_that_gives_something_else_is_refused() -> None:
    async def source() -> object:
        return {"secret_key": SECRET}

    provider = CredentialProvider(source)  # type: ignore[arg-type]  # the wrong argument
    with pytest.raises(ConfigurationError, match=r"Not credentials: .* gave a dict") as caught:
        await provider.get()
    assert "hunter2" not in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [LookupError("vault"), ConfigurationError("vault")])
async def test_a_function_that_raises_is_a_fetch_that_failed(error: Exception) -> None:
    async def source() -> Credentials:
        raise error

    with pytest.raises(AiosmrtError, match="vault") as caught:
        await CredentialProvider(source).get()
    if isinstance(error, AiosmrtError):
        assert type(caught.value) is type(error)
    else:
        assert isinstance(caught.value, CredentialsError)
        assert caught.value.__cause__ is error


# Loops, forks, ends


def test_a_flight_that_one_run_began_serves_the_next(vendor: Vendor) -> None:
    vendor.open.clear()
    provider = vendor.provider()

    async def leave_early() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(provider.get(), 0.01)

    asyncio.run(leave_early())

    async def stay() -> Credentials:
        call = asyncio.create_task(provider.get())
        await asyncio.sleep(0.01)
        vendor.open.set()
        return await call

    assert asyncio.run(stay()).access_key_id == "key-1"
    assert vendor.calls == 1
    assert at_once(provider.get()).access_key_id == "key-1"


@pytest.mark.parametrize("end", ["closed", "stopped"])
def test_a_function_that_one_loop_left_unfinished_is_called_by_the_next(end: str) -> None:
    calls: list[None] = []

    async def source() -> Credentials:
        calls.append(None)
        if len(calls) == 1:
            await asyncio.sleep(3600)
        return Credentials("id", SECRET)

    provider = CredentialProvider(source)

    async def leave_early() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(provider.get(), 0.01)

    if end == "closed":
        asyncio.run(leave_early())
        assert fetch(provider).access_key_id == "id"
    else:
        with asyncio.Runner() as stopped:
            stopped.run(leave_early())
            assert fetch(provider).access_key_id == "id"
    assert len(calls) == 2


def test_a_fork_fetches_for_itself(home: Path) -> None:
    process_profile(
        home,
        "time.sleep(0.3)\n"
        "print(json.dumps(dict(Version=1, AccessKeyId='id', SecretAccessKey='s')))",
    )
    code = """if True:
        import asyncio, os, sys, warnings
        import botocore.session  # an import under way does not survive a fork
        from aiosmrt.signing.credentials import CredentialProvider
        warnings.simplefilter("ignore")  # on forking beside a thread, which is the point
        provider = CredentialProvider(profile_name="proc")
        async def leave_early():
            try:
                await asyncio.wait_for(provider.get(), 0.2)
            except TimeoutError:
                pass
        asyncio.run(leave_early())
        child = os.fork()
        credentials = asyncio.run(asyncio.wait_for(provider.get(), 10))
        asyncio.run(provider.aclose())
        print(credentials.access_key_id, flush=True)
        if child == 0:
            os._exit(0)
        sys.exit(os.waitpid(child, 0)[1])
    """
    done = run_script(code)
    assert (done.returncode, done.stdout.split()) == (0, ["id", "id"]), done.stderr


def test_a_fetch_that_hangs_does_not_hold_up_the_exit(home: Path) -> None:
    process_profile(home, "time.sleep(15)")
    code = """if True:
        import asyncio
        from aiosmrt.signing.credentials import CredentialProvider
        provider = CredentialProvider(profile_name="proc")
        async def leave_early():
            try:
                await asyncio.wait_for(provider.get(), 0.1)
            except TimeoutError:
                await provider.aclose()
        asyncio.run(leave_early())
        print("left")
    """
    began = time.monotonic()
    done = run_script(code)
    assert done.stdout.strip() == "left", done.stderr
    assert not done.stderr
    assert time.monotonic() - began < 10


# Closing


@pytest.mark.asyncio
async def test_closing_with_nothing_under_way_does_nothing(vendor: Vendor) -> None:
    provider = vendor.provider()
    at_once(provider.aclose())
    await provider.get()
    at_once(provider.aclose())
    assert at_once(provider.get()).access_key_id == "key-1"


@pytest.mark.asyncio
async def test_closing_waits_for_a_thread(vendor: Vendor) -> None:
    provider = vendor.provider()
    await provider.get()
    vendor.open.clear()
    vendor.clock.now = NOW + 3600 - 500
    at_once(provider.get())
    closing = asyncio.create_task(provider.aclose())
    await asyncio.sleep(0.01)
    assert not closing.done()
    vendor.open.set()
    await closing
    assert at_once(provider.get()).access_key_id == "key-2"


@pytest.mark.asyncio
async def test_closing_does_not_wait_long_for_a_thread(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiosmrt.signing.credentials, "_CLOSING", 0.01)
    vendor.open.clear()
    provider = vendor.provider()
    call = asyncio.create_task(provider.get())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await provider.aclose()
    assert not call.done()
    vendor.open.set()
    assert (await call).access_key_id == "key-1"
    assert vendor.calls == 1


@pytest.mark.asyncio
async def test_closing_cancels_a_function_and_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiosmrt.signing.credentials, "_CLOSING", 0.001)  # does not count here
    events = []

    async def source() -> Credentials:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.02)
            events.append("cleaned up")
        raise AssertionError

    provider = CredentialProvider(source)
    call = asyncio.create_task(provider.get())
    await asyncio.sleep(0.01)
    await provider.aclose()
    assert events == ["cleaned up"]
    with pytest.raises(ClientClosed, match="while it fetched credentials"):
        await call


@pytest.mark.asyncio
async def test_a_renewal_that_closing_ended_is_no_failure(
    vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    async def source() -> Credentials:
        vendor.calls += 1
        if vendor.calls == 2:
            await asyncio.sleep(3600)
        end = vendor.clock.read() + datetime.timedelta(hours=1)
        return Credentials(f"key-{vendor.calls}", SECRET, expires_at=end)

    provider = CredentialProvider(source, clock=vendor.clock)
    await provider.get()
    vendor.clock.now = NOW + 3000
    assert (await provider.get()).access_key_id == "key-1"
    await asyncio.sleep(0)
    await provider.aclose()
    assert (await provider.get()).access_key_id == "key-1"
    await landing(provider)
    assert (await provider.get()).access_key_id == "key-3"
    assert not caplog.records


def test_closing_in_another_loop_leaves_what_is_lost_alone() -> None:
    async def source() -> Credentials:
        await asyncio.sleep(3600)
        raise AssertionError

    provider = CredentialProvider(source)

    async def leave_early() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(provider.get(), 0.01)

    with asyncio.Runner() as stopped:
        stopped.run(leave_early())
        asyncio.run(asyncio.wait_for(provider.aclose(), 5))


# Secrets


@pytest.mark.asyncio
async def test_no_secret_is_shown(vendor: Vendor) -> None:
    async def source() -> Credentials:
        return Credentials("id", SECRET, TOKEN)

    session = botocore.session.Session()
    session.set_credentials("id", SECRET, TOKEN)
    makers: list[Callable[[], CredentialProvider]] = [
        lambda: CredentialProvider(access_key_id="id", secret_access_key=SECRET),
        lambda: CredentialProvider(Credentials("id", SECRET, TOKEN)),
        lambda: CredentialProvider(source),
        lambda: CredentialProvider(session),
        lambda: CredentialProvider(session.get_credentials().get_frozen_credentials()),
        lambda: CredentialProvider(profile_name="dev"),
        CredentialProvider,
    ]
    shown = set()
    for make in makers:
        provider = make()
        shown.add(repr(provider))
        with contextlib.suppress(CredentialsError):
            await provider.get()
        shown.add(repr(provider))
    assert "<CredentialProvider: the profile 'dev'>" in shown
    assert "hunter2" not in "".join(shown)


@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
@pytest.mark.parametrize("end", ["\n", "\x00", "\udcff", "ö"])
@pytest.mark.asyncio
async def test_a_key_that_no_request_can_carry_is_named(name: str, end: str) -> None:
    keys = {"access_key_id": "id", "secret_access_key": SECRET, "session_token": TOKEN}
    provider = CredentialProvider(**{**keys, name: keys[name] + end})  # type: ignore[arg-type]
    with pytest.raises(CredentialsError, match=f"{name} of the keys given as arguments") as caught:
        await provider.get()
    assert "was it read with the end of its line?" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_key_is_text() -> None:
    class Frozen:
        access_key, secret_key, token = b"id", SECRET, None

    with pytest.raises(CredentialsError, match="access_key_id of the botocore object"):
        await CredentialProvider(Frozen()).get()  # type: ignore[arg-type]  # it is none
