"""The law of the house: a wing imports only wings behind it in one list.

Every import statement counts, wherever it stands, those under `TYPE_CHECKING` too. Inside a wing,
files import each other in one direction only.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import aiosmrt

# A wing is a folder, or a file beside the folders. One that is not here has no place yet: give it
# one, and draw it in CONTRIBUTING.md.
WINGS = (
    "__main__",
    "cli",
    "pytest_plugin",
    "local",
    "__init__",
    "otel",
    "ray",
    "asgi",
    "openai",
    "client",
    "sessions",
    "batch_files",
    "batch",
    "async_inference",
    "response_stream",
    "calls",
    "settings",
    "transport",
    "signing",
    "service",
    "config",
    "hooks",
    "models",
    "sse",
    "payload",
    "eventstream",
    "http",
    "threads",
    "tracebacks",
    "value",
    "masking",
    "redaction",
    "errors",
    "randomness",
    "plain_text",
    "version",
)

# Who may know what is impure. All else can be used, and tested, without an event loop, a socket or
# an SDK.
KNOWERS = {
    "asyncio": {
        "asgi",
        "openai",
        "cli",
        "pytest_plugin",
        "local",
        "client",
        "sessions",
        "batch",
        "batch_files",
        "async_inference",
        "response_stream",
        "calls",
        "settings",
        "transport",
        "signing",
        "threads",
    },
    "aiohttp": {"transport", "local", "cli"},
    "botocore": {"signing", "settings"},
    "httpx2": {"openai"},
    "openai": {"openai"},
    "starlette": {"asgi"},
    "opentelemetry": {"otel"},
}

PACKAGE = Path(aiosmrt.__file__).parent


@functools.cache  # every file is read for its arrows, its circles and its names
def _find_imports(source: str) -> list[ast.Import | ast.ImportFrom]:
    nodes = ast.walk(ast.parse(source))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def _walk(file: Path) -> list[ast.Import | ast.ImportFrom]:
    return _find_imports(file.read_text(encoding="utf-8"))


def _read_imports(file: Path) -> Iterator[str]:
    """Give the modules that a file imports; a relative import counts as one of the root."""
    root = file.name == "__init__.py" and file.parent.name == "aiosmrt"
    for statement in _walk(file):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif statement.level:
            yield "aiosmrt"
        elif statement.module == "aiosmrt" and root:
            # The root itself names its folders like this.
            yield from (f"aiosmrt.{alias.name}" for alias in statement.names)
        else:
            yield statement.module or ""


def find_wrong_arrows(package: Path) -> list[str]:
    """Give a sentence for each import that breaks the law, and each wing without a place."""
    wrong: list[str] = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).with_suffix("").as_posix()
        if name.partition("/")[0] in WINGS:
            judged = (_judge(name, module) for module in _read_imports(file))
            wrong.extend(f"{name} {sentence}" for sentence in judged if sentence)
        else:
            wrong.append(f"{name} has no place")
    for folder in sorted({file.parent for file in package.rglob("*.py")} - {package}):
        wrong.extend(_find_circle(folder, package))
    return wrong


def _judge(name: str, module: str) -> str | None:
    """Say what is wrong with an import of `module` in the file `name`, `None` if nothing is."""
    wing, _, neighbour = name.partition("/")
    top, _, path = module.partition(".")
    other = path.partition(".")[0]
    if top in KNOWERS and wing not in KNOWERS[top]:
        return f"is not to know {top}, and imports {module}"
    if top != "aiosmrt" or (neighbour and other == wing):
        return None
    if not other:
        return "imports the root of the package, or relatively"
    if other not in WINGS:
        return f"imports {module}, which has no place"
    if WINGS.index(other) <= WINGS.index(wing):
        return f"imports {module}, which is not behind it"
    return None


def _find_circle(folder: Path, package: Path) -> Iterator[str]:
    prefix = "aiosmrt." + ".".join(folder.relative_to(package).parts)
    graph = {
        file.stem: {
            module.removeprefix(prefix).lstrip(".").partition(".")[0] or "__init__"
            for module in _read_imports(file)
            if module == prefix or module.startswith(f"{prefix}.")
        }
        for file in folder.glob("*.py")
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        yield f"{folder.name}: files import each other in a circle: {circle.args[1]}"


def test_every_import_obeys_the_law() -> None:
    assert find_wrong_arrows(PACKAGE) == []


def _read_drawing() -> dict[str, list[str]]:
    """Give the wings that CONTRIBUTING.md draws, in their order, with their files."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn: dict[str, list[str]] = {}
    for line in text.partition("aiosmrt/\n")[2].partition("```")[0].splitlines():
        branch, _, rest = line.partition("── ")
        if branch == "├":
            drawn[rest.split()[0]] = []
        else:
            drawn[list(drawn)[-1]] += line.removeprefix("│").split()
    return drawn


def test_the_drawing_shows_the_house_as_it_is() -> None:
    there_are: dict[str, list[str]] = {}
    for wing in WINGS:
        files = sorted(file.stem for file in (PACKAGE / wing).glob("*.py"))
        if files:
            there_are[f"{wing}/"] = [name for name in files if name != "__init__"]
        elif (PACKAGE / f"{wing}.py").exists():
            there_are[f"{wing}.py"] = []
    assert list(_read_drawing().items()) == list(there_are.items())


def test_wings_are_imported_by_their_names() -> None:
    """Not by their files, but where a wing has nothing to hand on for it."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).with_suffix("").as_posix()
        wing = name.partition("/")[0]
        for module in _read_imports(file):
            top, other, *inner = [*module.split("."), ""][:3]
            if top == "aiosmrt" and any(inner) and other not in (wing, "cli", "local"):
                found.append(f"{name} imports {module}")
    assert found == []


def test_errors_are_the_ground() -> None:
    """What every wing raises can mean none of them, not even by its type.

    It only has their words put on one line, by what means none of them either.
    """
    for file, known in (("errors.py", ["aiosmrt.plain_text"]), ("plain_text.py", [])):
        assert [name for name in _read_imports(PACKAGE / file) if "aiosmrt" in name] == known


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("models", "from aiosmrt.errors import AiosmrtError", None),
        ("models", "import json", None),
        ("transport/limits", "import asyncio", None),
        ("client", "from aiosmrt.transport.pool import Pool", None),
        ("__init__", "from aiosmrt import eventstream", None),
        ("transport/slot", "import aiohttp", None),
        ("transport/pool", "from aiosmrt.transport.slot import Slot", None),
        ("http", "from aiosmrt.config import Config", "http imports aiosmrt.config, which is not"),
        ("models", "import aiosmrt.client", "models imports aiosmrt.client, which is not"),
        ("calls/a", "def f():\n    from aiosmrt.client import X", "calls/a imports aiosmrt.client"),
        ("calls/a", "try:\n    import aiosmrt.client\nexcept E: pass", "calls/a imports aiosmrt.c"),
        ("errors", "from aiosmrt.models import Attempt", "errors imports aiosmrt.models"),
        (
            "errors",
            "if TYPE_CHECKING:\n    from aiosmrt.models import Attempt",
            "errors imports aiosmrt.models",
        ),
        ("client", "import aiosmrt", "client imports the root"),
        ("client", "from aiosmrt import eventstream", "client imports the root"),
        ("client", "from . import calls", "client imports the root"),
        ("client", "from .calls import Call", "client imports the root"),
        ("client", "from aiosmrt.nowhere import x", "aiosmrt.nowhere, which has no place"),
        ("nowhere", "", "nowhere has no place"),
        ("service/model", "import asyncio", "service/model is not to know asyncio"),
        ("config", "from aiohttp.web import X", "config is not to know aiohttp"),
        ("service/model", "from botocore import auth", "service/model is not to know botocore"),
        ("eventstream/decoder", "import asyncio", "eventstream/decoder is not to know asyncio"),
        ("transport/slot", "from aiosmrt.calls.call import Call", "transport/slot imports aiosmrt"),
        ("transport/a", "import aiosmrt.transport.b", "transport: files import each other"),
        ("transport/a", "from aiosmrt.transport import b", "transport: files import each other"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, name: str, source: str, wrong: str | None) -> None:
    package = tmp_path / "aiosmrt"
    (package / "transport").mkdir(parents=True)
    (package / "transport/b.py").write_text("from aiosmrt.transport.a import a")
    (package / "transport/__init__.py").write_text("from aiosmrt.transport.b import b")
    (package / "transport/a.py").touch()
    file = package / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    found = find_wrong_arrows(package)
    if wrong is None:
        assert found == []
    else:
        assert len(found) == 1
        assert wrong in found[0]
