"""The fixed parts of an XLSX file, around its sheets."""

from __future__ import annotations

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_OURS = "application/vnd.openxmlformats-officedocument.spreadsheetml"

# The first row is frozen.
SHEET_START = (
    f'{_XML}<worksheet {_MAIN}><sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
    '<sheetFormatPr defaultRowHeight="15"/><sheetData>'
).encode()
SHEET_END = b"</sheetData></worksheet>"

# Style 0 is the default, style 1 a time.
_STYLES = (
    f'{_XML}<styleSheet {_MAIN}><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/>'
    '</numFmts><fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts><fills count="2"><fill>'
    '<patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="2"><xf/>'
    '<xf numFmtId="164" applyNumberFormat="1"/></cellXfs><cellStyles count="1">'
    '<cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


def sheet_name(number: int) -> str:
    return f"xl/worksheets/sheet{number}.xml"


def frame(sheets: int) -> dict[str, str]:
    """Return all parts except the sheets, by name."""
    numbers = range(1, sheets + 1)
    return {
        "xl/workbook.xml": _workbook(numbers),
        "xl/_rels/workbook.xml.rels": _relations(
            [("rId0", "styles", "styles.xml")]
            + [(f"rId{number}", "worksheet", f"worksheets/sheet{number}.xml") for number in numbers]
        ),
        "xl/styles.xml": _STYLES,
        "_rels/.rels": _relations([("rId1", "officeDocument", "xl/workbook.xml")]),
        "[Content_Types].xml": _content_types(numbers),
    }


def _workbook(numbers: range) -> str:
    sheets = "".join(f'<sheet name="{number}" sheetId="{number}" r:id="rId{number}"/>' for number in numbers)
    return f'{_XML}<workbook {_MAIN} xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>'


def _relations(relations: list[tuple[str, str, str]]) -> str:
    each = "".join(
        f'<Relationship Id="{key}" Type="{_OFFICE}/{kind}" Target="{target}"/>' for key, kind, target in relations
    )
    return f'{_XML}<Relationships xmlns="{_RELATIONS}">{each}</Relationships>'


def _content_types(numbers: range) -> str:
    parts = {"/xl/workbook.xml": f"{_OURS}.sheet.main+xml", "/xl/styles.xml": f"{_OURS}.styles+xml"}
    parts |= {f"/{sheet_name(number)}": f"{_OURS}.worksheet+xml" for number in numbers}
    each = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in parts.items())
    return (
        f'{_XML}<Types xmlns="{_TYPES}"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{each}</Types>'
    )
