"""What pages say that the code knows: options, parameters, members, limits, commands."""

from __future__ import annotations

import argparse
import inspect
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import attrs
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx

import aiosmrt
from aiosmrt.cli.arguments import build_parser
from aiosmrt.service import OPERATIONS
from aiosmrt.service.model import Member, Shape
from aiosmrt.service.parameters import CallOptions


def read_entries(kind: type) -> dict[str, str]:
    """Give what a docstring says of each attribute, on one line."""
    # Not `__doc__`: from Python 3.13 on it is indented less.
    text = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries: dict[str, str] = {}
    for line in text.splitlines():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            entries[name] = entry[2]
        elif line.strip() and entries:
            entries[name] += f" {line.strip()}"  # of the one before
        elif not line.strip():
            break
    return entries


def describe_limits(shape: Shape) -> str:
    """Say what the service model states of a value."""
    unit = {"string": "characters", "blob": "bytes", "stream": "bytes"}.get(
        shape.kind, ""
    )
    found = []
    if shape.min is not None and shape.max is not None:
        found.append(f"{shape.min:,} to {shape.max:,} {unit}".strip())
    elif shape.max is not None:
        found.append(f"up to {shape.max:,} {unit}".strip())
    if shape.enum:
        found.append("one of " + ", ".join(f"`{value}`" for value in shape.enum))
    if shape.pattern is not None:
        found.append("`" + shape.pattern.replace("|", "\\|") + "`")
    if shape.sensitive:
        found.append("never logged")
    return "; ".join(found)


def tabulate(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Give the lines of a table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def list_options(kind: str) -> Iterator[str]:
    """Give the fields of an attrs class of options, with their defaults."""
    options: type[Any] = getattr(aiosmrt, kind)
    entries = read_entries(options)

    def describe() -> Iterator[Sequence[str]]:
        for field in attrs.fields(options):
            default = field.default
            if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
                default = default.factory()
            shown = "" if default is attrs.NOTHING else f"`{default!r}`"
            yield f"`{field.name}`", entries[field.name], shown

    return tabulate(("option", "what it is", "default"), describe())


def list_parameters(operation: str) -> Iterator[str]:
    """Give the parameters of an operation, with the limits of the service model."""
    entries = read_entries(getattr(aiosmrt, f"{operation}Parameters"))
    entries.update(read_entries(CallOptions))

    def describe() -> Iterator[Sequence[str]]:
        for member in OPERATIONS[operation].request:
            needed = "required; " if member.required else ""
            limits = describe_limits(member.shape)
            yield f"`{member.parameter}`", f"{needed}{entries[member.parameter]}", limits

    return tabulate(("parameter", "what it is", "limits"), describe())


def list_members(operation: str) -> Iterator[str]:
    """Give the members of a response: where they come from, and where they are here."""

    def describe() -> Iterator[Sequence[str]]:
        for member in OPERATIONS[operation].response:
            yield f"`{member.name}`", _place(member), describe_limits(member.shape)

    return tabulate(("member", "comes as", "limits"), describe())


def _place(member: Member) -> str:
    return f"header `{member.header}`" if member.header else f"{member.location}"


def list_errors(operation: str) -> Iterator[str]:
    """Give the errors that the service model names for an operation."""
    yield ", ".join(f"`{name}`" for name in OPERATIONS[operation].errors) + "."


def print_help(command: str) -> Iterator[str]:
    """Give what `--help` of a command prints."""
    parser = build_parser()
    if command != "aiosmrt":
        actions = parser._actions  # noqa: SLF001
        (commands,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001
        parser = commands.choices[command]
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    printed = io.StringIO()
    with redirect_stdout(printed):
        parser.print_help()
    yield "```text"
    yield from printed.getvalue().rstrip().splitlines()
    yield "```"


class Generated(Directive):
    """`{generated} kind argument`: lines of Markdown that the code gives."""

    required_arguments = 2
    option_spec = {"class": directives.class_option}  # noqa: RUF012 - as docutils has it
    kinds = {  # noqa: RUF012 - constant
        "options": list_options,
        "parameters": list_parameters,
        "members": list_members,
        "errors": list_errors,
        "help": print_help,
    }

    def run(self) -> list[nodes.Node]:
        """Give the nodes."""
        kind, argument = self.arguments
        lines = list(self.kinds[kind](argument))
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=f"{kind} {argument}"), 0, holder)
        return holder.children


def skip_written_by_attrs(
    _: Sphinx, __: str, ___: str, member: object, *____: object
) -> bool | None:
    """Leave out constructors that say again what the fields say."""
    return True if "generated by attrs" in (member.__doc__ or "") else None


def setup(app: Sphinx) -> dict[str, object]:
    """Tell Sphinx."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-skip-member", skip_written_by_attrs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
