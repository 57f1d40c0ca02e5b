"""Photos as a source: order, refusals, patterns, and pictures under a false name."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from realtime.capture.source import open_source
from realtime.errors import SourceError
from realtime.records import Frame
from realtime.settings import CaptureSettings
from tests.realtime.capture.films import make_film


def save(path: Path, grey: int, size: tuple[int, int] = (32, 24)) -> Path:
    Image.new("RGB", size, (grey, grey, grey)).save(path)
    return path


def read_all(spec: Path | str) -> list[Frame]:
    source = open_source(str(spec), CaptureSettings())
    frames = list(iter(source.read, None))
    source.close()
    return frames


def test_folder_is_read_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2):
        save(tmp_path / f"img{number}.png", number * 10)
    (tmp_path / "notes.txt").write_text("not a photo")
    frames = read_all(tmp_path)
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [10, 20, 90, 100]
    assert [frame.time_s for frame in frames] == [0, 1, 2, 3]


def test_pattern(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a1.png", "a2.png", "b1.png", "deep/a3.png"):
        save(tmp_path / name, 50)
    assert len(read_all(tmp_path / "a*.png")) == 2
    assert len(read_all(tmp_path / "**" / "a*.png")) == 3
    assert len(read_all(tmp_path / "[ab]1.png")) == 2


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    save(tmp_path / "me[1].png", 50)
    assert len(read_all(tmp_path / "me[1].png")) == 1


def test_pattern_without_a_match(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="matches no file"):
        open_source(str(tmp_path / "*.jpg"), CaptureSettings())


def test_folder_without_photos(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(SourceError, match="no photos in this folder"):
        open_source(str(tmp_path), CaptureSettings())


def test_unusable_photo_is_skipped_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a.png", 10)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    save(tmp_path / "c.png", 30)
    with caplog.at_level(logging.WARNING):
        frames = read_all(tmp_path)
    assert [frame.index for frame in frames] == [0, 1]
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [10, 30]
    assert "photo skipped" in caplog.text
    assert "b.jpg" in caplog.text


def test_only_unusable_photos(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(SourceError, match=r"no photo can be used: .*a\.jpg.* \(and 1 more\)"):
        open_source(str(tmp_path), CaptureSettings())


@pytest.mark.parametrize("name", ["clip.mp4", "photo", "page.html"])
def test_photo_under_a_false_name(tmp_path: Path, name: str) -> None:
    photo = save(tmp_path / "p.png", 90)
    frames = read_all(photo.rename(tmp_path / name))
    assert len(frames) == 1
    assert frames[0].rgb[0, 0, 0] == 90


def test_video_under_a_photos_name_plays(tmp_path: Path) -> None:
    path = make_film(tmp_path / "clip.mp4").rename(tmp_path / "photo.png")
    assert len(read_all(path)) == 12


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7680, 4320)])
def test_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    [frame] = read_all(save(tmp_path / "p.png", 70, size))
    assert frame.rgb.shape == (size[1], size[0], 3)
    assert frame.grey.shape == (size[1], size[0])


def test_kinds_of_pixels(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6), (200, 10, 10, 255)).save(tmp_path / "rgba.png")
    Image.new("L", (8, 6), 120).save(tmp_path / "grey.png")
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((6, 8), 120 * 257, np.uint16))
    Image.new("CMYK", (8, 6), (0, 0, 0, 128)).save(tmp_path / "cmyk.jpg")
    frames = read_all(tmp_path)
    assert [frame.rgb.shape for frame in frames] == [(6, 8, 3)] * 4
    assert all(100 < frame.rgb[..., 0].mean() < 210 for frame in frames)


def test_a_lone_gif_plays(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in (0, 120, 240)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    frames = read_all(tmp_path / "a.gif")
    assert [round(int(frame.rgb[0, 0, 0]) / 120) for frame in frames] == [0, 1, 2]
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.1, 0.2], atol=0.01)
