from __future__ import annotations

import copy
import pickle
from typing import Any

import openai
import pytest

import aiosmrt
from aiosmrt import errors
from aiosmrt.openai.answer import refuse
from aiosmrt.openai.errors import join
from aiosmrt.openai.family import Request

REQUEST = Request("POST", "http://sagemaker/v1/chat/completions", content=b"secret prompt")

# Each class that can be raised, made as it is made; all else is set on it.
ALL = [
    kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, aiosmrt.AiosmrtError)
]


def make(kind: type[aiosmrt.AiosmrtError]) -> aiosmrt.AiosmrtError:
    error = kind("what happened")
    error.operation, error.endpoint_name, error.request_id = "InvokeEndpoint", "llm", "7-7-7"
    error.may_have_run = True
    return error


@pytest.mark.parametrize("kind", ALL)
def test_an_error_is_both(kind: type[aiosmrt.AiosmrtError]) -> None:
    error = make(kind)
    refusal = refuse(error, REQUEST)
    if refusal is None:
        joined: Any = join(error, REQUEST)
    else:
        with pytest.raises(kind) as caught:
            refusal.raise_for_status()
        joined = caught.value
        assert isinstance(joined, openai.APIStatusError)
        assert joined.status_code == joined.response.status_code == refusal.status_code
    assert isinstance(joined, kind)
    assert isinstance(joined, openai.APIError)
    assert isinstance(joined, TimeoutError) == issubclass(kind, TimeoutError)
    assert isinstance(joined, openai.APITimeoutError) == issubclass(kind, TimeoutError)
    # It says what the first has said, and is called so.
    assert (str(joined), repr(joined), joined.args) == (str(error), repr(error), error.args)
    assert joined.public_text == error.public_text
    assert joined.request is REQUEST
    assert joined.message == "what happened"
    for name, value in vars(error).items():
        if name not in ("message", "code"):
            assert getattr(joined, name) == value, name


@pytest.mark.parametrize("kind", ALL)
def test_it_can_be_pickled_and_copied(kind: type[aiosmrt.AiosmrtError]) -> None:
    error = make(kind)
    refusal = refuse(error, REQUEST)
    joined: Any = join(error, REQUEST, refusal)
    pickled = pickle.dumps(joined)
    assert b"secret prompt" not in pickled
    for again in (pickle.loads(pickled), copy.copy(joined)):
        assert type(again) is type(joined)
        assert (str(again), repr(again)) == (str(joined), repr(joined))
        assert str(again.request.url) == str(REQUEST.url)
        same = {k: v for k, v in vars(again).items() if k not in ("request", "response")}
        assert same == {k: v for k, v in vars(joined).items() if k not in ("request", "response")}
        if refusal is not None:
            assert again.response.json() == refusal.json()
            assert again.status_code == refusal.status_code


def test_the_cause_is_kept() -> None:
    error = make(aiosmrt.ConnectionLost)
    error.__cause__ = OSError(104, "reset")
    assert join(error, REQUEST).__cause__ is error.__cause__


def test_one_class_is_made_for_each_pair() -> None:
    one, two = (join(make(aiosmrt.IdleTimeout), REQUEST) for _ in range(2))
    assert type(one) is type(two)
    assert type(one).__name__ == "IdleTimeout"
    assert "openai.APITimeoutError" in (type(one).__doc__ or "")
