"""All errors of this product. The text of `Unreadable` is a code: the stored reason and the metric's label."""

DISK_FULL = "less than 1 MiB is free on its disk; make room"


class PlumError(Exception):
    """The base class. Anybody may see the text; `detail` may name hosts and paths, for the log and commands."""

    def __init__(self, text: str = "", detail: str | None = None) -> None:
        super().__init__(text)
        self.detail = detail or text


class Unreadable(PlumError):
    """A body that does not parse; the text is the reason: empty, not_text, not_json, not_form, not_xml,
    too_deep, no_known_field, cut_short, too_large, not_inflated."""


class ConfigError(PlumError):
    """A setting is wrong or unknown; the text names it and what is allowed."""


class StoreError(PlumError):
    """The store cannot do what was requested; the text says what to do about it."""


class StoreUnavailable(StoreError):
    """The store refuses or does not respond now; a later attempt may succeed."""


class CopyUnavailable(StoreUnavailable):
    """The analytical copy is away, is being filled or cannot follow the journal now; the text says how far it is."""


class MustReopen(StoreUnavailable):
    """The analytical copy answers nothing until its file is opened again."""


class Damaged(MustReopen):
    """The analytical copy's file is unusable and has to be rebuilt."""


class TooSlow(StoreUnavailable):
    """A query exceeded its time limit; the text says how to narrow it."""


class StoreRefused(StoreError):
    """The store rejects this content; a retry does not help."""


class SchemaOutdated(StoreError):
    """The store does not have the schema that this program needs."""


class TooBroad(PlumError):
    """A result would have too many groups; the text says how to narrow the query."""


class EdgeLost(PlumError):
    """The row at the edge of a page, where the next page begins, was deleted or changed."""


class NotFound(PlumError):
    """Something does not exist; the text names it."""


class Disabled(PlumError):
    """Something is disabled; the text says how to enable it."""


class Exists(PlumError):
    """Something of that name exists already; the text names it."""


class Contradicts(PlumError):
    """New values contradict stored ones; the text names them."""


class BadScript(PlumError):
    """A script is not valid VoiceXML; the text says where and what to change."""


class Overloaded(PlumError):
    """Too many requests at once."""
