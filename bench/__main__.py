"""`make bench`: `python -m bench [SECONDS] [ROUNDS] [OUTCOMES]`.

Ingest first, then the same with expected calls, then questions on stores of so many outcomes: of a month, and from a
million on of a year. 200,000 take some minutes.
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
