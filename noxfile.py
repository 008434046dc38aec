"""The matrix: each Python that is here, with the oldest and the newest of what the client needs.

`nox` runs all of it, `nox -s 'tests-3.11(oldest)'` one cell.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@nox.session(python=PYTHONS)
@nox.parametrize("versions", ["oldest", "newest"])
def tests(session: nox.Session, versions: str) -> None:
    """Run the suite."""
    session.install("pip>=25.1")
    constraints = Path(session.create_tmp(), "constraints.txt").resolve()
    constraints.write_text("".join(_pin_oldest()) if versions == "oldest" else "")
    session.install("--constraint", str(constraints), "--group", "test", "--editable", ".")
    session.run("python", "-m", "pytest", "-n", "4", *session.posargs)


def _pin_oldest() -> list[str]:
    """Turn the lower bounds of the dependencies into the versions to install."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [f"{bound.replace('>=', '==')}\n" for bound in project["dependencies"]]
