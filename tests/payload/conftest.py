from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import attrs
import pytest


@attrs.frozen
class FramingCase:
    """A payload as a container cuts it into parts, and what is in it."""

    name: str
    chunks: list[bytes]
    lines: list[str]
    events: list[str] | None  # the data of its server-sent events, if it has any

    @property
    def whole(self) -> bytes:
        return b"".join(self.chunks)


@pytest.fixture
def framing_cases(vectors: Path) -> list[FramingCase]:
    """Give payloads as containers frame them."""
    cases: list[dict[str, Any]] = json.loads((vectors / "llm-framing/cases.json").read_text())
    assert len(cases) >= 7
    return [
        FramingCase(
            name=case["name"],
            chunks=[base64.b64decode(part) for part in case["parts_b64"]],
            lines=case["expected_lines"],
            events=case["expected_sse_data"],
        )
        for case in cases
    ]
