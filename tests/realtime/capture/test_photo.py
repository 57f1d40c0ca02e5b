"""Every kind of photo that people have becomes the same upright RGB; every kind that does not, one sentence."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from realtime.capture import photo
from realtime.capture.photo import find_photos, load_photo, photo_sha256
from realtime.errors import PhotoError

# a picture whose four corners differ, so that a wrong turn shows
SCENE = np.zeros((48, 64, 3), np.uint8)
SCENE[:24, :32], SCENE[:24, 32:], SCENE[24:, :32], SCENE[24:, 32:] = (
    (200, 30, 30),
    (30, 200, 30),
    (30, 30, 200),
    (90, 90, 90),
)

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PhotoError) as caught:
        load_photo(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "gif", "webp"])
def test_lossless_formats_give_back_the_pixels(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    loaded = load_photo(saved(tmp_path / f"scene.{suffix}", Image.fromarray(SCENE), **options))
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, SCENE)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_tag_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(SCENE)
    expected = image if TURNS[orientation] is None else image.transpose(TURNS[orientation])
    loaded = load_photo(saved(tmp_path / f"scene.{suffix}", image, exif=exif.tobytes(), quality=95))
    assert loaded.shape == np.asarray(expected).shape
    assert np.abs(loaded.astype(int) - np.asarray(expected)).mean() < 5


def test_broken_exif_does_not_lose_the_photo(tmp_path: Path) -> None:
    path = saved(tmp_path / "scene.jpg", Image.fromarray(SCENE), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert load_photo(path).shape == SCENE.shape


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "YCbCr"])
def test_colour_spaces(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    loaded = load_photo(saved(tmp_path / f"scene.{suffix}", Image.fromarray(SCENE).convert(mode), quality=95))
    expected = np.asarray(Image.fromarray(SCENE).convert(mode).convert("RGB"))
    assert loaded.shape == SCENE.shape
    assert np.abs(loaded.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((10, 20, 30, 255), (0, 0, 4, 8))
    loaded = load_photo(saved(tmp_path / "glass.png", image.convert(mode)))
    assert (loaded[:, 5:] == 255).all()
    assert loaded[0, 0].max() < 60


def test_16_bit_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    cv2.imwrite(str(tmp_path / "grey.png"), ramp)
    cv2.imwrite(str(tmp_path / "grey.tif"), ramp)
    cv2.imwrite(str(tmp_path / "colour.png"), np.repeat(ramp[..., None], 3, axis=2))
    for name in ("grey.png", "grey.tif", "colour.png"):
        loaded = load_photo(tmp_path / name)
        assert loaded.shape == (4, 256, 3)
        assert np.abs(loaded[0, :, 1].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("low", "high", "first", "last"), [(0.0, 1.0, 0, 255), (0.0, 9.0, 0, 255), (-1.0, 1.0, 0, 255), (0.0, 0.5, 0, 128)]
)
def test_float_grey_is_scaled(tmp_path: Path, low: float, high: float, first: int, last: int) -> None:
    ramp = np.linspace(low, high, 64, dtype=np.float32)[None].repeat(2, 0)
    loaded = load_photo(saved(tmp_path / "float.tif", Image.fromarray(ramp)))
    assert (loaded[0, 0, 0], loaded[0, -1, 0]) == (first, last)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    path = saved(tmp_path / "wave.gif", frames[0], save_all=True, append_images=frames[1:])
    assert tuple(load_photo(path)[0, 0]) == (255, 0, 0)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    assert load_photo(saved(tmp_path / "scene.avif", Image.fromarray(SCENE))).shape == SCENE.shape


def test_avif_without_the_codec_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x20ftypavif" + bytes(100))
    assert "AVIF photos are not read; convert it to JPEG or PNG" in refusal(tmp_path / "a.avif")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        ("a.heif", b"\0\0\0\x18ftypxxxx\0\0\0\0", "HEIC"),
        ("a.dng", b"II*\0" + bytes(100), "camera raw"),
        ("a.CR2", b"II*\0\x10\0\0\0CR" + bytes(100), "camera raw"),
        ("a.jpg", b"\0\0\0\x18ftypcrx \0\0\0\1", "camera raw"),
    ],
)
def test_formats_that_need_converting_say_so(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert f"{kind} photos are not read; convert it to JPEG or PNG" in refusal(tmp_path / name)


def test_truncated(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "webp", "gif", "tif", "bmp"):
        path = saved(
            tmp_path / f"scene.{suffix}",
            Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)),
        )
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "damaged or cut short" in refusal(path)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_001, 10_000), (13_000, 13_000), (60_000, 60_000)])
def test_decompression_bomb_is_refused_before_it_unpacks(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(image: Image.Image, path: Path) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr(photo, "_to_rgb", never)
    (tmp_path / "bomb.png").write_bytes(_png(*size))
    assert "more than the 100 million pixels allowed" in refusal(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am a letter\n", "is text"),
        (bytes(range(256)), "not an image"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "is a video"),
    ],
)
def test_not_an_image(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    assert words in refusal(tmp_path / "photo.jpg")


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nobody.jpg")
    assert "is a folder" in refusal(tmp_path)
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000))
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in refusal(tmp_path / "pipe.jpg")


def test_too_large_a_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "film.jpg").open("wb") as file:
        file.truncate(photo.MAX_FILE_BYTES + 1)
    assert "too large for a photo" in refusal(tmp_path / "film.jpg")


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "secret.png", Image.fromarray(SCENE))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything: take the error from the call instead
        monkeypatch.setattr(
            Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    assert "may not be read; check its permissions" in refusal(path)


def test_a_postscript_file_is_never_interpreted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "is text" in refusal(tmp_path / "a.jpg")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]), data=st.data())
def test_damaged_bytes_give_pixels_or_a_photo_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(SCENE).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 300)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "photo"
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        loaded = load_photo(path)
    except PhotoError:
        return
    assert loaded.dtype == np.uint8
    assert loaded.ndim == 3


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert photo_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(PhotoError, match="no such file"):
        photo_sha256(tmp_path / "b")


def test_find_photos(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.jpg",
        "Ana/2.jpg",
        "Ana/._2.jpg",
        ".cache/x.jpg",
        "Ana/1.heic",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [str(path.relative_to(tmp_path)) for path in find_photos(tmp_path)]
    assert found == ["a.png", "b.JPG", "Ana/1.heic", "Ana/2.jpg"]
    assert find_photos(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_find_photos_refuses_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no such file or folder"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(PhotoError, match="no photos in this folder"):
        find_photos(tmp_path)
