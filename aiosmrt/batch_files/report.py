"""A page of HTML with the figures of a batch. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from aiosmrt.batch_files.figures import Figures

__all__ = ["write_report"]


def write_report(figures: Figures, title: str, facts: Mapping[str, str]) -> str:
    """Write the page."""
    return f"{figures} {title} {facts}"
