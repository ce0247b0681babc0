"""Somebody on the internet without a key: `python stranger.py KIND PORT COUNT`, until its standard input closes.

A process of its own, so that what it does is not measured with the posts beside it. It says once it is at it.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress

BLOCK = b"X-Filler: " + b"a" * 4000 + b"\r\n"

_numbers = itertools.count()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def endless_head(port: int) -> None:
    """A head that never ends, as fast as it is taken."""
    _, writer = await connected(port)
    writer.write(b"POST /result/x HTTP/1.1\r\nHost: a\r\n")
    while True:
        writer.write(BLOCK)
        await writer.drain()


async def silence(port: int) -> None:
    """A connection that sends nothing."""
    reader, _ = await connected(port)
    await reader.read()


async def slow_head(port: int) -> None:
    """A byte of a head a second."""
    _, writer = await connected(port)
    writer.write(b"POST /result/x HTTP/1.1\r\nX-Slow: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(1)


async def wrong_secrets(port: int) -> None:
    """Ever new keys and tokens, over a connection that stays open."""
    reader, writer = await connected(port)
    while True:
        number = next(_numbers)
        path = f"/api/v1/outcomes/{number}" if number % 3 == 0 else f"/result/wrong-{number}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong-{number}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))


async def unread(port: int) -> None:
    """Many requests whose answers are not read."""
    _, writer = await connected(port)
    while True:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        await writer.drain()


async def unwanted_body(port: int) -> None:
    """A wrong key, and a body of which some bytes come."""
    reader, writer = await connected(port)
    writer.write(b"POST /result/wrong HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    await reader.read(1)
    await reader.read()


async def again(act: Callable[[int], Coroutine[None, None, None]], port: int) -> None:
    while True:
        with suppress(OSError, EOFError, asyncio.IncompleteReadError, ValueError):
            await act(port)
        await asyncio.sleep(0.05)


async def main(kind: str, port: int, count: int) -> None:
    acts = {act.__name__: act for act in (endless_head, silence, slow_head, unread, unwanted_body, wrong_secrets)}
    tasks = [asyncio.create_task(again(acts[kind], port)) for _ in range(count)]
    await asyncio.sleep(1)
    print("at it", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
