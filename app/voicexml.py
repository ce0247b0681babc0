"""Scripts: templates of the VoiceXML that a call gets when it connects. Pure.

A template has placeholders alone, no code: a known name in double braces stands for a value of the call.
https://www.w3.org/TR/voicexml20/; RFC 4267 defines the media type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from app.errors import BadScript
from app.products.start import FIELDS

MEDIA_TYPE = "application/voicexml+xml"
MAX_BYTES = 64 << 10
MAX_VALUE = 4096  # characters; Plum's values have 255. A large post must not render to a document of many megabytes
# Ends the call regularly.
DEFAULT = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<vxml version="2.0" xmlns="http://www.w3.org/2001/vxml"><form><block><exit/></block></form></vxml>\n'
)

_ROOT = "{http://www.w3.org/2001/vxml}vxml"
_VERSIONS = ("2.0", "2.1")
_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_DECLARED_ENCODING = re.compile(r"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)")
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
# White space is escaped too, since a parser would normalise it.
_ESCAPES = {ord(character): f"&#{ord(character)};" for character in "&<>\"'\t\n\r"}
# Text that would end texts, attributes, comments and CDATA sections, and a false placeholder.
_HOSTILE = "a\"b'c<d>e&amp;f-- g]]>h?>i=j\t\r\n{{ call_id }}"


def render(script: str, values: Mapping[str, str]) -> str:
    """Return the document; a missing value is empty."""
    return _PLACEHOLDER.sub(lambda place: _escaped(values.get(place[1], "")), script)


def checked(content: bytes) -> str:
    """Return the validated script. Raises `BadScript`, which says what to change."""
    script = _decoded(content)
    places = list(_PLACEHOLDER.finditer(script))
    for place in places:
        if place[1] not in FIELDS:
            raise BadScript(f"{_located(place)} is unknown; there are {', '.join(FIELDS)}")
    _check_root(_parsed(render(script, {})))
    for place in places:
        _check_place(place)
    return script


def _decoded(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise BadScript(f"the script is larger than {MAX_BYTES} bytes; make it shorter")
    try:
        script = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadScript(f"the script is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    declared = _DECLARED_ENCODING.match(script)
    if declared and declared[1].upper() != "UTF-8":
        raise BadScript(f"the script declares the encoding {declared[1]}; save it as UTF-8 and declare UTF-8 or none")
    return script


def _parsed(document: str) -> Element:
    try:
        root: Element = defusedxml.ElementTree.fromstring(document, forbid_dtd=True)
    except DefusedXmlException:
        raise BadScript("the script has a DTD or entities, which are not taken; remove <!DOCTYPE …>") from None
    except (ParseError, ValueError) as error:
        with_nothing = "the script, with nothing for its values, is not well-formed XML"
        raise BadScript(f"{with_nothing}: {error}; mend it there, and put attributes' values in quotes") from None
    return root


def _check_root(root: Element) -> None:
    if root.tag != _ROOT or root.get("version") not in _VERSIONS:
        root_tag = f'<vxml version="2.0" xmlns="{_ROOT[1:].partition("}")[0]}">'
        raise BadScript(f"the script's root has to be {root_tag}, or of version 2.1")


def _check_place(place: re.Match[str]) -> None:
    """Check that a parser reads any value at this placeholder back unchanged."""
    before, behind = place.string[: place.start()], place.string[place.end() :]
    try:
        root = _parsed(f"{render(before, {})}{_escaped(_HOSTILE)}{render(behind, {})}")
    except BadScript:
        root = Element("none")
    if not any(_HOSTILE in text for text in _texts(root)):
        where = "in a tag, a comment or CDATA"
        raise BadScript(f"{_located(place)} may not stand {where}; put it into text or a quoted attribute value")


def _texts(root: Element) -> Iterator[str]:
    for element in root.iter():
        yield from filter(None, (element.text, element.tail, *element.attrib.values()))


def _located(place: re.Match[str]) -> str:
    line = place.string.count("\n", 0, place.start()) + 1
    return f"line {line}: {{{{ {place[1]} }}}}"


def _escaped(value: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", value[:MAX_VALUE]).translate(_ESCAPES)
