"""Many inputs through one operation: bounded in flight, each row with an outcome of its own.

It knows how a call is carried out, and nothing of the client in front of it.
"""

from __future__ import annotations

from aiosmrt.batch.bounds import Bounds
from aiosmrt.batch.iterator import Batch
from aiosmrt.batch.operations import OperationName, begin
from aiosmrt.batch.outcome import Outcome
from aiosmrt.batch.rows import Inputs, Request

__all__ = ["Batch", "Bounds", "Inputs", "OperationName", "Outcome", "Request", "begin"]
