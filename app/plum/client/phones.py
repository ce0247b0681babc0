"""The formats of phone numbers to dial, as Plum's pages document them."""

from __future__ import annotations

import re

MAX_CHARACTERS = 128

# `postd` contains the keys to press once the call connects.
PHONE = re.compile(
    rf"(?=.{{1,{MAX_CHARACTERS}}}$)(?:tel:)?\+?[0-9]{{3,20}}(?:;ani=\+?[0-9]{{3,20}}|;postd=[0-9*#,]{{1,32}})*"
)
PHONE_FORM = "digits like 16175551234, also with tel: or + before them and ;ani=… or ;postd=… behind"
