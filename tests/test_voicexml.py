"""Scripts: checked when they are stored, so that they are well-formed whatever values a call brings."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import example, given
from hypothesis import strategies as st

from app import voicexml
from app.errors import BadScript
from app.products.start import FIELDS

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<vxml version="2.1" xmlns="http://www.w3.org/2001/vxml">'
EVERYWHERE = "".join(
    f"<var name='a' expr='{{{{{name}}}}}' x=\"{{{{ {name} }}}}\"/>{{{{ {name} }}}}" for name in FIELDS
)


def script(inside: str, head: str = HEAD) -> bytes:
    return f"{head}<form><block>{inside}</block></form></vxml>\n".encode()


def checked(inside: str) -> str:
    return voicexml.checked(script(inside))


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(st.characters())))
@example(dict.fromkeys(FIELDS, "\x00\x0b\ud800\ufffe]]>--><!--'\"&amp;\r\n\t{{ call_id }}"))
def test_every_value_is_read_back_unchanged(values) -> None:
    document = voicexml.render(checked(EVERYWHERE), values).encode()
    [*_, block] = fromstring(document).iter("{http://www.w3.org/2001/vxml}block")
    for element, name in zip(block, FIELDS, strict=True):
        allowed = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", values.get(name, ""))
        assert [element.get("expr"), element.get("x"), element.tail or ""] == [allowed] * 3


def test_all_but_the_places_stays_as_it_is() -> None:
    inside = "<script>function f() { if (a) { return {b: {c: 1}}; } }</script>{ call_id } {{ }é🙂"
    assert voicexml.render(checked(inside), {"call_id": "1"}) == script(inside).decode()


@pytest.mark.parametrize("head", [HEAD, HEAD.partition("\n")[2], HEAD.replace("2.1", "2.0"), "\ufeff" + HEAD])
def test_a_script_is_taken_with_or_without_declaration_and_byte_order_mark(head: str) -> None:
    assert voicexml.checked(script("", head)) == script("", head.removeprefix("\ufeff")).decode()


def test_a_value_longer_than_any_of_plums_does_not_make_a_document_of_megabytes() -> None:
    document = voicexml.render(checked("{{ call_id }}" * 4), {"call_id": "&" * 1_000_000})
    assert len(document) < 100_000


def test_the_default_is_a_script_too() -> None:
    assert voicexml.checked(voicexml.DEFAULT.encode()) == voicexml.DEFAULT


def test_the_script_in_the_runbook_is_one() -> None:
    runbook = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
    shown = re.search(r"^    <\?xml.*?</vxml>$", runbook, re.M | re.S)
    assert shown
    assert voicexml.checked(dedent(shown[0]).encode())


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    for name in ("phone", "call_id | upper", "1+1", ""):
        with pytest.raises(
            BadScript, match=rf"line 3: {re.escape(f'{{{{ {name} }}}}')} is unknown.*phone_number, call_id"
        ):
            checked(f"\n{{{{ {name} }}}}")


@pytest.mark.parametrize(
    "inside",
    [
        "<!-- {{ call_id }} -->",
        "<![CDATA[{{ call_id }}]]>",
        "<?p {{ call_id }}?>",
        "<b {{ call_id }}/>",
        "<b c='1'{{ call_id }}/>",
        "<b{{ call_id }}/>",
        "<b xmlns:p='u{{ call_id }}'/>",
        "<b>{{ phone_number }}</b><!-- {{ call_id }}-->",
    ],
)
def test_a_placeholder_is_allowed_only_where_no_value_can_break_the_document(inside: str) -> None:
    with pytest.raises(BadScript, match=r"line 2: \{\{ call_id \}\} may not stand"):
        checked(inside)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not well-formed XML: no element found"),
        (script("<b>"), "not well-formed XML: mismatched tag: line 2"),
        (script("<b c={{ call_id }}/>"), "attributes' values in quotes"),
        (script("&nbsp;"), "not well-formed XML: undefined entity"),
        (script("é").decode().encode("latin-1"), r"not UTF-8 \(byte 108\); save it as UTF-8"),
        (script("", HEAD.replace("UTF-8", "ISO-8859-1")), "declares the encoding ISO-8859-1; save it as UTF-8"),
        (script("", HEAD.replace("\n", "<!DOCTYPE vxml>")), "remove <!DOCTYPE"),
        (script("&e;", HEAD.replace("\n", "<!DOCTYPE vxml [<!ENTITY e 'x'>]>")), "remove <!DOCTYPE"),
        (
            script("", HEAD.replace("2.1", "1.0")),
            'has to be <vxml version="2.0" xmlns="http://www.w3.org/2001/vxml">',
        ),
        (script("", HEAD.replace("2001/vxml", "1999/xhtml")), "or of version 2.1"),
        (b"<html/>", "has to be <vxml"),
        (script("x" * (voicexml.MAX_BYTES - len(script("")) + 1)), "larger than 65536 bytes"),
    ],
)
def test_an_invalid_script_is_refused_in_one_line_that_says_what_to_do(content: bytes, says: str) -> None:
    with pytest.raises(BadScript, match=says) as refused:
        voicexml.checked(content)
    assert "\n" not in str(refused.value)


def test_a_script_may_have_64_kib() -> None:
    inside = "x" * (voicexml.MAX_BYTES - len(script("")))
    assert len(voicexml.checked(script(inside)).encode()) == voicexml.MAX_BYTES
