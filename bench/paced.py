"""Posts at a steady rate: `python -m bench.paced URL PER_SECOND SECONDS` prints the 99th percentile in ms.

A post is counted from when it was due, so a server that stalls is not spared by a sender that waits for it.
"""

import http.client
import sys
import threading
import time
from urllib.parse import urlsplit

THREADS = 16


def main(url: str, per_second: float, seconds: float) -> None:
    parts = urlsplit(url)
    waits: list[float] = []
    began = time.perf_counter() + 0.2

    def post(number: int) -> None:
        connection = http.client.HTTPConnection(parts.hostname, parts.port)
        due = began + number / per_second
        while due < began + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            body = f"result=Completed&callee_type=voice&phone_number=6175551234&attempts=1&call_id={number}-{due}"
            connection.request("POST", parts.path, body, {"Content-Type": "application/x-www-form-urlencoded"})
            assert connection.getresponse().read() == b"completed"
            waits.append(time.perf_counter() - due)
            due += THREADS / per_second

    threads = [threading.Thread(target=post, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sorted(waits)[int(len(waits) * 0.99)] * 1000)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
