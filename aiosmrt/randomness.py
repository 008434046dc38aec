"""Chance of our own: a program that seeds `random` neither repeats our ids nor is disturbed."""

from __future__ import annotations

import os
import random
from typing import Final

__all__ = ["generator"]

generator: Final = random.Random()  # noqa: S311 - ids and jitter, no secrets
"""Seeded by the system, and anew in a child process, which would repeat its parent else."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=generator.seed)
