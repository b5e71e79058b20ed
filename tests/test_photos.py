"""Photos on disk: each odd one is read as it should be, each bad one has its sentence, and none is found out late."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskcls import photos
from maskcls.errors import DataError
from maskcls.photos import LIMIT, look, looked, photo

COLOUR = (200, 100, 50)


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.new("RGB", (24, 32), COLOUR)).save(buffer, kind, **options)
    return buffer.getvalue()


def noisy(kind: str, **options: object) -> bytes:
    random = np.random.default_rng(0)
    return saved(kind, Image.fromarray(random.integers(0, 256, (96, 72, 3), np.uint8)), **options)


def thumbnailed() -> bytes:
    """Return a JPEG whose EXIF segment holds another JPEG with an end of its own."""
    small, whole = saved("JPEG"), noisy("JPEG")
    segment = b"Exif\0\0" + small
    return whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]


def empty_png(height: int, width: int) -> bytes:
    """Return a PNG that promises so many pixels and holds none."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    body = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def flipped(raw: bytes) -> bytes:
    at = len(raw) // 2
    return raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1 :]


CUT, BROKEN, BIG = "it is cut off, its end is missing", "its pixels are broken", f"more than the {LIMIT} megapixels"
BAD: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "cannot be read as a photo"),
    "a text": (b"name,age\n" * 50, "cannot be read as a photo"),
    "a page of the web": (b"<!DOCTYPE html><html><body>404</body></html>", "cannot be read as a photo"),
    "a JPEG's first bytes": (saved("JPEG")[:20], "cannot be read as a photo"),
    "a JPEG of a half": (noisy("JPEG")[:3000], CUT),
    "a JPEG without its last bytes": (noisy("JPEG")[:-9], CUT),
    "a progressive JPEG of a half": (noisy("JPEG", progressive=True)[:4000], CUT),
    "a JPEG of a half with a whole thumbnail": (thumbnailed()[:-500], CUT),
    "a PNG of a half": (noisy("PNG")[:9000], CUT),
    "a PNG without its last bytes": (noisy("PNG")[:-9], CUT),
    "a PNG with a changed byte": (flipped(noisy("PNG")), BROKEN),
    "a WebP of a half": (noisy("WEBP")[:2000], "cannot be read as a photo"),
    "a PNG without pixels": (empty_png(32, 24), BROKEN),
    "20,000 × 20,000 pixels": (empty_png(20_000, 20_000), BIG),
    "9,000 × 9,000 pixels": (empty_png(9_000, 9_000), f"has 9000 × 9000 pixels, {BIG}"),
    "8,001 × 10,000 pixels": (empty_png(8_001, 10_000), f"has 8001 × 10000 pixels, {BIG}"),
    "a BMP of a half": (saved("BMP")[:300], BROKEN),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_photo_has_its_sentence(what: str, tmp_path: Path) -> None:
    raw, words = BAD[what]
    path = tmp_path / "bad.jpg"
    path.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        photo(str(path))
    (sentence,) = caught.value.sentences
    assert sentence.startswith(f"{path} ") and words in sentence
    assert f"{path} {look(str(path)).fault}" == sentence


def gone(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "is no file"),
    "a pipe": (os.mkfifo, "is no file"),
    "a link to nothing": (gone, "cannot be read: No such file or directory"),
    "nothing": (lambda path: None, "cannot be read: No such file or directory"),
    "a name that is too long": (lambda path: None, "cannot be read: File name too long"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_has_its_sentence(what: str, tmp_path: Path) -> None:
    make, words = STRANGE[what]
    path = tmp_path / ("x" * 400 if "long" in what else "strange.jpg")
    make(path)
    with pytest.raises(DataError) as caught:
        photo(str(path))
    assert caught.value.sentences == (f"{path} {words}",)


def sideways(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved("JPEG", exif=exif)


def mode(name: str, kind: str = "PNG") -> bytes:
    return saved(kind, Image.new("RGB", (24, 32), COLOUR).convert(name))


GREY, UPRIGHT = (124, 124, 124), (32, 24)
GOOD: dict[str, tuple[bytes, tuple[int, int, int], tuple[int, int]]] = {
    "a JPEG": (saved("JPEG"), COLOUR, UPRIGHT),
    "a progressive JPEG": (saved("JPEG", progressive=True), COLOUR, UPRIGHT),
    "a JPEG with something behind its end": (saved("JPEG") + b"\0" * 99, COLOUR, UPRIGHT),
    "a grey JPEG": (mode("L", "JPEG"), GREY, UPRIGHT),
    "a CMYK JPEG": (mode("CMYK", "JPEG"), COLOUR, UPRIGHT),
    "a PNG": (saved("PNG"), COLOUR, UPRIGHT),
    "a PNG with alpha": (mode("RGBA"), COLOUR, UPRIGHT),
    "a transparent PNG": (saved("PNG", Image.new("RGBA", (24, 32), (*COLOUR, 0))), COLOUR, UPRIGHT),
    "a palette": (saved("PNG", Image.new("RGB", (24, 32), COLOUR).quantize(4)), COLOUR, UPRIGHT),
    "a grey PNG": (mode("L"), GREY, UPRIGHT),
    "a grey PNG with alpha": (mode("LA"), GREY, UPRIGHT),
    "a PNG of 16 bits": (saved("PNG", Image.fromarray(np.full((32, 24), 124 * 257, np.uint16))), GREY, UPRIGHT),
    "a black-and-white PNG": (saved("PNG", Image.new("1", (24, 32), 1)), (255, 255, 255), UPRIGHT),
    "a WebP called .jpg": (saved("WEBP", quality=100), COLOUR, UPRIGHT),
    "a BMP called .jpg": (saved("BMP"), COLOUR, UPRIGHT),
    "one pixel": (saved("PNG", Image.new("RGB", (1, 1), COLOUR)), COLOUR, (1, 1)),
    "a line": (saved("PNG", Image.new("RGB", (5000, 1), COLOUR)), COLOUR, (1, 5000)),
    "upside down": (sideways(3), COLOUR, UPRIGHT),
    **{f"sideways, EXIF {i}": (sideways(i), COLOUR, (24, 32)) for i in (5, 6, 7, 8)},
}  # fmt: skip


@pytest.mark.parametrize("what", GOOD)
def test_an_odd_photo_is_read_as_rgb(what: str, tmp_path: Path) -> None:
    raw, colour, size = GOOD[what]
    path = tmp_path / "odd.jpg"
    path.write_bytes(raw)
    image = photo(str(path))
    assert image.dtype == np.uint8 and image.shape == (*size, 3)
    assert np.abs(image.astype(int) - colour).max() <= 6
    assert look(str(path)) == (*size, None)


@pytest.mark.parametrize(
    "name", ["Größe 模.jpg", "a b'c\"d.jpg", "🙂.jpg", "line\nbreak.jpg", "x" * 240 + ".jpg", "-rf.jpg"]
)
def test_a_photo_may_have_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(saved("PNG"))
    assert photo(str(tmp_path / name)).shape == (32, 24, 3)


def test_a_photo_is_looked_at_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    for path in paths:
        Path(path).write_bytes(saved("JPEG"))
    seen: list[str] = []
    monkeypatch.setattr(photos, "look", lambda path: seen.append(path) or look(path))
    assert looked(paths * 2, tmp_path) == [(32, 24, None)] * 6 == looked([*paths, *paths[::-1]], tmp_path)
    assert sorted(seen) == paths
    Path(paths[1]).write_bytes(b"")
    assert [bool(known.fault) for known in looked(paths, tmp_path)] == [False, True, False] and seen[3:] == [paths[1]]
    (tmp_path / "photos.json").write_text("{broken")
    assert looked(paths, tmp_path)[0].fault is None and len(seen) == 7
