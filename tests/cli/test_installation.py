"""What `--version` says."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys

import pytest

import aiosmrt
from aiosmrt.cli.installation import describe_installation


def test_the_command_says_what_a_report_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiosmrt", "--version"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        f"aiosmrt {aiosmrt.__version__}",
        f"CPython {platform.python_version()}",
        platform.platform(),
    ]
    for name in ("aiohttp", "attrs", "botocore"):
        assert f"{name} {importlib.metadata.version(name)}" in lines


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(name: str) -> str:
        if name == "uvloop":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("importlib.metadata.version", look)
    described = describe_installation()
    assert "uvloop" not in described
    assert "\naiohttp 1\n" in described
