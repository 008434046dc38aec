"""Who may import whom: the floors of the house, and a walk through every import statement.

A file may import from floors below its own, never from its own floor or above, never the root of
the package. Inside a folder, neighbours import each other in one direction only. What stands under
`TYPE_CHECKING` is not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import aiosmrt

# A folder's files are on the folder's floor. A file that is not here has no place yet: give it one.
FLOORS: dict[str, float] = {
    "errors": -1,  # the ground floor of the ground floor
    "tracebacks": -1,
    "value": -1,
    "config": 0,
    "eventstream": 0,
    "hooks": 0,
    "http": 0,
    "models": 0.5,  # whole answers are decoded as streams are
    "payload": 0,
    "service_model": 0,
    "sse": 0.25,  # lines of a payload are what it begins with
    "version": 0,
    "clock": 1,
    "service_errors": 0.75,  # answers and messages of streams mean them alike
    "response_grammar": 0.75,
    "operations": 1,
    "response_parser": 1,
    "option_names": 1,
    "parameters": 1,
    "proxies": 1,
    "retries": 1,
    "signing": 1,
    "tokens": 1,
    "validation": 1,
    "alarm": 1.25,
    "limits": 1.5,
    "threads": 1.5,
    "credentials": 2,
    "endpoints": 2,
    "options": 2,
    "request_body": 2,
    "settings": 2,
    "attempts": 2,
    "transport": 2,
    "calls": 3,
    "resolution": 3,
    "part_file": 2,
    "s3_protocol": 2.5,
    "s3": 3.5,
    "async_client": 4.75,
    "async_input": 4,
    "async_results": 4.5,
    "answers": 4,
    "view": 3.5,
    "async_inference": 4,
    "response_stream": 4,
    "client": 5,
    "__init__": 6,
    "batch": 6,
    "local": 6,
    "pytest_plugin": 6,
    "cli": 7,
    "__main__": 8,
}

# Whoever is pure can be used, and tested, without an event loop, a socket or an SDK.
PURE_UP_TO = 1
IMPURE = ("asyncio", "aiohttp", "botocore")

_ASIDE = ("TYPE_CHECKING", "typing.TYPE_CHECKING")

PACKAGE = Path(aiosmrt.__file__).parent


def _walk(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Give the import statements of a file, wherever they stand, `TYPE_CHECKING` blocks aside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) in _ASIDE:
            for other in child.orelse:
                yield from _walk(ast.Module([other], []))
        else:
            yield from _walk(child)


def _read_imports(file: Path) -> Iterator[str]:
    """Give the modules that a file imports; a relative import counts as one of the root."""
    root = file.name == "__init__.py" and file.parent.name == "aiosmrt"
    for statement in _walk(ast.parse(file.read_text(encoding="utf-8"))):
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
    """Give a sentence for each import that goes the wrong way, and each file without a floor."""
    wrong: list[str] = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).with_suffix("").as_posix()
        if name.partition("/")[0] in FLOORS:
            judged = (_judge(name, module) for module in _read_imports(file))
            wrong.extend(f"{name} {sentence}" for sentence in judged if sentence)
        else:
            wrong.append(f"{name} has no floor")
    for folder in sorted({file.parent for file in package.rglob("*.py")} - {package}):
        wrong.extend(_find_circle(folder, package))
    return wrong


def _judge(name: str, module: str) -> str | None:
    """Say what is wrong with an import of `module` in the file `name`, `None` if nothing is."""
    room, _, neighbour = name.partition("/")
    top, _, path = module.partition(".")
    other = path.partition(".")[0]
    if top in IMPURE and FLOORS[room] <= PURE_UP_TO:
        return f"is pure and imports {module}"
    if top != "aiosmrt" or (neighbour and other == room):
        return None
    if not other:
        return "imports the root of the package, or relatively"
    if other not in FLOORS:
        return f"imports {module}, which has no floor"
    if FLOORS[other] >= FLOORS[room]:
        return f"imports {module}, which is not below it"
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


def test_every_import_goes_downwards() -> None:
    assert find_wrong_arrows(PACKAGE) == []


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("models", "from aiosmrt.errors import AiosmrtError", None),
        ("models", "import json", None),
        ("limits", "import asyncio", None),
        ("client", "from aiosmrt.transport.pool import Pool", None),
        ("__init__", "from aiosmrt import eventstream", None),
        (
            "models",
            "if TYPE_CHECKING:\n    from aiosmrt.client import SageMakerRuntimeClient",
            None,
        ),
        ("transport/slot", "import aiohttp", None),
        ("transport/pool", "from aiosmrt.transport.slot import Slot", None),
        ("config", "from aiosmrt.http import Request", "config imports aiosmrt.http, which is not"),
        ("models", "import aiosmrt.client", "models imports aiosmrt.client, which is not"),
        ("calls", "def f():\n    from aiosmrt.client import X", "calls imports aiosmrt.client"),
        ("calls", "try:\n    import aiosmrt.client\nexcept E: pass", "calls imports aiosmrt.cl"),
        ("errors", "from aiosmrt.models import Attempt", "errors imports aiosmrt.models"),
        ("client", "import aiosmrt", "client imports the root"),
        ("client", "from aiosmrt import eventstream", "client imports the root"),
        ("client", "from . import calls", "client imports the root"),
        ("client", "from .calls import Call", "client imports the root"),
        ("client", "from aiosmrt.nowhere import x", "aiosmrt.nowhere, which has no floor"),
        ("nowhere", "", "nowhere has no floor"),
        ("retries", "import asyncio", "retries is pure and imports asyncio"),
        ("config", "from aiohttp.web import X", "config is pure and imports aiohttp.web"),
        ("signing", "from botocore import auth", "signing is pure and imports botocore"),
        ("eventstream/decoder", "import asyncio", "eventstream/decoder is pure"),
        ("transport/slot", "from aiosmrt.credentials import X", "transport/slot imports aiosmrt.c"),
        ("transport/slot", "from aiosmrt.calls import Call", "transport/slot imports aiosmrt.ca"),
        (
            "models",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import aiosmrt",
            "models imports the root",
        ),
        ("models", "if not TYPE_CHECKING:\n    import aiosmrt", "models imports the root"),
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
