"""The matrix: each Python that is here, with the oldest and the newest of what the client needs.

`nox` runs all of it, `nox -s tests-3.11 -k oldest` one cell, `nox -s package` builds and packs.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
# What each extra is for: a module that needs it.
EXTRAS = {
    "batch": "pyarrow.parquet, rich.progress, aiosmrt.batch_files",
    "completion": "shtab, aiosmrt.cli",
    "openai": "aiosmrt.openai",
    "otel": "aiosmrt.otel",
    "ray": "ray.data, aiosmrt.ray",
    "speedups": "uvloop, aiosmrt",
    "tls": "trustme, aiosmrt.local",
    "yaml": "yaml, aiosmrt.local",
}
SOURCE_DATE = "1577836800"
# What a package may hold.
_PACKED = re.compile(
    r"\.(py|md|c?js|mjs|css|png|toml|txt|typed)$"
    r"|/(LICENSE|METADATA|Makefile|PKG-INFO|RECORD|WHEEL|\.gitignore)$"
)
_RELATIVE_LINK = re.compile(r"\]\((?!https?:)[^)]*\)")


@nox.session(python=PYTHONS)
@nox.parametrize("versions", ["oldest", "newest"])
def tests(session: nox.Session, versions: str) -> None:
    """Run the suite."""
    session.install("pip>=25.1")
    # Not create_tmp(): tests whose temporary folders are in here would find our pyproject.toml.
    constraints = Path(session.virtualenv.location, "constraints.txt").resolve()
    constraints.write_text("".join(_pin_oldest()) if versions == "oldest" else "")
    session.install("--constraint", str(constraints), "--group", "test", "--editable", ".")
    session.run("python", "-m", "pytest", "-n", "6", *session.posargs)


@nox.session
@nox.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def extras(session: nox.Session, extra: str) -> None:
    """Install one extra alone, and import what it is for."""
    session.install(f".[{extra}]")
    session.run("python", "-m", "pip", "check")
    session.run("python", "-c", f"import {EXTRAS[extra]}")


@nox.session
def package(session: nox.Session) -> None:
    """Build twice and compare, install the wheel, and look whether its types are complete."""
    session.install("build", "twine", "pyright")
    hashes = []
    for place in ("first", "second"):
        built = Path(session.create_tmp(), place).resolve()
        session.run(
            *("python", "-m", "build", "--outdir", str(built)),
            env={"SOURCE_DATE_EPOCH": SOURCE_DATE},
        )
        files = sorted(built.iterdir())
        hashes.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
        session.run("python", "-m", "twine", "check", "--strict", *map(str, files))
    if hashes[0] != hashes[1]:
        session.error(f"two builds differ: {hashes}")
    wheel, sdist = files
    with ZipFile(wheel) as packed, tarfile.open(sdist) as archive:
        names = [*packed.namelist(), *archive.getnames()]
    if data := [name for name in names if not _PACKED.search(name)]:
        session.error(f"packed, and neither a program nor a page: {data}")
    if links := _RELATIVE_LINK.findall(_read_metadata(wheel)):
        session.error(f"links of README.md that lead nowhere on PyPI: {links}")
    # The base class of what `opentelemetry-instrument` calls is no part of the API.
    also = ("opentelemetry-instrumentation", "starlette", "pytest")
    session.install(f"aiosmrt[openai,otel] @ {wheel.as_uri()}", *also)
    session.run("python", "-m", "pip", "check")
    # Elsewhere, where the source is not found in place of what is installed.
    session.chdir(session.create_tmp())
    session.run("pyright", "--ignoreexternal", "--verifytypes", "aiosmrt")


def _read_metadata(wheel: Path) -> str:
    with ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        return packed.read(name).decode()


def _pin_oldest() -> list[str]:
    """Turn the lower bounds of the dependencies into the versions to install."""
    return [f"{bound.replace('>=', '==')}\n" for bound in PROJECT["dependencies"]]
