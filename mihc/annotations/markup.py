"""XML of region files: read without a document type, entities or other files."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from mihc.errors import AnnotationError


def parse_xml(content: bytes, place: str) -> Element:
    """Return the root of an XML file; a DOCTYPE or an entity is refused, as it could read or blow up things."""
    try:
        return ElementTree.fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise AnnotationError(
            "a DOCTYPE (DTD), which region files never need", place=place, fix="Export the file again."
        ) from None
    except (ParseError, ValueError, RecursionError) as error:
        raise AnnotationError(f"not XML: {str(error)[:80]}", place=place, fix="Export the file again.") from None


def coordinate(text: str | None, place: str) -> float:
    """Return a vertex' x or y; what is no number is refused."""
    try:
        return float(text or "")
    except ValueError:
        raise AnnotationError(f"a vertex at {str(text)[:20]!r}, not a number", place=place) from None
