"""Photos on disk: each odd one is read as it should be, each bad one has its sentence, and none is found out late."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from maskcls.core.errors import DataError
from maskcls.data import image_check
from maskcls.data.image_check import inspect_images
from maskcls.imaging import image_io
from maskcls.imaging.image_decoding import LIMIT, image_formats
from maskcls.imaging.image_io import ImageInfo, inspect_alone, inspect_image, map_images, read_image, read_pixels

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


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (24, 32), (i * 60, 0, 0)) for i in range(3)]
    return saved(kind, frames[0], save_all=True, append_images=frames[1:])


def flipped(raw: bytes) -> bytes:
    at = len(raw) // 2
    return raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1 :]


CUT, BROKEN, BIG = "truncated file", "corrupt pixel data", f"the limit of {LIMIT} megapixels"
BAD: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "cannot be read as an image"),
    "a text": (b"name,age\n" * 50, "cannot be read as an image"),
    "a page of the web": (b"<!DOCTYPE html><html><body>404</body></html>", "cannot be read as an image"),
    "a JPEG's first bytes": (saved("JPEG")[:20], "cannot be read as an image"),
    "a JPEG of a half": (noisy("JPEG")[:3000], CUT),
    "a JPEG without its last bytes": (noisy("JPEG")[:-9], CUT),
    "a progressive JPEG of a half": (noisy("JPEG", progressive=True)[:4000], CUT),
    "a JPEG of a half with a whole thumbnail": (thumbnailed()[:-500], CUT),
    "a PNG of a half": (noisy("PNG")[:9000], CUT),
    "a PNG without its last bytes": (noisy("PNG")[:-9], CUT),
    "a PNG with a changed byte": (flipped(noisy("PNG")), BROKEN),
    "a WebP of a half": (noisy("WEBP")[:2000], "cannot be read as an image"),
    "a PNG without pixels": (empty_png(32, 24), BROKEN),
    "20,000 × 20,000 pixels": (empty_png(20_000, 20_000), BIG),
    "9,000 × 9,000 pixels": (empty_png(9_000, 9_000), f"has 9000 × 9000 pixels, over {BIG}"),
    "8,001 × 10,000 pixels": (empty_png(8_001, 10_000), f"has 8001 × 10000 pixels, over {BIG}"),
    "a BMP of a half": (saved("BMP")[:300], BROKEN),
    "a TIFF of a half": (noisy("TIFF", compression="tiff_lzw")[:-2000], "cannot be read as an image"),
    **{f"an animated {kind}": (animated(kind), "contains 3 images") for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF")},
    "a HEIC, which needs a plugin": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC needs pip install pillow-heif"),
    "a TIFF of 32-bit numbers": (saved("TIFF", Image.fromarray(np.ones((32, 24), np.int32))), "Save it with 8 bits"),
    "a TIFF of floats": (saved("TIFF", Image.fromarray(np.ones((32, 24), np.float32))), "Save it with 8 bits"),
    "a PPM of 16 bits": (saved("PPM", Image.fromarray(np.ones((32, 24), np.uint16))), "Save it with 8 bits"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_photo_has_its_sentence(what: str, tmp_path: Path) -> None:
    raw, words = BAD[what]
    path = tmp_path / "bad.jpg"
    path.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        read_image(str(path))
    (sentence,) = caught.value.messages
    assert sentence.startswith(f"{path} ") and words in sentence
    assert f"{path} {inspect_image(str(path)).error}" == sentence


def gone(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "is not a file"),
    "a pipe": (os.mkfifo, "is not a file"),
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
        read_image(str(path))
    assert caught.value.messages == (f"{path} {words}",)


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
    image = read_image(str(path))
    assert image.dtype == np.uint8 and image.shape == (*size, 3)
    assert np.abs(image.astype(int) - colour).max() <= 6
    assert inspect_image(str(path))[:3] == (*size, None)


@pytest.mark.parametrize(
    "name", ["Größe 模.jpg", "a b'c\"d.jpg", "🙂.jpg", "line\nbreak.jpg", "x" * 240 + ".jpg", "-rf.jpg"]
)
def test_a_photo_may_have_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(saved("PNG"))
    assert read_image(str(tmp_path / name)).shape == (32, 24, 3)


def test_a_photo_is_looked_at_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    for path in paths:
        Path(path).write_bytes(saved("JPEG"))
    seen: list[str] = []
    monkeypatch.setattr(image_check, "inspect_image", lambda path: seen.append(path) or inspect_image(path))
    assert (
        inspect_images(paths * 2, tmp_path)
        == [ImageInfo(32, 24, None)] * 6
        == inspect_images([*paths, *paths[::-1]], tmp_path)
    )
    assert sorted(seen) == paths
    Path(paths[1]).write_bytes(b"")
    assert [bool(known.error) for known in inspect_images(paths, tmp_path)] == [False, True, False] and seen[3:] == [
        paths[1]
    ]
    (tmp_path / "photos.json").write_text("{broken")
    assert inspect_images(paths, tmp_path)[0].error is None and len(seen) == 7


def scene(mode: str = "RGB") -> Image.Image:
    """Return a smooth picture with colour, of a height and a width that no eighth divides, in a mode of Pillow."""
    rough = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    image = Image.fromarray(np.asarray(cv2.resize(rough, (75, 99), interpolation=cv2.INTER_LINEAR), np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.linspace(0, 255, 99 * 75).reshape(99, 75).astype(np.uint8)))
    return image.quantize(64) if mode == "P" else image.convert(mode)


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")


def reference(raw: bytes) -> np.ndarray:
    """Return what Pillow makes of a file: upright, 8-bit RGB; of 16 bits the upper 8, where its convert would clip."""
    with Image.open(io.BytesIO(raw)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return np.repeat((np.asarray(upright) // 256).astype(np.uint8)[..., None], 3, 2)
        return np.asarray(upright.convert("RGB"))


def written() -> Iterator[tuple[str, str, bytes]]:
    """Yield each format and mode that Pillow writes here and reads again, with a file of it."""
    for kind, mode in itertools.product(image_formats(), MODES):
        with contextlib.suppress(OSError, ValueError, KeyError):
            raw = saved(kind, scene(mode))
            reference(raw)  # Pillow before 13 cannot read its own TIFF of YCbCr
            yield kind, mode, raw


@pytest.mark.parametrize(
    ("kind", "mode", "raw"), list(written()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_format_and_mode_is_read_as_pillow_converts_it(kind: str, mode: str, raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(raw)
    if (kind, mode) == ("PPM", "I;16"):  # Pillow opens it as 32-bit numbers
        assert "Save it with 8 bits" in str(inspect_image(str(path)).error)
        return
    image = read_pixels(str(path))
    assert np.abs(image.astype(int) - reference(raw)).max() <= 2
    assert inspect_image(str(path))[:3] == (*image.shape[:2], None)


def test_the_usual_formats_are_among_those() -> None:
    tried = {(kind, mode) for kind, mode, _ in written()}
    assert len(tried) > 60 and {("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "I;16"), ("TIFF", "I;16")} <= tried


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [kind for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") if kind in image_formats()])
@pytest.mark.parametrize("where", ["exif", "xmp"])
def test_size_and_pixels_are_turned_alike(orientation: int, kind: str, where: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    scene().save(path, kind, **({"exif": exif} if where == "exif" else {"xmp": XMP % orientation}))  # type: ignore[arg-type]
    image = read_pixels(str(path))
    assert np.abs(image.astype(int) - reference(path.read_bytes())).max() <= 2
    assert inspect_image(str(path))[:3] == (*image.shape[:2], None)
    if where == "exif" and kind != "TIFF":  # Pillow writes no orientation into a TIFF by that way
        assert image.shape[:2] == ((75, 99) if orientation >= 5 else (99, 75))


def test_a_turned_tiff_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.tif"
    scene().save(path, tiffinfo={0x0112: 6})
    assert np.array_equal(read_pixels(str(path)), np.rot90(np.asarray(scene()), -1))
    assert inspect_image(str(path))[:3] == (75, 99, None)


def damaged(raw: bytes, start: int, seed: int) -> bytes:
    """Return a file with 1 to 64 bytes of its pixels cut out, set to zero, changed, or with more put among them."""
    random = np.random.default_rng(seed)
    at, size = int(random.integers(start, len(raw) - 2)), int(random.choice([1, 2, 8, 64]))
    part = raw[at : at + size]
    new = (b"", bytes(len(part)), bytes(byte ^ 255 for byte in part), part + random.bytes(size))[seed % 4]
    return raw[:at] + new + raw[at + size :]


OPTIONS: dict[str, dict[str, object]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 4},
}


@pytest.mark.parametrize("how", [*OPTIONS, "CMYK"])
def test_what_libjpeg_warns_of_is_a_fault_with_a_name(
    how: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = saved("JPEG", scene("CMYK" if how == "CMYK" else "RGB"), quality=95, **OPTIONS.get(how, {}))
    start, heard = raw.rindex(b"\xff\xda") + 16 if how != "progressive" else len(raw) // 3, 0
    for seed in range(60):
        path = tmp_path / f"{seed}.jpg"
        path.write_bytes(damaged(raw, start, seed))
        cv2.imread(str(path))
        warned = "JPEG" in capfd.readouterr().err
        fault = inspect_alone(str(path)).error
        assert fault or not warned
        heard += warned
        if warned:
            with pytest.raises(DataError, match=rf"^{path} cannot be read as an image"):
                read_image(str(path))
    assert heard > 10 and not capfd.readouterr().err


def test_damage_to_a_png_is_always_a_fault(tmp_path: Path) -> None:
    raw = saved("PNG", scene())
    for seed in range(60):
        path = tmp_path / f"{seed}.png"
        path.write_bytes(damaged(raw, raw.index(b"IDAT"), seed))
        assert inspect_image(str(path)).error or np.array_equal(read_pixels(str(path)), np.asarray(scene()))


@pytest.mark.parametrize("how", ["tiff_lzw", "tiff_adobe_deflate"])
def test_what_libtiff_says_is_a_fault(how: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw, heard = saved("TIFF", scene(), compression=how), 0
    for seed in range(60):
        path = tmp_path / f"{seed}.tif"
        path.write_bytes(damaged(raw, 10, seed))
        fault = inspect_image(str(path)).error
        warned = bool(capfd.readouterr().err)
        assert fault or not warned
        heard += warned
    assert heard > 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "JPEG2000"])
def test_what_passes_the_check_is_decoded_in_the_size_that_it_told(kind: str, tmp_path: Path) -> None:
    raw = saved(kind, scene())
    for seed in range(60):
        path = tmp_path / f"{seed}.jpg"
        path.write_bytes(damaged(raw, 8, seed))
        seen = inspect_image(str(path))
        if seen.error is None:
            assert read_pixels(str(path)).shape == (seen.height, seen.width, 3)
        else:
            with pytest.raises(DataError):
                read_pixels(str(path))


def test_among_many_the_broken_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_io, "ROUND", 3)
    good, raw = saved("JPEG", scene(), quality=95), b""
    seed = next(i for i in range(99) if (tmp_path / "x.jpg").write_bytes(raw := damaged(good, len(good) // 2, i)) and
                inspect_alone(str(tmp_path / "x.jpg")).error and inspect_image(str(tmp_path / "x.jpg")).error is None)  # fmt: skip
    paths = [str(tmp_path / f"{i}.jpg") for i in range(40)]
    for i, path in enumerate(paths):
        Path(path).write_bytes(raw if i in (5, 6, 39) else good)
    capfd.readouterr()
    assert seed < 99 and [i for i, seen in enumerate(inspect_images(paths, tmp_path)) if seen.error] == [5, 6, 39]
    assert [i for i, (_, fault) in enumerate(map_images(read_pixels, paths, str)) if fault] == [5, 6, 39]
    assert not capfd.readouterr().err


def test_what_others_say_meanwhile_is_passed_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(saved("JPEG"))
    assert list(map_images(lambda path: os.write(2, b"a word\n"), [str(tmp_path / "a.jpg")], str)) == [(7, None)]
    assert capfd.readouterr().err == "a word\n"


def test_a_chatty_png_is_good(tmp_path: Path) -> None:
    raw, profile = saved("PNG"), b"x\0\0" + zlib.compress(b"no profile")
    chunk = struct.pack(">I", len(profile)) + b"iCCP" + profile + struct.pack(">I", zlib.crc32(b"iCCP" + profile))
    (tmp_path / "a.png").write_bytes(raw[:33] + chunk + raw[33:])
    assert (
        read_image(str(tmp_path / "a.png")).shape == (32, 24, 3)
        and inspect_alone(str(tmp_path / "a.png")).error is None
    )
