"""The demo page: answers by HTTP and in Chromium, two users at once, files that are no photos, other sites."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from conftest import environment
from made_tasks import FOUR, ONE, STAGES, TWO

from maskcls import load
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, RunError
from maskcls.inference import demo_server
from maskcls.inference.demo import open_answer
from maskcls.inference.demo_server import DemoServer, describe_subject
from maskcls.inference.photo_answer import PhotoAnswer

MAX_BYTES = 200_000


def by_color(photo: np.ndarray) -> PhotoAnswer:
    """Return class 1 for dark photos, 2 for bright ones."""
    probs = 0.8 * MASK18.one_hot(1 + int(photo.mean() > 128)) + 0.2 / 18
    return PhotoAnswer(photo, photo, probs.astype(np.float32), MASK18, np.eye(4, dtype=np.float32), "a note")


@contextlib.contextmanager
def served(**options: Any) -> Iterator[str]:
    """Context manager that serves a demo and yields its address."""
    with DemoServer((options.get("host", "127.0.0.1"), 0), "model <x>", options.get("answer", by_color), MAX_BYTES, MASK18) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def jpeg(value: int, size: int = 40) -> bytes:
    """Return a JPEG of one gray value."""
    return bytes(cv2.imencode(".jpg", np.full((size, size, 3), value, np.uint8))[1])


def post(url: str, body: bytes | None, path: str = "predict", **headers: str) -> tuple[int, dict[str, Any]]:
    """Return status and content of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, body, headers)) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_answer_to_a_photo_has_its_class_and_pictures() -> None:
    with served() as url:
        status, content = post(url, jpeg(200))
        assert status == 200 and content["class"] == MASK18.classes[2] and abs(sum(content["probs"]) - 1) < 1e-4
        assert content["html"].count("<img ") == 3 and "a note" in content["html"]
        with urllib.request.urlopen(url) as page:
            text, headers = page.read().decode(), page.headers
        assert "model &lt;x&gt;" in text and headers["Cache-Control"] == "no-store"
        nonce = re.search(r'<script nonce="([^"]+)"', text)
        assert nonce and f"'nonce-{nonce[1]}'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("body, reason", [
    (b"", "the file is empty"), (b"hello", "cannot be read as an image"), (jpeg(9)[:200], "cannot be read as an image"),
    (b"%PDF-1.4 and so on", "cannot be read"), (jpeg(9)[:300] + jpeg(9)[-2:], "cannot be read"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
])  # fmt: skip
def test_a_file_that_is_no_photo_is_one_sentence(body: bytes, reason: str) -> None:
    with served() as url:
        status, content = post(url, body)
        assert status == 422 and reason in content["error"] and "\n" not in content["error"]
        assert post(url, jpeg(200))[0] == 200  # and the next one is answered


def test_large_files_unknown_pages_and_other_sites_are_refused() -> None:
    with served() as url:
        status, content = post(url, b"x" * (MAX_BYTES + 1))
        assert status == 413 and "the limit is 0.2 MB" in content["error"]
        assert post(url, jpeg(9), "other")[0] == 404
        assert post(url, None, "../etc/passwd")[0] == 404
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            status, content = post(url, jpeg(9), **headers)
            assert status == 403 and "another site" in content["error"]


def test_two_users_at_once_get_their_own_answers() -> None:
    values = [30, 220] * 12
    with served() as url, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda value: post(url, jpeg(value))[1]["class"], values))
    assert answers == [MASK18.classes[1 + (value > 128)] for value in values]


def exchange(url: str, head: bytes, trickle: int = 0) -> tuple[bytes, int]:
    """Return what a server replies to raw bytes, and how many of further single bytes were sent until it did."""
    place, sent = urlsplit(url), 0
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head)
        while sent < trickle and not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"x")
            sent += 1
        return connection.recv(65536), sent


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n"


@pytest.mark.parametrize("length", [b"9" * 13, b"9" * 5000, b"0" * 5000])
def test_a_length_of_many_digits_is_too_large(length: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with served() as url:
        assert b" 413 " in exchange(url, HEAD % length)[0]
    assert capfd.readouterr() == ("", "")


def test_a_photo_that_trickles_in_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "TIMEOUT", 0.3)
    with served() as url:
        reply, sent = exchange(url, HEAD % b"1000", trickle=200)
    assert b" 408 " in reply and sent < 200


def test_a_browser_that_goes_away_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    gone = threading.Event()

    def answer(photo: np.ndarray) -> PhotoAnswer:
        gone.wait(10)
        return by_color(photo)

    with served(answer=answer) as url:
        place, body = urlsplit(url), jpeg(9)
        connection = socket.create_connection((place.hostname, place.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        connection.sendall(HEAD % str(len(body)).encode() + body)
        connection.close()
        gone.set()
        assert post(url, jpeg(200))[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error, status, reason", [
    (ConfigError("no\nsuch crop"), 422, "such crop"), (RunError("broken"), 422, "broken"),
    (ZeroDivisionError("by zero"), 500, "the model has no answer (ZeroDivisionError: by zero)"),
    (cv2.error("a\nb"), 500, "the model has no answer"), (MemoryError(), 500, "MemoryError"),
])  # fmt: skip
def test_whatever_fails_is_one_sentence(
    error: Exception, status: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(photo: np.ndarray) -> PhotoAnswer:
        raise error

    with served(answer=fail) as url:
        found, content = post(url, jpeg(9))
        assert found == status and reason in content["error"] and "\n" not in content["error"]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1)])
def test_a_photo_of_an_extreme_aspect_is_answered(shape: tuple[int, int]) -> None:
    with served() as url:
        body = bytes(cv2.imencode(".png", np.full((*shape, 3), 200, np.uint8))[1])
        assert post(url, body)[0] == 200


def test_a_host_by_name_and_by_ipv6_reaches_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ["localhost", "LOCALHOST", "::1", "[::1]"] if has_ipv6() else ["localhost", "LOCALHOST"]
    for host in hosts:
        with served(host=host) as url:
            assert post(url, jpeg(200))[0] == 200, url
            assert post(url, jpeg(200), Origin=url.rstrip("/"))[0] == 200, url
            assert post(url, jpeg(9), Host="evil.example")[0] == 403
            assert post(url, jpeg(9), Host="[evil")[0] == 403
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *rest, **more: [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))])  # fmt: skip
    with served() as url:
        assert post(url, jpeg(200), Host="my-machine")[0] == 403
    with DemoServer(("127.0.0.1", 0), "m", by_color, 1, MASK18) as server:
        server.host = "my-machine"  # as it was given, which resolves to the address
        assert server.knows("my-machine") and server.url.startswith("http://my-machine:") and not server.knows("other")


def has_ipv6() -> bool:
    """Return True if this machine has the address ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_page_on_all_addresses_is_named_by_the_machine() -> None:
    with served(host="0.0.0.0") as url:
        place = urlsplit(url)
        assert place.hostname == socket.gethostname().lower()
        assert post(f"http://127.0.0.1:{place.port}/", jpeg(200))[0] == 200


@pytest.mark.parametrize("host, reason", [
    ("no-such-host.invalid", "is no address or name"), ("x" * 80, "is no address or name"),
    ("192.0.2.1", "is not an address of this machine"), ("1:2:3", "is no address or name"),
])  # fmt: skip
def test_a_host_that_is_none_has_its_own_remedy(host: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        DemoServer((host, 0), "m", by_color, 1, MASK18)
    assert "Set host=127.0.0.1" in str(caught.value) and "port" not in str(caught.value)


def test_a_folder_of_an_export_names_the_file_that_answers(tmp_path: Path) -> None:
    for place in ("a-onnx", "runs/b-onnx"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"Set run=\S+a-onnx/model\.onnx"):
        open_answer(str(tmp_path / "a-onnx"), "runs")
    with pytest.raises(ConfigError, match=r"Set run=\S+runs/b-onnx/model\.onnx"):
        open_answer("b-onnx", str(tmp_path / "runs"))
    (tmp_path / "t").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "t" / name).write_text("")
    with pytest.raises(ConfigError, match="an export for timm"):
        open_answer(str(tmp_path / "t"), "runs")


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with served() as url, pytest.raises(ConfigError, match="Set port=0"):
        DemoServer(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])), "m", by_color, 1, MASK18)


def test_a_run_answers_as_it_predicts(finished: tuple[list[str], Path], people: Path) -> None:
    photo = next((people / "train" / "images").glob("*/normal.*"))
    name, answer, _ = open_answer(str(finished[1]), "runs")
    with served(answer=answer) as url:
        _, content = post(url, photo.read_bytes())
    assert name == finished[1].name
    assert np.abs(np.array(content["probs"]) - load(finished[1])(photo)[0]).max() <= 1e-5


def test_the_command_serves_on_this_machine_alone_and_keeps_nothing(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "maskcls", "demo", f"run={finished[1]}", "port=0"], cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "http" in line)
        url = next(word for word in line.split() if word.startswith("http"))  # a terminal links it as it stands
        assert url.startswith("http://127.0.0.1:") and post(url, jpeg(90))[0] == 200
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 128 + signal.SIGTERM and not os.listdir(tmp_path)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def browser() -> Iterator[Any]:
    """Return Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield chromium
        chromium.close()


DROP = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "a.jpg", {type: "image/jpeg"}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


@pytest.mark.slow
def test_chromium_drops_a_photo_a_broken_file_and_takes_one_while_another_user_does(browser: Any, tmp_path: Path) -> None:
    faults: list[str] = []
    (tmp_path / "big.jpg").write_bytes(b"x" * (MAX_BYTES + 1))
    with served() as url:
        pages = [browser.new_context(permissions=["camera"]).new_page() for _ in range(2)]
        for page in pages:
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if "Security" in message.text else None)
            page.goto(url)
        for page, value in zip(pages, (30, 220), strict=True):
            page.evaluate(DROP, list(jpeg(value)))
        for page, name in zip(pages, MASK18.classes[1:3], strict=True):
            page.wait_for_selector(".mk")
            assert page.text_content(".mk strong") == name and page.locator(".mk img").count() == 3
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        first = pages[0]
        first.evaluate(DROP, list(b"not a photo"))
        first.locator("#error", has_text="cannot be read as an image").wait_for()
        assert first.locator(".mk").count() == 0
        first.set_input_files("#file", str(tmp_path / "big.jpg"))
        first.locator("#error", has_text="the limit is 0.2 MB").wait_for()
        first.click("#camera")
        first.wait_for_selector("#snap:visible")
        first.click("#snap")
        first.wait_for_selector(".mk")
        assert first.text_content("#error") == ""
    assert faults == []


def test_the_page_names_the_attributes_of_its_model() -> None:
    with served() as url, urllib.request.urlopen(url) as page:
        assert "<p>Mask, gender and age of one person in a photo.</p>" in page.read().decode()
    assert describe_subject(TWO) == "Colour and glasses of one person in a photo."
    assert describe_subject(STAGES) == "Crop and stage of a photo."
    assert describe_subject(ONE) == "Tint of one person in a photo."
    assert describe_subject(FOUR) == "Part0, part1, part2 and part3 of a photo."
