"""Posts at a steady rate: `python -m bench.paced URL PER_SECOND SECONDS` prints the 99th percentile in ms.

Latency counts from a post's scheduled time, so that a stalled server is measured correctly although the sender waits
for it. Sender and server share the machine, so the sender does little work: it writes and reads bytes on a socket.
"""

import sys
import time
from urllib.parse import urlsplit

import gevent
from gevent import socket

CONNECTIONS = 32
READ_BYTES = 4096
FIELDS = "result=Completed&callee_type=voice&phone_number=6175551234&attempts=1"


def main(url: str, per_second: float, seconds: float) -> None:
    parts = urlsplit(url)
    waits: list[float] = []
    began = time.perf_counter() + 0.2

    def post(number: int) -> None:
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            due = began + number / per_second
            while due < began + seconds:
                gevent.sleep(max(0.0, due - time.perf_counter()))
                connection.sendall(_request(parts.path, f"{FIELDS}&call_id={number}-{due}"))
                answer = b""
                while not answer.endswith(b"completed"):
                    more = connection.recv(READ_BYTES)
                    assert more, answer
                    answer += more
                waits.append(time.perf_counter() - due)
                due += CONNECTIONS / per_second

    gevent.joinall([gevent.spawn(post, number) for number in range(CONNECTIONS)], raise_error=True)
    print(sorted(waits)[int(len(waits) * 0.99)] * 1000)


def _request(path: str, body: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
