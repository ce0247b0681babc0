"""`make bench`: `python -m bench [SECONDS] [ROUNDS] [OUTCOMES]`.

Measures ingest, then ingest with expected calls, then queries on stores with OUTCOMES outcomes over a month, or over
a year from a million outcomes on. 200,000 outcomes take some minutes.
"""

import shutil
import sys

from bench import expected, ingest, questions
from bench.engines import ENGINES

MILLION = 1_000_000
REPEATS = 9
EXPECTED_CALLS = 30_000

if shutil.which("wrk") is None:
    sys.exit("wrk is needed to make the load; on Debian: apt-get install wrk")
arguments = [*sys.argv[1:], *("8", "5", "200000")[len(sys.argv) - 1 :]]
ingest.run(seconds=float(arguments[0]), rounds=int(arguments[1]))
expected.run(EXPECTED_CALLS, float(arguments[0]), int(arguments[1]), ENGINES)
rows = int(arguments[2])
questions.run(rows, REPEATS, 365 if rows >= MILLION else 30)
