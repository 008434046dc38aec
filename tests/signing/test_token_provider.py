"""Which token is given, and when another one."""

from __future__ import annotations

import asyncio
import base64
import datetime
import logging
import math
from urllib.parse import parse_qs

import attrs
import pytest

from aiosmrt.config import Credentials
from aiosmrt.errors import CredentialsError, CredentialsTimeout, ParameterError
from aiosmrt.models import BearerToken
from aiosmrt.signing.credentials import CredentialProvider
from aiosmrt.signing.token_provider import TokenProvider

pytestmark = pytest.mark.asyncio

NOW = 1_800_000_000.0


@attrs.define
class Source:
    """Gives numbered keys, whose life is as long as it is told, by a clock that is set by hand."""

    life: float = math.inf  # seconds
    now: float = NOW
    calls: int = 0
    open: asyncio.Event = attrs.field(factory=asyncio.Event)
    error: Exception | None = None

    def __attrs_post_init__(self) -> None:
        self.open.set()

    async def __call__(self) -> Credentials:
        self.calls += 1
        number = self.calls
        await self.open.wait()
        if self.error is not None:
            raise self.error
        end = None
        if self.life < math.inf:
            end = datetime.datetime.fromtimestamp(self.now + self.life, datetime.UTC)
        return Credentials(f"key-{number}", "secret", None, end)

    def provider(self) -> CredentialProvider:
        return CredentialProvider(self, clock=lambda: self.now)


@attrs.define
class Asker:
    """Asks one provider of tokens."""

    source: Source
    credentials: CredentialProvider
    tokens: TokenProvider = attrs.field(factory=TokenProvider)

    async def ask(
        self,
        expires_in: int = 900,
        *,
        region: str = "us-east-1",
        limit: float | None = 5,
        refresh: bool = False,
    ) -> BearerToken:
        return await self.tokens.get(
            self.credentials, region, expires_in, limit=limit, refresh=refresh
        )


@pytest.fixture
def asker() -> Asker:
    source = Source()
    return Asker(source, source.provider())


def _fields(token: str) -> dict[str, str]:
    text = base64.b64decode(token.removeprefix("sagemaker-api-key-")).decode()
    return {name: value[0] for name, value in parse_qs(text.partition("?")[2]).items()}


def _key_of(token: str) -> str:
    return _fields(token)["X-Amz-Credential"].partition("/")[0]


def _life(token: str) -> int:
    return int(_fields(token)["X-Amz-Expires"])


@pytest.mark.parametrize(("life", "margin"), [(900, 60), (100, 10), (43_200, 60)])
async def test_one_is_given_again_until_shortly_before_its_end(
    asker: Asker, life: int, margin: int
) -> None:
    first = await asker.ask(life)
    asker.source.now += life - margin - 1
    assert await asker.ask(life) is first
    asker.source.now += 1
    second = await asker.ask(life)
    assert second.expires_at - first.expires_at == datetime.timedelta(seconds=life - margin)


async def test_one_from_the_future_is_not_given_when_the_clock_was_corrected(
    asker: Asker,
) -> None:
    await asker.ask()
    asker.source.now -= 3600
    second = await asker.ask()
    assert second.expires_at.timestamp() == pytest.approx(asker.source.now + 900, abs=1)
    assert await asker.ask() is second


async def test_another_life_or_region_is_another_token(asker: Asker) -> None:
    first = await asker.ask(900)
    assert _life(await asker.ask(901)) == 901
    assert await asker.ask(900) == first  # made anew, in the same second
    elsewhere = await asker.ask(900, region="eu-west-1")
    assert "/eu-west-1/" in _fields(elsewhere)["X-Amz-Credential"]


async def test_other_credentials_make_another_token(asker: Asker) -> None:
    first = await asker.ask()
    asker.credentials.invalidate(await asker.credentials.get())
    second = await asker.ask()
    assert (_key_of(first), _key_of(second)) == ("key-1", "key-2")


async def test_a_refused_one_is_dropped_with_its_credentials(asker: Asker) -> None:
    assert _key_of(await asker.ask(refresh=True)) == "key-1"
    asker.source.now += 1
    assert _key_of(await asker.ask(refresh=True)) == "key-2"
    assert _key_of(await asker.ask()) == "key-2"


async def test_refused_ones_of_many_share_a_fetch(asker: Asker) -> None:
    await asker.ask()
    tokens = await asyncio.gather(*(asker.ask(refresh=True) for _ in range(10)))
    assert {_key_of(token) for token in tokens} == {"key-2"}
    assert asker.source.calls == 2


async def test_one_never_outlives_its_credentials(
    asker: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    asker.source.life = 1200.7
    asker.source.now += 0.5
    end = (await asker.credentials.get()).expires_at
    with caplog.at_level(logging.INFO, "aiosmrt"):
        assert _life(await asker.ask(900)) == 900
        assert not caplog.records
        token = await asker.ask(43_200)
    assert _life(token) == 1201  # from the beginning of this second
    assert end is not None
    assert token.expires_at <= end
    assert "lives for 1201 s and not for 43200 s: its credentials end then" in caplog.text


async def test_credentials_that_are_about_to_end_are_renewed_first(asker: Asker) -> None:
    asker.source.life = 3600
    await asker.ask()
    asker.source.now += 3600 - 600  # in their last quarter of an hour, and no token is at hand
    asker.source.open.clear()
    asking = asyncio.create_task(asker.ask())
    await asyncio.sleep(0.01)
    assert not asking.done()
    asker.source.open.set()
    token = await asking
    assert (_key_of(token), _life(token)) == ("key-2", 900)


async def test_a_token_at_hand_does_not_wait_for_a_renewal(asker: Asker) -> None:
    asker.source.life = 3600
    asker.source.now += 0.25
    await asker.credentials.get()
    asker.source.now += 2500
    token = await asker.ask(1000)
    asker.source.now += 300
    asker.source.open.clear()
    assert await asyncio.wait_for(asker.ask(1000), 1) is token
    await asyncio.sleep(0)
    assert asker.source.calls == 2  # the renewal has begun
    asker.source.open.set()


@pytest.mark.parametrize("error", [None, OSError("nobody is there")])
async def test_where_no_renewal_comes_the_old_credentials_make_it(
    asker: Asker, error: Exception | None
) -> None:
    asker.source.life = 3600
    await asker.ask()
    asker.source.now += 3600 - 600
    asker.source.error = error
    if error is None:
        asker.source.open.clear()
    token = await asker.ask(limit=0.01 if error is None else 5)
    assert (_key_of(token), _life(token)) == ("key-1", 600)
    asker.source.open.set()
    await asker.credentials.aclose()


async def test_no_token_without_credentials(asker: Asker) -> None:
    asker.source.error = OSError("nobody is there")
    with pytest.raises(CredentialsError, match="nobody is there"):
        await asker.ask()
    asker.source.error = None
    asker.source.open.clear()
    with pytest.raises(CredentialsTimeout):
        await asker.ask(limit=0.01)
    asker.source.open.set()
    assert await asker.ask()


async def test_no_token_of_credentials_that_end_within_a_second() -> None:
    end = datetime.datetime.fromtimestamp(NOW + 0.9, datetime.UTC)
    source = Source()
    given = CredentialProvider(Credentials("a", "b", None, end), clock=lambda: source.now)
    with pytest.raises(CredentialsError, match="too soon for a bearer token"):
        await Asker(source, given).ask()


async def test_a_life_that_there_cannot_be_is_refused_first(asker: Asker) -> None:
    with pytest.raises(ParameterError, match="expires_in=0"):
        await asker.ask(0)
    assert asker.source.calls == 0


async def test_a_cancelled_wait_leaves_the_fetch_to_others(asker: Asker) -> None:
    asker.source.open.clear()
    asking = [asyncio.create_task(asker.ask()) for _ in range(2)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    asker.source.open.set()
    assert _key_of(await asking[1]) == "key-1"
    assert asking[0].cancelled()
