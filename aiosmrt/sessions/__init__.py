"""Stateful sessions: calls that one instance of a model answers, which remembers those before.

It knows the calls of a session, not the client that makes them.
"""

from __future__ import annotations

from aiosmrt.sessions.lifetime import Invoker
from aiosmrt.sessions.session import StatefulSession
from aiosmrt.sessions.state import SessionState

__all__ = ["Invoker", "SessionState", "StatefulSession"]
