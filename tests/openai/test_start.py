from __future__ import annotations

import subprocess
import sys


def test_nothing_of_the_sdk_is_imported_before_it_is_asked_for() -> None:
    program = (
        "import sys, aiosmrt; dir(aiosmrt); before = set(sys.modules); aiosmrt.openai.connect;"
        "assert 'openai' in sys.modules; print(*before & {'openai', 'httpx', 'httpx2'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert not done.stdout.strip()


def test_without_the_sdk_the_extra_is_named() -> None:
    program = "import sys; sys.modules['openai'] = None; import aiosmrt; aiosmrt.openai"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert "pip install aiosmrt[openai]" in done.stderr.splitlines()[-1]
