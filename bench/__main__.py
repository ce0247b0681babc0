"""`make bench`: `python -m bench [SECONDS] [ROUNDS]`."""

import shutil
import sys

from bench import ingest

if shutil.which("wrk") is None:
    sys.exit("wrk is needed to make the load; on Debian: apt-get install wrk")
ingest.run(
    seconds=float(sys.argv[1]) if len(sys.argv) > 1 else 8, rounds=int(sys.argv[2]) if len(sys.argv) > 2 else 5
)
