"""XML from strangers: read without a document type, entities or other files."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from mihc.slides.contents import unreadable

MAX_XML_BYTES = 32 << 20  # 60 channels with a line for each of 2,000 tiles need a quarter of it
MAX_XML_MARKS = 1_000_000  # elements and attributes: each needs a hundred times the room of its text
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def parse_xml(text: str, path: Path, what: str) -> Element:
    """The root of an XML text; a DOCTYPE or broken markup is refused, naming `what` of the file.

    The text is a str, so that an encoding declared in it (QPTIFF says utf-16 and means utf-8) does not matter.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    plain = _DECLARATION.sub("", text.lstrip("\ufeff").strip("\x00 \r\n\t"))
    if len(plain) > MAX_XML_BYTES or plain.count("<") + plain.count("=") > MAX_XML_MARKS:
        raise unreadable(path, f"the {what} exceeds the limit of {MAX_XML_BYTES} bytes or {MAX_XML_MARKS} elements")
    if "<!doctype" in plain.casefold():
        raise unreadable(path, f"the {what} has a DOCTYPE (DTD), which no scanner writes", "Export the slide again.")
    try:
        return fromstring(plain, forbid_dtd=True)
    except DefusedXmlException as error:
        raise unreadable(path, f"the {what} has a DTD or entities, which no scanner writes") from error
    except (ParseError, ValueError, RecursionError) as error:
        raise unreadable(path, f"the {what} is not valid XML: {error}") from error


def decode_text(data: bytes) -> str:
    """Text in UTF-8, or as older programs on Windows wrote it: a µ is one byte there."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def local_name(element: Element) -> str:
    """The tag without its namespace."""
    return element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""


def children(element: Element | None, name: str) -> list[Element]:
    """Child elements of that local name, in document order."""
    return [] if element is None else [child for child in element if local_name(child) == name]


def child(element: Element | None, *names: str) -> Element | None:
    """The first element down the path of local names, None where it ends."""
    for name in names:
        found = children(element, name)
        if not found:
            return None
        element = found[0]
    return element


def text_of(element: Element | None) -> str:
    """The stripped text of an element, "" for none."""
    return "" if element is None else (element.text or "").strip()
