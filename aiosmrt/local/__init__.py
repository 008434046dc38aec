"""A local SageMaker Runtime endpoint: real HTTP, real frames, in front of a model of yours.

::

    def model(request: InvocationRequest) -> dict[str, int]:
        return {"length": len(request.body)}

    async with LocalEndpoint(model) as endpoint:
        ...  # any SDK, pointed at endpoint.url; its S3 has the same URL, in path style

or of a script, for tests::

    endpoint.throttle(2)
    endpoint.answer(json={"ok": True})
    endpoint.cut(after=2, inside="frame", chat="Once upon a time")
"""

from aiosmrt.local.certificate import load_certificate, make_certificate
from aiosmrt.local.endpoint import LocalEndpoint
from aiosmrt.local.limits import ServiceLimits
from aiosmrt.local.line import AnswerOptions, StepOptions
from aiosmrt.local.loopback import LoopbackGuard
from aiosmrt.local.model import (
    InvocationRequest,
    Model,
    ModelFailure,
    ModelResponse,
    load_model,
)
from aiosmrt.local.objects import ObjectStore, StoredObject
from aiosmrt.local.received import ReceivedRequests
from aiosmrt.local.serving import serve

__all__ = [
    "AnswerOptions",
    "InvocationRequest",
    "LocalEndpoint",
    "LoopbackGuard",
    "Model",
    "ModelFailure",
    "ModelResponse",
    "ObjectStore",
    "ReceivedRequests",
    "ServiceLimits",
    "StepOptions",
    "StoredObject",
    "load_certificate",
    "load_model",
    "make_certificate",
    "serve",
]
