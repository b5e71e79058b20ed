"""The page on which a photo is tried: a small server of this machine that keeps nothing."""

from __future__ import annotations

import errno
import json
import secrets
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from maskcls.core.errors import ConfigError, DataError, MaskclsError, join_words
from maskcls.core.task import Task
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.image_decoding import JPEG, decode_image, read_header
from maskcls.inference.demo import Answer
from maskcls.reporting.page_rendering import render_template
from maskcls.system import console
from maskcls.system.stderr import capture_stderr

LOCAL = ("127.0.0.1", "localhost", "::1")
ANYWHERE = ("", "0.0.0.0", "::")  # hosts that stand for all addresses of a machine
TIMEOUT = 20.0  # seconds in which a browser must send a photo
MAX_DIGITS = 12  # of a photo's number of bytes
CHUNK = 1 << 16  # bytes that are read at once
POLICY = "default-src 'none'; img-src data: blob:; media-src blob:; connect-src 'self'; style-src 'unsafe-inline'"


class DemoServer(ThreadingHTTPServer):
    """A server of one model: GET / is the page, POST /predict takes the bytes of a photo and returns JSON."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], name: str, answer: Answer, max_bytes: int, task: Task) -> None:
        self.name, self.answer, self.max_bytes, self.task = name, answer, max_bytes, task
        self.host = address[0].strip("[]").lower()  # an IPv6 address may stand in brackets
        self.address_family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.lock = threading.Lock()  # one photo at a time: networks and the decoder's warnings are shared
        try:
            super().__init__((self.host, address[1]), DemoHandler)
        except (OSError, ValueError) as error:  # ValueError: a host that no name server can be asked for
            raise ConfigError(listen_message(address, error)) from error

    @property
    def url(self) -> str:
        """The address of the page; of a server on all addresses, with the machine's name."""
        host = socket.gethostname() if self.host in ANYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def knows(self, name: str | None) -> bool:
        """Return True if a request for a host of this name, lower case, is for this server."""
        return self.host in ANYWHERE or name in (*LOCAL, self.host, str(self.server_address[0]))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error of a connection, unless a browser went away."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            console.info(f"a request failed: {describe_error(error)}", "yellow")

    def answer_photo(self, raw: bytes) -> dict[str, Any]:
        """Return the HTML, class, probabilities and milliseconds for the bytes of a photo; DataError if it is none."""
        with self.lock:
            begun = time.perf_counter()
            answer = self.answer(decode(raw))
            seconds = time.perf_counter() - begun
        probs = [round(float(prob), 6) for prob in answer.probs]
        return {"html": answer.to_html(), "class": answer.name, "probs": probs, "ms": round(1000 * seconds, 1)}


def listen_message(address: tuple[str, int], error: OSError | ValueError) -> str:
    """Return the message for an address on which a server cannot listen, with the remedy for the cause."""
    host, port = address
    remedy = "Set host=127.0.0.1, or host=0.0.0.0 for all addresses of this machine"
    if isinstance(error, ValueError | socket.gaierror):
        return f"host={host} is no address or name that this machine knows. {remedy}"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"host={host} is not an address of this machine ({error.strerror}). {remedy}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port={port}: {error.strerror}. Set a port of 1024 or more, or port=0 for any free port"
    if error.errno == errno.EADDRINUSE:
        return f"port={port} is taken. Set port=0 for any free port, or another"
    return f"cannot listen on {host}:{port} ({error.strerror})"


def describe_subject(task: Task) -> str:
    """Return what the page answers in one sentence: the attributes of a person, or of whatever a photo shows."""
    text = join_words(task.names)
    return f"{text[0].upper()}{text[1:]} of {'one person in a photo' if task.group == 'person' else 'a photo'}."


def describe_error(error: BaseException | None) -> str:
    """Return an error's class and message in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def decode(raw: bytes) -> Pixels:
    """Return the upright RGB pixels of a file's bytes; DataError with the reason if they are not a photo."""
    if not raw:
        raise DataError("the file is empty")
    try:
        with capture_stderr() as warnings:
            header = read_header(raw)
            pixels = decode_image(raw, header)
    except ValueError as error:
        raise DataError(f"the file {error}") from error
    if warnings and header.kind in JPEG:
        raise DataError(f"the file cannot be read as an image: corrupt pixel data ({warnings[0]})")
    return pixels


class DemoHandler(BaseHTTPRequestHandler):
    """Answers of the server; it writes no log, for a photo's time and size are nobody's business."""

    server: DemoServer
    server_version, sys_version, timeout = "maskcls", "", TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        """Send the page."""
        if not self.is_for_us():
            return
        if self.path != "/":
            return self.send_json(HTTPStatus.NOT_FOUND, {"error": f"no page {self.path[:80]}"})
        nonce = secrets.token_urlsafe(16)
        subject = describe_subject(self.server.task)
        values = {"name": self.server.name, "subject": subject, "nonce": nonce, "max_mb": self.server.max_bytes / 1e6}
        page = render_template("demo.html.j2", values)
        self.send_body(HTTPStatus.OK, "text/html; charset=utf-8", page.encode(), nonce)

    def do_POST(self) -> None:
        """Send the answer to a photo, or the reason why there is none."""
        if not self.is_for_us():
            return
        if self.path != "/predict":
            return self.send_json(HTTPStatus.NOT_FOUND, {"error": f"no page {self.path[:80]}"})
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self.send_json(HTTPStatus.LENGTH_REQUIRED, {"error": "the request has no Content-Length"})
        if len(length) > MAX_DIGITS or int(length) > self.server.max_bytes:
            size = f"{int(length) / 1e6:.1f}" if len(length) <= MAX_DIGITS else "too many"
            sizes = f"the file has {size} MB, the limit is {self.server.max_bytes / 1e6:g} MB"
            return self.send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": sizes})
        self.send_json(*self.answer_body(int(length)))

    def answer_body(self, length: int) -> tuple[HTTPStatus, dict[str, Any]]:
        """Return status and content of the answer to a body of `length` bytes, a photo."""
        try:
            return HTTPStatus.OK, self.server.answer_photo(self.read_body(length))
        except MaskclsError as error:
            return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": " ".join(str(error).split())}
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT, {"error": f"the photo did not arrive within {TIMEOUT:g} s"}
        except ConnectionError:
            raise
        except Exception as error:  # decoders and networks raise arbitrary errors
            console.info(f"no answer to a photo: {describe_error(error)}", "yellow")
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"the model has no answer ({describe_error(error)})"}

    def read_body(self, length: int) -> bytes:
        """Return at most `length` bytes of a request's body; TimeoutError if all take longer than TIMEOUT."""
        parts, missing, end = [], length, time.monotonic() + TIMEOUT
        while missing:
            if (left := end - time.monotonic()) <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            if not (part := self.rfile.read1(min(missing, CHUNK))):
                break  # the browser has closed the connection
            parts.append(part)
            missing -= len(part)
        self.connection.settimeout(TIMEOUT)
        return b"".join(parts)

    def is_for_us(self) -> bool:
        """Return True if the request names this server; else a page of another site may be sending it."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:  # brackets that do not match
            name = None
        if self.server.knows(name) and origin in (None, f"http://{host}"):
            return True
        self.send_json(HTTPStatus.FORBIDDEN, {"error": "the request comes from another site"})
        return False

    def send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        """Send JSON."""
        self.send_body(status, "application/json", json.dumps(content).encode())

    def send_body(self, status: HTTPStatus, kind: str, body: bytes, nonce: str = "") -> None:
        """Send a body, which browsers keep nowhere; after an error the connection is closed, a body may be unread."""
        headers = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
            "Content-Security-Policy": f"{POLICY}; script-src 'nonce-{nonce}'",
        }  # fmt: skip
        self.close_connection = self.close_connection or status != HTTPStatus.OK
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
