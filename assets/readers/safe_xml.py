"""Parses XML that may come from anyone: no entities, no inner DTD, nothing fetched, bounded in depth and number of elements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError, TreeBuilder

from assets.readers.source import TEXT_LIMIT, read_source
from assets.record import RecordError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_DEEPEST = 64
_MOST_ELEMENTS = 2_000_000


class _TooMuchError(Exception):
    """The document is deeper or has more elements than any recording."""


class _BoundedBuilder(TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._depth = self._n = 0

    def start(self, tag: str, attrs: dict[Any, Any], /) -> Element:
        self._depth += 1
        self._n += 1
        if self._depth > _DEEPEST or self._n > _MOST_ELEMENTS:
            raise _TooMuchError
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def read_xml(path: Path) -> tuple[Element, bytes]:
    """The root of an XML document, and the bytes it was read from. A document type may be named but not defined in the file.

    Raises:
        RecordError: reasons of `assets.readers.source`; unsafe_xml (entities, an inner DTD, too deep, too many elements), bad_xml.
    """
    data = read_source(path, TEXT_LIMIT)
    return parse(path, data), data


def parse(path: Path, data: bytes) -> Element:
    """The root of an XML document. Raises as `read_xml`; `path` is for the message."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import XMLParser

    parser = XMLParser(target=_BoundedBuilder(), forbid_dtd=False, forbid_entities=True, forbid_external=True)
    # MUSE files name their DTD ("<!DOCTYPE RestingECG SYSTEM ...>"), which is never fetched; a definition inside the file is
    # another matter, because default attributes alone can make it grow.
    parser.parser.StartDoctypeDeclHandler = _refuse_inner_dtd
    try:
        parser.feed(data)
        root = parser.close()
    except (DefusedXmlException, _TooMuchError):
        # The parser's own messages are not passed on: they may quote the document, which names a patient.
        raise RecordError(
            "unsafe_xml", path, "defines entities or a document type, or is nested too deep; no recorder writes that"
        ) from None
    except (ParseError, ValueError, LookupError):
        raise RecordError("bad_xml", path, "is no well-formed XML; download it again") from None
    return root


def _refuse_inner_dtd(name: str, system: str | None, public: str | None, has_inner: int) -> None:
    if has_inner:
        raise _TooMuchError


def local(tag: object) -> str:
    """Name of an element without its namespace."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def child(element: Element, name: str) -> Element | None:
    """The first child of a name, whatever its namespace."""
    return next((e for e in element if local(e.tag) == name), None)


def children(element: Element, name: str) -> list[Element]:
    """All children of a name, whatever their namespace."""
    return [e for e in element if local(e.tag) == name]


def text(element: Element, name: str) -> str:
    """Text of the first child of a name, without blanks around it; "" where there is none."""
    found = child(element, name)
    return (found.text or "").strip() if found is not None else ""
