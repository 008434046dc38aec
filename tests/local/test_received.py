from __future__ import annotations

import pytest

from aiosmrt.local import InvocationRequest, ReceivedRequests

A = InvocationRequest("InvokeEndpoint", "a", b'{"x": 1}', content_type="application/json")
B = InvocationRequest("InvokeEndpoint", "b", b"text", session_id="s", attempt=2)


def test_a_request_gives_its_body_as_text_and_as_json() -> None:
    assert (A.json, A.text, B.text) == ({"x": 1}, '{"x": 1}', "text")
    with pytest.raises(ValueError, match="Expecting value"):
        _ = B.json


def test_some_are_found_by_their_members() -> None:
    requests = ReceivedRequests([A, B, A])
    assert requests.where(endpoint_name="a") == [A, A]
    assert requests.where(json={"x": 1}, operation="InvokeEndpoint") == [A, A]
    assert requests.where(endpoint_name="a").where(text="no") == []
    assert requests.only(session_id="s") is B
    assert ReceivedRequests([A]).only() is A


def test_it_is_a_list_like_any() -> None:
    requests = ReceivedRequests([A, B])
    assert requests == [A, B]
    assert requests[-1] is B
    assert [request.endpoint_name for request in requests] == ["a", "b"]


def test_what_was_not_the_only_one_is_told_with_all_that_there_are() -> None:
    with pytest.raises(AssertionError) as caught:
        ReceivedRequests([A, B]).only(endpoint_name="c", json={"x": 1})
    assert str(caught.value).splitlines() == [
        "not one request with endpoint_name='c', json={'x': 1}, but 0 of 2:",
        "  InvokeEndpoint of 'a' (content_type='application/json'): {\"x\": 1}",
        "    endpoint_name is 'a', not 'c'",
        "  InvokeEndpoint of 'b' (attempt 2, session_id='s'): text",
        "    endpoint_name is 'b', not 'c'",
        "    json: the body is not JSON",
    ]
    with pytest.raises(AssertionError, match="not one request, but 2 of 2:"):
        ReceivedRequests([A, B]).only()
    with pytest.raises(AssertionError, match="there was none at all"):
        ReceivedRequests().only()


def test_a_member_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="no member 'endpoint'; did you mean 'endpoint_name'"):
        ReceivedRequests([A]).where(endpoint="a")


def test_a_long_body_is_cut_and_control_characters_are_left_out() -> None:
    request = InvocationRequest("InvokeEndpoint", "a", b"\x1b[31m" + b"x" * 1000)
    with pytest.raises(AssertionError) as caught:
        ReceivedRequests([request]).only(endpoint_name="b")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300
