"""Telemetry: spans and metrics of every call, by OpenTelemetry's conventions.

    aiosmrt.otel.instrument(client)

It needs `opentelemetry-api` alone, the extra `aiosmrt[otel]`; where spans and metrics go is said by
the program, with OpenTelemetry's SDK. As long as nobody has said so, a call costs what it costs
without. `opentelemetry-instrument` does so for every client of a process that it starts.

A call is one client span, from its beginning to its end with all attempts: of a response stream to
the stream's end, whether that was proven, failed, left, or dropped. It is the current span until
the call is answered, a stream until that is open. Bodies, custom attributes, ids of sessions and
credentials are in none of it.
"""

from __future__ import annotations

try:
    from aiosmrt.otel.telemetry import instrument
except ModuleNotFoundError as _error:
    raise ImportError(
        f"aiosmrt.otel needs opentelemetry-api: pip install 'aiosmrt[otel]' ({_error})"
    ) from _error

__all__ = ["instrument"]
