"""S3's XML: what it answers, and the few documents that it is sent. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias
from xml.etree import ElementTree as ET

from aiosmrt.async_inference import parse_xml
from aiosmrt.errors import ServiceError

__all__ = ["Content", "read_document", "read_text", "write_document", "write_elements"]

Content: TypeAlias = "str | Iterable[tuple[str, Content]] | None"
"""Of an element: a text, the elements in it, or `None` where the element is left out."""

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def write_document(name: str, content: Content, *, namespace: bool = True) -> bytes:
    """Write a document of one element; S3's errors are in no namespace."""
    attributes = f' xmlns="{_NAMESPACE}"' if namespace else ""
    inner = write_elements(content)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}{attributes}>{inner}</{name}>'
    return text.encode(errors="replace")


def write_elements(content: Content) -> str:
    """Write what is in an element."""
    if content is None:
        return ""
    if isinstance(content, str):
        return html.escape(content, quote=False)
    return "".join(
        f"<{name}>{write_elements(inner)}</{name}>" for name, inner in content if inner is not None
    )


def read_document(body: bytes, name: str) -> ET.Element:
    """Read a document whose element has this name, in any namespace.

    Raises:
        ServiceError: 400 MalformedXML.
    """
    try:
        root = parse_xml(body)
    except ValueError:
        root = None
    if root is None or root.tag.rpartition("}")[2] != name:
        raise ServiceError(
            f"The XML you provided was not well-formed or did not validate: it must be a {name}.",
            code="MalformedXML",
            status=400,
        )
    return root


def read_text(element: ET.Element, name: str) -> str:
    """Give the text of the first element of this name, empty without one."""
    return element.findtext(f"{{*}}{name}") or ""
