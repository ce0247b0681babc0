"""What passes between who asks and the copy's process."""

from __future__ import annotations

import pickle
import subprocess
import sys

from app import errors
from app.analytics.protocol import Failed


def test_no_error_that_a_client_receives_loads_duckdb() -> None:
    failures = [Failed(kind("it failed")) for kind in (errors.Damaged, errors.TooSlow, errors.StoreUnavailable)]
    program = (
        "import pickle, sys; import app.analytics.protocol; "
        "pickle.load(sys.stdin.buffer); print('duckdb' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, input=pickle.dumps(failures)).strip() == b"False"
