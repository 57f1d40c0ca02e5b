"""Whatever is wrong with what a person gives: one sentence, the right exit code, nothing lost.

The parts have tests of their own for each kind of damage; here the whole command is held to it.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import onnx
import pytest

from engines.export import with_manifest
from engines.store import default_model
from realtime.people.gallery import Gallery
from realtime.people.reference import Reference
from tests.realtime.app.commands import Realtime, make_portrait_film, pictures, start, whole_lines
from tests.realtime.capture.films import make_film, make_sound
from tests.realtime.people.helpers import OTHER_MODEL
from tests.rtsp_server import Behaviour, RtspServer

QUICK = ("--no-window", "--set", "capture.timeout_s=0.5")

# -- sources ----------------------------------------------------------------------------------------------------------


def _missing(folder: Path) -> object:
    return folder / "nothing.mp4"


def _empty(folder: Path) -> object:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _text(folder: Path) -> object:
    (folder / "text.mp4").write_text("this is no video\n" * 20)
    return folder / "text.mp4"


def _truncated(folder: Path) -> object:
    film = make_film(folder / "whole.mp4", frames=30)
    (folder / "cut.mp4").write_bytes(film.read_bytes()[:1500])
    return folder / "cut.mp4"


def _no_frames(folder: Path) -> object:
    with av.open(str(folder / "none.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return folder / "none.mkv"


def _sound_only(folder: Path) -> object:
    return make_sound(folder / "song.m4a")


def _no_photos(folder: Path) -> object:
    (folder / "album").mkdir()
    return folder / "album"


def _refused(folder: Path) -> object:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"rtsp://ana:secret@127.0.0.1:{port}/cam"


SOURCES = (
    (_missing, "no such file or folder"),
    (_empty, "empty (0 bytes)"),
    (_text, "is a text file, not a video"),
    (_truncated, "cut off, damaged"),
    (_no_frames, "none.mkv: "),
    (_sound_only, "sound"),
    (_no_photos, "album"),
    (_refused, "rtsp://***@127.0.0.1"),
    (lambda _: "gopher://somewhere/cam", "gopher:// is not known"),
    (lambda _: "9999", "no camera 9999"),
    (lambda folder: folder / "*.avi", "matches no file"),
    (lambda _: "x" * 5000, "cannot be opened"),
)


@pytest.mark.parametrize(("make", "words"), SOURCES, ids=[words for _, words in SOURCES])
def test_a_source_that_cannot_be_used(
    realtime: Realtime, tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    before = tmp_path / "named.mp4"
    before.write_bytes(b"an older video")
    ran = realtime("--source", make(tmp_path), "--output", before, *QUICK)
    assert ran.code == 1
    assert words in ran.sentence
    assert ran.out == ""
    assert "secret" not in ran.err
    assert before.read_bytes() == b"an older video"
    assert not list(tmp_path.glob("*partial*"))


@contextmanager
def mute_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_camera_with_another_password_and_one_that_is_silent(
    realtime: Realtime, film: Path, people: Path, tmp_path: Path
) -> None:
    with RtspServer(film, Behaviour(password="right")) as camera:
        ran = realtime("--source", camera.with_user("ana", "wr0ng"), "--verbose", *QUICK)
    assert ran.code == 1
    assert "user name or password is wrong" in ran.sentence
    assert "wr0ng" not in ran.out + ran.err
    with mute_server() as port:
        ran = realtime("--source", f"rtsp://127.0.0.1:{port}/cam", *QUICK)
    assert ran.code == 1
    assert "no answer for 0.5 s" in ran.sentence


def test_one_bad_source_among_good_ones_is_said_before_anything_is_written(
    realtime: Realtime, film: Path, tmp_path: Path
) -> None:
    ran = realtime("--source", film, "--source", tmp_path / "no.mp4", "--output", tmp_path / "wall.mp4", *QUICK)
    assert ran.code == 1
    assert "no.mp4: no such file" in ran.sentence
    assert not (tmp_path / "wall.mp4").exists()


def _one_pixel(folder: Path) -> Path:
    return make_film(folder / "dot.mkv", width=1, height=1, frames=4, codec="ffv1", pix_fmt="bgr0", options={})


def _odd(folder: Path) -> Path:
    return make_film(folder / "odd.mkv", width=97, height=65, frames=4, codec="ffv1", pix_fmt="bgr0", options={})


def _grey(folder: Path) -> Path:
    return make_film(folder / "grey.mkv", frames=4, codec="ffv1", pix_fmt="gray", options={})


def _grey_16(folder: Path) -> Path:
    return make_film(folder / "grey16.mkv", frames=4, codec="ffv1", pix_fmt="gray16le", options={})


def _rgba(folder: Path) -> Path:
    return make_film(folder / "rgba.mov", frames=4, codec="png", pix_fmt="rgba", options={})


def _raw(folder: Path) -> Path:
    """A raw stream has no frame count: OpenCV gives a negative one."""
    return make_film(folder / "raw.h264", frames=4, container_format="h264")


def _wrong_suffix(folder: Path) -> Path:
    return Path(shutil.move(make_film(folder / "right.mp4", frames=4), folder / "right.jpg"))


def _eight_k(folder: Path) -> Path:
    return make_film(folder / "8k.mp4", width=7680, height=4320, frames=2)


@pytest.mark.parametrize(
    "make", [_one_pixel, _odd, _grey, _grey_16, _rgba, _raw, _wrong_suffix, _eight_k], ids=lambda f: f.__name__[1:]
)
def test_an_unusual_film_goes_all_the_way(
    realtime: Realtime, people: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    film = make(tmp_path)
    count = 2 if "8k" in film.name else 4
    out, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    ran = realtime("--source", film, "--gallery", people, "--output", out, "--output", lines, "--no-window")
    assert ran.code == 0
    assert "Traceback" not in ran.err
    assert [line["frame"] for line in whole_lines(lines)] == list(range(count))
    given, shown = pictures(film)[0], pictures(out)
    assert len(shown) == count
    assert shown[0].shape[:2] == tuple(side + side % 2 for side in given.shape[:2])


def test_a_film_cut_off_in_the_middle_gives_what_is_there(realtime: Realtime, tmp_path: Path) -> None:
    whole = make_portrait_film(tmp_path / "whole.mkv")
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ran = realtime("--source", tmp_path / "cut.mkv", "--output", tmp_path / "out.mp4", "--no-window")
    assert ran.code == 0
    assert 5 < len(pictures(tmp_path / "out.mp4")) < 40


# -- outputs ----------------------------------------------------------------------------------------------------------

OUTPUTS = (
    (("--output", "{}/no/named.mp4"), 1, "does not exist; make it first"),
    (("--output", "{}/no/named.jsonl"), 1, "does not exist; make it first"),
    (("--events", "{}/no/events.jsonl"), 1, "does not exist; make it first"),
    (("--output", "{}/folder.mp4"), 1, "is a folder; give a file name"),
    (("--output", "{}/folder.jsonl"), 1, "cannot be written"),
    (("--output", "{}/named.gif"), 2, "unknown kind of output .gif"),
    (("--output", "{}/named"), 2, "unknown kind of output without a suffix"),
    (("--output", "{}/a.mp4", "--output", "{}/./a.mp4"), 2, "given as an output twice"),
    (("--output", "{}/a.jsonl", "--events", "{}/a.jsonl"), 2, "given as an output twice"),
    (("--output", "-", "--output", "-"), 2, "given as an output twice"),
    (("--output", "{}/clip.mp4"), 1, "is what is read from"),
    (("--events", "{}/link.mp4"), 1, "is what is read from"),
    (("--events", "{}/people.sqlite", "--gallery", "{}/people.sqlite"), 1, "is what is read from"),
    (("--output", "{}/" + "x" * 300 + ".mp4"), 1, "File name too long"),
    (("--output", "{}/" + "x" * 250 + ".mp4"), 1, "File name too long"),
)


@pytest.mark.parametrize(("options", "code", "words"), OUTPUTS, ids=range(len(OUTPUTS)))
def test_an_output_that_cannot_be_written(
    realtime: Realtime, film: Path, people: Path, tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    for name in ("folder.mp4", "folder.jsonl"):
        (tmp_path / name).mkdir()
    clip = Path(shutil.copy(film, tmp_path / "clip.mp4"))
    (tmp_path / "link.mp4").symlink_to(clip)
    before = {path.name: path.read_bytes() for path in (clip, people)}
    ran = realtime("--source", clip, "--no-window", *(option.format(tmp_path) for option in options))
    assert ran.code == code
    assert words in ran.sentence
    assert before == {path.name: path.read_bytes() for path in (clip, people)}
    assert sorted(path.name for path in tmp_path.glob("*partial*")) == []


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_full_disk_ends_the_run_and_keeps_what_was_written(film: Path, people: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "named.mp4", tmp_path / "named.jsonl"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    arguments = ("--source", film, "--gallery", people, "--no-window", "--output", out, "--output", lines)
    arguments += ("--set", "capture.loop=true")  # without an end: it is the disk that ends it
    with start(tmp_path, *arguments, preexec_fn=little_room) as running:
        ran = running.end()
    assert ran.code == 1
    assert "named.mp4: the file is larger than is allowed; what was written before is in" in ran.sentence
    assert not out.exists()
    with av.open(str(tmp_path / "named.partial.mp4")) as container:
        assert next(container.decode(video=0)).width == 640
    assert whole_lines(lines)
    with Gallery.open(people, create=False) as opened:
        assert len(opened.people()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("gallery", "list", "--json", "--gallery", "{}"), ("--source", "{}", "--output", "-")],
    ids=lambda arguments: arguments[0],
)
def test_a_full_disk_behind_standard_output(
    film: Path, people: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    given = [argument.format(film if "--source" in arguments else people) for argument in arguments]
    with open("/dev/full", "wb") as full, start(tmp_path, *given, stdout=full) as running:  # noqa: PTH123
        ran = running.end()
    assert ran.code == 1
    assert ran.sentence.startswith("standard output: ")


# -- galleries --------------------------------------------------------------------------------------------------------


def _no_gallery(path: Path) -> None:
    path.unlink()


def _folder_gallery(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _text_gallery(path: Path) -> None:
    path.write_text("people: ana, bob\n" * 300)


def _damaged_gallery(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


def _future_gallery(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _foreign_gallery(path: Path) -> None:
    path.unlink()
    embedding_D = np.array([1, 0, 0, 0], np.float32)
    reference = Reference(embedding_D=embedding_D, photo_sha256="a" * 64, source="a.jpg", quality=0.5)
    with Gallery.open(path, OTHER_MODEL) as opened:
        opened.add("Ana", [reference])


GALLERIES = (
    (_no_gallery, "no such gallery; enrol somebody first"),
    (_folder_gallery, "is a folder; --gallery takes a file"),
    (_text_gallery, "is not a gallery"),
    (_damaged_gallery, "is damaged; restore it from a backup"),
    (_future_gallery, "written by a newer version of realtime"),
    (_foreign_gallery, "realtime gallery reembed"),
)


@pytest.mark.parametrize(("spoil", "words"), GALLERIES, ids=[spoil.__name__[1:] for spoil, _ in GALLERIES])
def test_a_gallery_that_cannot_be_used(
    realtime: Realtime, film: Path, people: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(people)
    before = people.read_bytes() if people.is_file() else b""
    out = tmp_path / "named.mp4"
    ran = realtime("--source", film, "--gallery", people, "--output", out, "--no-window")
    assert ran.code == 1
    assert words in ran.sentence
    assert not out.exists()
    assert before == (people.read_bytes() if people.is_file() else b"")


def test_a_gallery_that_another_program_holds_is_waited_for_and_then_said(
    realtime: Realtime, film: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Gallery.open.__func__.__kwdefaults__, "busy_timeout_s", 0.2)  # type: ignore[attr-defined]
    connection = sqlite3.connect(people, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("UPDATE people SET name = name")
    try:
        ran = realtime("--source", film, "--gallery", people, "--no-window")
    finally:
        connection.close()
    assert ran.code == 1
    assert "another program" in ran.sentence


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_gallery_that_may_only_be_read_still_names_people(realtime: Realtime, film: Path, people: Path) -> None:
    people.chmod(0o400)
    ran = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
    assert ran.code == 0
    assert ran.lines[-1]["faces"][0]["name"] == "Eileen"


# -- settings and usage -----------------------------------------------------------------------------------------------

USAGE = (
    (("--bogus",), "No such option"),
    (("--source",), "requires an argument"),
    (("bogus",), "No such command 'bogus'; see `realtime --help`"),
    (("enroll",), "give photos, or a camera with --source"),
    (("gallery", "bogus"), "see `realtime gallery --help`"),
    (("gallery", "rename", "Ana"), "see `realtime gallery rename --help`"),
    (("--set", "detect.evry=3"), "unknown key 'evry'; did you mean 'every'?"),
    (("--set", "detect"), "expected section.key=value"),
    (("--set", "detect.every=often"), "detect.every"),
    (("--set", "capture.timeout_s=5 s"), "write the number alone, it is in seconds"),
    (("--config", "nonsense"), "no such configuration file; the presets are"),
    (("--config", "{}/my.yaml"), "my.yaml: detect: unknown key 'min_face'"),
)


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=range(len(USAGE)))
def test_wrong_usage(realtime: Realtime, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "my.yaml").write_text("detect:\n  min_face: 60\n")
    ran = realtime(*(argument.format(tmp_path) for argument in arguments))
    assert ran.code == 2
    assert words in ran.sentence
    assert ran.out == ""


def test_a_file_in_the_place_of_a_command_is_understood(
    realtime: Realtime, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(film.parent)
    ran = realtime("clip.mp4")
    assert ran.code == 2
    assert "`realtime --source clip.mp4`" in ran.sentence


def test_a_group_of_commands_alone_shows_its_help(realtime: Realtime) -> None:
    ran = realtime("gallery")
    assert ran.code == 2
    assert "Usage: realtime gallery" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("early", [("--gallery", "work.sqlite"), ("--set", "detect.every=3"), ("--config", "light")])
def test_an_option_before_the_command_is_not_swallowed(realtime: Realtime, early: tuple[str, str]) -> None:
    """Else `realtime --gallery work.sqlite gallery remove Ana` would take Ana out of the user's own gallery."""
    ran = realtime(*early, "gallery", "list")
    assert ran.code == 2
    assert f"{early[0]}" in ran.sentence
    assert "after the command" in ran.sentence


def test_a_model_for_faces_that_are_aligned_otherwise_is_refused(
    realtime: Realtime, film: Path, tmp_path: Path
) -> None:
    embedded = default_model()
    file = tmp_path / "model.onnx"
    file.write_bytes(with_manifest(onnx.load_from_string(embedded.content), replace(embedded.manifest, template="x_9")))
    ran = realtime("--source", film, "--no-window", "--set", f"embed.model={file}")
    assert ran.code == 1
    assert "made for faces aligned to 'x_9'" in ran.sentence
