"""The page on which a photo is tried: a small server of this machine that keeps nothing."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.components.hardware import auto
from maskcls.core.errors import ConfigError, DataError, RunError
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.image_decoding import JPEG, decode_image, read_header
from maskcls.inference.grad_cam import grad_cam
from maskcls.inference.onnx_model import OnnxModel
from maskcls.inference.photo_answer import PhotoAnswer
from maskcls.inference.predictor import Predictor
from maskcls.inference.run_components import check_component
from maskcls.reporting.page_rendering import render_template
from maskcls.storage.trained_model import open_model
from maskcls.system.stderr import capture_stderr

LOCAL = ("127.0.0.1", "localhost", "[::1]")
TIMEOUT = 20.0  # seconds in which a browser must send a photo
WARM_UP = (512, 384, 3)  # of a blank photo
NO_MAP = "Where it looked is shown for convolutional networks in torch, not for this model"
POLICY = "default-src 'none'; img-src data: blob:; media-src blob:; connect-src 'self'; style-src 'unsafe-inline'"
Answer = Callable[[Pixels], PhotoAnswer]


def open_answer(name: str, runs_dir: str) -> tuple[str, Answer]:
    """Return the name of a model and its function from a photo to an answer: a run, a checkpoint or an .onnx file."""
    if Path(name).suffix == ".onnx":
        return Path(name).name, onnx_answer(OnnxModel(name))
    predictor = Predictor(open_model(name, runs_dir), auto(workers=0))
    answer = torch_answer(predictor)
    answer(np.zeros(WARM_UP, np.uint8))  # builds the networks now, and not for the first visitor
    return predictor.source.name, answer


def torch_answer(predictor: Predictor) -> Answer:
    """Return the function of a run, with the map of Grad-CAM where its network has one."""

    def answer(photo: Pixels) -> PhotoAnswer:
        crop = predictor.crop_photo(photo)
        probs = predictor.predict_pixels(crop[None])[0]
        attention = grad_cam(predictor, crop, int(probs.argmax()))
        return PhotoAnswer(photo, crop, probs, attention, "" if attention is not None else NO_MAP)

    return answer


def onnx_answer(model: OnnxModel) -> Answer:
    """Return the function of an .onnx file; the crop, which the file does itself, is repeated for the picture."""
    crop = check_component("crop", model.metadata.get("crop"), model.path).build()

    def answer(photo: Pixels) -> PhotoAnswer:
        cropped = crop(photo)
        outputs = model.predict_pixels((cropped if model.takes_crops else photo)[None])
        return PhotoAnswer(photo, cropped, outputs["class"][0], note=NO_MAP)

    return answer


class DemoServer(ThreadingHTTPServer):
    """A server of one model: GET / is the page, POST /predict takes the bytes of a photo and returns JSON."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], name: str, answer: Answer, max_bytes: int) -> None:
        self.name, self.answer, self.max_bytes = name, answer, max_bytes
        self.lock = threading.Lock()  # one photo at a time: networks and the decoder's warnings are shared
        try:
            super().__init__(address, DemoHandler)
        except OSError as error:
            where = f"{address[0]}:{address[1]} ({error.strerror})"
            raise ConfigError(f"cannot listen on {where}. Set port=0 for any free port, or another") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"

    def answer_photo(self, raw: bytes) -> dict[str, Any]:
        """Return the HTML, class, probabilities and milliseconds for the bytes of a photo; DataError if it is none."""
        with self.lock:
            begun = time.perf_counter()
            answer = self.answer(decode(raw))
            seconds = time.perf_counter() - begun
        probs = [round(float(prob), 6) for prob in answer.probs]
        return {"html": answer.to_html(), "class": answer.name, "probs": probs, "ms": round(1000 * seconds, 1)}


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
        values = {"name": self.server.name, "nonce": nonce, "max_mb": self.server.max_bytes / 1e6}
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
        if int(length) > self.server.max_bytes:
            sizes = f"the file has {int(length) / 1e6:.1f} MB, the limit is {self.server.max_bytes / 1e6:g} MB"
            return self.send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": sizes})
        try:
            raw = self.rfile.read(int(length))
            answer = self.server.answer_photo(raw)
        except (DataError, RunError) as error:
            return self.send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
        except TimeoutError:
            reason = f"the photo did not arrive within {TIMEOUT:g} s"
            return self.send_json(HTTPStatus.REQUEST_TIMEOUT, {"error": reason})
        self.send_json(HTTPStatus.OK, answer)

    def is_for_us(self) -> bool:
        """Return True if the request names this server; else a page of another site may be sending it."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        origin = self.headers.get("Origin")
        known = {*LOCAL, str(self.server.server_address[0])}
        if str(self.server.server_address[0]) in ("0.0.0.0", "::"):
            known.add(host)
        if host in known and origin in (None, f"http://{self.headers.get('Host')}"):
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
