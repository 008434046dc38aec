"""A server in a process of its own that misbehaves as it is asked, and keeps books.

Run as a script, with the file of a certificate or nothing. It prints its ports as JSON; a
connection to the one of its books is given them as JSON: how often it received each call whole, by
its header `x-call` (of an object that is put into S3: by its key). What goes wrong, and where, says
the request's header `x-fault`: a place, and how the connection ends there ("half body RST").
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time
from typing import Final

from aiosmrt.eventstream import encode_message

_PART: Final = encode_message(
    {":message-type": "event", ":event-type": "PayloadPart"}, b"a part of the answer"
)
_SLOW: Final = 0.02  # seconds that the model takes where a limit is to meet it


class _Ended(Exception):
    """The connection is over."""


class Server:
    """Serves ports with different habits.

    One reads, and does what the request asks for; one closes its idle connections at any moment,
    one behind each answer; one resets at once, and one in the head.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._runs: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self.ports = {
            "reading": self._listen(self._read_requests),
            "closing": self._listen(lambda each: self._read_requests(each, "lull FIN")),
            "once": self._listen(lambda each: self._read_requests(each, "answered FIN")),
            "hanging up": self._listen(lambda _: None, raw=True),
            "in the head": self._listen(lambda connection: connection.recv(10)),
            "books": self._listen(self._tell, raw=True),
        }

    def _listen(self, converse: object, *, raw: bool = False) -> int:
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, args=(listening, converse, raw), daemon=True).start()
        return int(listening.getsockname()[1])

    def _accept(self, listening: socket.socket, converse: object, raw: bool) -> None:
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=self._serve, args=(connection, converse, raw), daemon=True
            ).start()

    def _serve(self, connection: socket.socket, converse: object, raw: bool) -> None:
        with contextlib.suppress(OSError, _Ended):
            if self._context is not None and not raw:
                connection = self._context.wrap_socket(connection, server_side=True)
            assert callable(converse)
            converse(connection)
        with contextlib.suppress(_Ended):
            end(connection, "FIN" if converse == self._tell else "RST")

    def _tell(self, connection: socket.socket) -> None:
        with self._lock:
            connection.sendall(json.dumps(self._runs).encode())

    def _read_requests(self, connection: socket.socket, fault: str = "") -> None:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                received += receive(connection)
            head, _, received = received.partition(b"\r\n\r\n")
            request = _Request(head.decode(), fault)
            received = self._take(connection, request, received)
            _answer(connection, request)

    def _take(self, connection: socket.socket, request: _Request, received: bytes) -> bytes:
        """Read the body, and give what came behind it."""
        if request.place == "head":
            end(connection, request.how)
        if request.place in ("half body", "interim"):
            while len(received) < request.size // 2:
                received += receive(connection)
            if request.place == "interim":
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.002)
            end(connection, request.how)
        while len(received) < request.size:
            received += receive(connection)
        with self._lock:
            self._runs[request.call] += 1
        if request.place == "body":
            end(connection, request.how)
        return received[request.size :]


class _Request:
    """What a head says."""

    def __init__(self, head: str, fault: str) -> None:
        method, self.path, _ = head.split(" ", 2)
        headers = {
            name.lower(): value for name, value in re.findall(r"(?m)^([\w-]+): *(.*?)\r?$", head)
        }
        self.size = int(headers.get("content-length", 0))
        if method == "PUT":  # an object has no headers of ours
            _, _, self.call, fault, _ = self.path.split("/", 4)
            fault = fault.replace("_", " ")
        else:
            self.call, fault = headers.get("x-call", ""), headers.get("x-fault", fault)
        self.place, _, self.how = fault.rpartition(" ")


def _answer(connection: socket.socket, request: _Request) -> None:
    if request.place == "slow":
        time.sleep(_SLOW)
    answer = _build_answer(request.path)
    body_at = answer.index(b"\r\n\r\n") + 4
    cuts = {"answer": 12, "answer head": body_at, "answer body": body_at + 5}
    if request.place in cuts:
        connection.sendall(answer[: cuts[request.place]])
        time.sleep(0.002)  # or a reset would take it back
        end(connection, request.how)
    connection.sendall(answer)
    if request.place == "answered":
        end(connection, request.how)
    seconds = {"idle": 0.005, "lull": 0.05}.get(request.place)
    if seconds and not select.select([connection], [], [], random.random() * seconds)[0]:
        if request.how == "bytes":
            connection.sendall(b"HTTP/1.1 500 Stray\r\ncontent-length: 0\r\n\r\n")
        else:
            end(connection, request.how)


def receive(connection: socket.socket) -> bytes:
    """Give what comes next; a connection whose peer has ended it is over."""
    received = connection.recv(1 << 20)
    if not received:
        raise _Ended
    return received


def end(connection: socket.socket, how: str) -> None:
    """End the connection, in one of four ways."""
    with contextlib.suppress(OSError):
        if how == "hang":
            while connection.recv(1 << 20):
                pass
        elif how == "half-close":
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):
                pass
        elif how == "RST":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # TLS' own goodbye would be read before the end of the connection.
        os.close(connection.detach())
    raise _Ended


def _build_answer(path: str) -> bytes:
    if path.endswith("/invocations-response-stream"):
        body = 3 * _PART
        fields = b"content-type: application/vnd.amazon.eventstream\r\n"
    elif path.endswith("/async-invocations"):
        body = b'{"InferenceId": "id"}'
        fields = b"x-amzn-sagemaker-outputlocation: s3://bucket/output\r\n"
    else:
        body, fields = b"an answer", b"content-type: text/plain\r\n"
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (fields, len(body), body)


def _main() -> None:
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    sys.stdout.write(json.dumps(Server(context).ports) + "\n")
    sys.stdout.flush()
    sys.stdin.read()  # until whoever started it is gone


if __name__ == "__main__":
    _main()
