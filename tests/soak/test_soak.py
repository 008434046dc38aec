"""The soak itself, for seconds: `make soak MINUTES=n` has the whole of it."""

from __future__ import annotations

import gc

import pytest

import aiosmrt.threads
from tests.soak.__main__ import soak


# Of aiohttp on uvloop, where a connection is lost before it is told of.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(("loop", "wire"), [("asyncio", "plain"), ("uvloop", "TLS")])
def test_nothing_is_left_and_the_books_balance(
    loop: str, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiosmrt.threads, "_IDLE", 1.0)  # or it would wait for their ten seconds
    finding = soak(loop, wire, seconds=1, tasks=5)
    gc.collect()
    assert sum(finding.books.outcomes.values())
    # How long a callback takes is for a machine that others leave alone.
    assert [wrong for wrong in finding.wrong if "held the loop" not in wrong] == []
