"""The requests that an endpoint has received, for a test to ask about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.words import suggest
from aiosmrt.masking import mask_named
from aiosmrt.plain_text import to_line
from aiosmrt.redaction import redact_url
from aiosmrt.service import OPERATIONS

__all__ = ["MEMBERS", "ReceivedRequests", "explain_members", "show_request", "show_value"]

MEMBERS = (*(field.name for field in attrs.fields(InvocationRequest)), "json", "text")
"""What can be asked of a request by name."""

_LONGEST = 120  # characters of a value in a text
_SECRET = ("custom_attributes", "headers")


class ReceivedRequests(list[InvocationRequest]):
    """A list of requests, oldest first, that finds some of them by their members."""

    def where(self, **members: object) -> ReceivedRequests:
        """Give those whose members are equal to these, in the same order.

        Args:
            members: of `InvocationRequest` by name, `json` and `text` among them; `headers` are
                those that are to be there, among others.

        Raises:
            TypeError: a request has no such member.
        """
        check_members(members)
        return ReceivedRequests(
            request for request in self if not list(explain_members(request, members))
        )

    def only(self, **members: object) -> InvocationRequest:
        """Give the one request whose members are equal to these.

        Args:
            members: as for `where`; none, where there is to be one request at all.

        Raises:
            AssertionError: there is none, or more than one; the text shows all that there are, and
                how each differs.
            TypeError: a request has no such member.
        """
        found = self.where(**members)
        if len(found) == 1:
            return found[0]
        asked = ", ".join(f"{name}={show_value(name, value)}" for name, value in members.items())
        wanted = f"one request with {asked}" if asked else "one request"
        lines = [f"not {wanted}, but {len(found)} of {len(self)}:"]
        for request in self:
            lines.append(f"  {show_request(request)}")
            lines += [f"    {difference}" for difference in explain_members(request, members)]
        raise AssertionError("\n".join(lines) if self else f"not {wanted}: there was none at all")


def check_members(members: Mapping[str, object]) -> None:
    """Refuse what no request can be asked for.

    Raises:
        TypeError: a name that no member has, with the one that was probably meant; a value that
            this member never has.
    """
    for name, wanted in members.items():
        if name not in MEMBERS:
            raise TypeError(f"a request has no member {name!r}{suggest(name, MEMBERS)}")
        if name == "headers" and not isinstance(wanted, Mapping):
            raise TypeError(f"headers are a dict of those to be there, not {wanted!r}")
        if name == "body" and isinstance(wanted, str):
            raise TypeError(f"body is bytes; text is a str, and json a value: not {wanted!r}")
        if name == "operation" and isinstance(wanted, str) and wanted not in OPERATIONS:
            raise TypeError(f"operation is {', '.join(OPERATIONS)}, not {wanted!r}")


def explain_members(request: InvocationRequest, members: dict[str, object]) -> Iterable[str]:
    """Say in which members a request differs from those that are asked for."""
    for name, wanted in members.items():
        try:
            value = getattr(request, name)
        except ValueError:
            yield f"{name}: the body is not JSON"
            continue
        if name == "headers" and isinstance(wanted, Mapping):
            yield from _explain_headers(value, wanted)
        elif value != wanted:
            yield f"{name} is {show_value(name, value)}, not {show_value(name, wanted)}"


def _explain_headers(headers: Mapping[str, str], wanted: Mapping[str, object]) -> Iterable[str]:
    """Say which of some headers are not there; what they hold may be secret."""
    for name, value in wanted.items():
        came = headers.get(name.lower())
        if came != value:
            yield f"the header {name} {'is not there' if came is None else 'has another value'}"


def show_request(request: InvocationRequest) -> str:
    """Put a request on one line, without its headers and what else may be secret."""
    told = [
        f"{field.name}={show_value(field.name, value)}"
        for field in attrs.fields(InvocationRequest)[3:]
        if field.eq and (value := getattr(request, field.name)) != field.default
    ]
    again = [f"attempt {request.attempt}"] if request.attempt > 1 else []
    about = ", ".join([*again, *told])
    body = _shorten(mask_named(to_line(request.text)))
    return f"{request.operation} of {request.endpoint_name!r}{about and f' ({about})'}: {body}"


def show_value(name: str, value: object) -> str:
    """Give a member's value in a few characters, masked where it may be secret."""
    if name in _SECRET and value is not None:
        return "****"
    if isinstance(value, str) and name == "input_location":
        value = redact_url(value)  # one that is signed lets whoever has it read the input
    if isinstance(value, Mapping) and name == "on":
        members = (f"{key!r}: {show_value(key, member)}" for key, member in value.items())
        return f"{{{', '.join(members)}}}"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return _shorten(mask_named(to_line(repr(value))))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
