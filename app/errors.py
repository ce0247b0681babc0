"""Every failure with a name. A failure's text is a code: the stored reason and the metric label at once."""

DISK_FULL = "less than 1 MiB is free on its disk; make room"


class PlumError(Exception):
    """Base of all of them. The text is for anybody; `detail`, for the log and the command line, may say where."""

    def __init__(self, text: str = "", detail: str | None = None) -> None:
        super().__init__(text)
        self.detail = detail or text


class Unreadable(PlumError):
    """A body that cannot be understood; the text is the reason: empty, not_text, not_json, not_form, not_xml,
    too_deep, no_known_field, cut_short, too_large, not_inflated."""


class ConfigError(PlumError):
    """A setting is wrong or unknown; the text says which and what is allowed."""


class StoreError(PlumError):
    """The store cannot do what was asked; the text says what to do about it."""


class StoreUnavailable(StoreError):
    """The store refuses or does not answer now, and may later."""


class CopyUnavailable(StoreUnavailable):
    """The analytical copy is away, is being filled or cannot follow now; the text says how far it is."""


class Damaged(StoreUnavailable):
    """The analytical copy's file can no longer be used; it has to be made again."""


class TooSlow(StoreUnavailable):
    """The store did not answer a question in its time; the text says how to narrow it."""


class StoreRefused(StoreError):
    """The store answered, and will not take this content; trying again does not help."""


class SchemaOutdated(StoreError):
    """The store's schema is not the one that this program needs."""


class TooBroad(PlumError):
    """An answer would have more parts than anybody can read; the text says how to ask for fewer."""


class EdgeLost(PlumError):
    """The row that a page ended with, by whose values the next one begins, is gone or has others now."""


class NotFound(PlumError):
    """No such thing; the text names it."""


class Disabled(PlumError):
    """A thing that is switched off; the text says how to switch it on."""


class Exists(PlumError):
    """A thing of that name is there already; the text names it."""


class Contradicts(PlumError):
    """What is said differs from what is known already; the text says in what."""


class BadScript(PlumError):
    """A script that cannot be a call's VoiceXML; the text says where and what to change."""


class Overloaded(PlumError):
    """More at once than there is room for."""
