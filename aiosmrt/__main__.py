"""`python -m aiosmrt`."""

from __future__ import annotations

import sys

from aiosmrt.cli import main

if __name__ == "__main__":
    sys.exit(main())
