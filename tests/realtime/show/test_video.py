"""Videos are read back with FFmpeg: what was shown when, with what sound, and what is left after an accident."""

import contextlib
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from realtime.errors import OutputError, SettingsError
from realtime.settings import ShowSettings
from realtime.show import video
from realtime.show.partial import check
from realtime.show.video import VideoOutput, fitted, output_kind
from tests.realtime.show.samples import film, portrait

FAST = ShowSettings(preset="ultrafast", crf=18)
SUFFIXES = pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])


def flat(value: int, width: int = 64, height: int = 48) -> Any:
    return np.full((height, width, 3), value, np.uint8)


def pictures(path: Path) -> list[tuple[float, Any]]:
    """(seconds, RGB) of every frame."""
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def sound(path: Path) -> tuple[str, float, Any]:
    """Codec, start in seconds and samples of the first channel."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        wave = np.concatenate([frame.to_ndarray().astype(np.float64).reshape(-1) for frame in frames])
        return stream.codec.canonical_name, float(frames[0].time), wave


def write(path: Path, times: list[float], **more: Any) -> Path:
    out = VideoOutput(path, FAST, **more)
    for number, at in enumerate(times):
        out.write(flat(20 + number * 4), at)
    out.close()
    return path


@SUFFIXES
def test_every_frame_is_there_in_order_and_nothing_else_is(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"out{suffix}", [number / 25 for number in range(40)], fps=25)
    read = pictures(path)
    assert len(read) == 40
    assert [abs(float(rgb.mean()) - 20 - 4 * number) < 3 for number, (_, rgb) in enumerate(read)] == [True] * 40
    steps = np.diff([at for at, _ in read])
    assert steps == pytest.approx([1 / 25] * 39, abs=0.002)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec.name == "h264"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_keep_their_own_times(tmp_path: Path, suffix: str) -> None:
    times = [0.0, 0.04, 0.05, 0.3, 0.31, 2.5, 2.52]
    read = pictures(write(tmp_path / f"out{suffix}", times, fps=25))
    assert [at for at, _ in read] == pytest.approx(times, abs=0.002)


def test_avi_has_a_constant_rate_so_holes_are_filled(tmp_path: Path) -> None:
    read = pictures(write(tmp_path / "out.avi", [0.0, 0.1, 0.5, 0.52, 0.6], fps=10))
    values = [round((float(rgb.mean()) - 20) / 4) for _, rgb in read]
    assert values == [0, 1, 2, 2, 2, 2, 4]


def test_an_hour_without_pictures_does_not_stop_an_avi(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read = pictures(write(tmp_path / "out.avi", [0.0, 3600.0, 3600.5], fps=2))
    assert len(read) == 1 + video.MAX_FILLED_S * 2 + 1 + 1
    assert "a pause of 3600 s is shortened to 60 s" in caplog.text


@pytest.mark.parametrize("times", [[0.0, 0.0, 0.0], [5.0, 1.0, 1.1], [0.0, float("nan"), -3.0]])
def test_times_that_do_not_grow_are_moved_on(tmp_path: Path, times: list[float]) -> None:
    read = [at for at, _ in pictures(write(tmp_path / "out.mkv", times, fps=25))]
    assert len(read) == 3
    assert all(step > 0 for step in np.diff(read))


def test_a_picture_is_upright_and_has_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    out = VideoOutput(path, FAST, fps=25)
    for number in range(5):
        out.write(portrait(), number / 25)
    out.close()
    read = pictures(path)[2][1].astype(int)
    small = cv2.resize(read.astype(np.uint8), (64, 64), interpolation=cv2.INTER_AREA).astype(int)
    expected = cv2.resize(portrait(), (64, 64), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - expected).mean() < 4
    for colour in ((255, 0, 0), (0, 200, 140), (255, 120, 40)):
        plain = VideoOutput(tmp_path / "colour.mp4", FAST)
        plain.write(np.full((48, 64, 3), colour, np.uint8), 0)
        plain.close()
        assert np.abs(pictures(tmp_path / "colour.mp4")[0][1].mean(axis=(0, 1)) - colour).max() < 8


@SUFFIXES
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (65, 49), (17, 200)])
def test_odd_sizes_grow_by_a_pixel(tmp_path: Path, suffix: str, width: int, height: int) -> None:
    path = tmp_path / f"out{suffix}"
    out = VideoOutput(path, FAST, fps=25)
    for number in range(3):
        out.write(flat(200, width, height), number / 25)
    out.close()
    read = pictures(path)
    assert len(read) == 3
    assert read[0][1].shape == (height + height % 2, width + width % 2, 3)
    assert abs(float(read[0][1].mean()) - 200) < 4, "the pixel repeats the edge"


def test_another_size_is_letterboxed_into_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    out = VideoOutput(path, FAST, fps=25)
    for number, size in enumerate([(64, 48), (48, 96), (640, 480), (1, 300)]):
        out.write(flat(200, *size), number / 25)
    out.close()
    read = [rgb for _, rgb in pictures(path)]
    assert {rgb.shape for rgb in read} == {(48, 64, 3)}
    assert read[1][24, 32].mean() > 190
    assert read[1][24, 4].mean() < 10, "black beside an upright picture"
    assert read[2].mean() > 195
    assert fitted(flat(9, 64, 48), 64, 48).base is None


def test_a_finished_mp4_has_its_index_first(tmp_path: Path) -> None:
    data = write(tmp_path / "out.mp4", [number / 25 for number in range(30)], fps=25).read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    assert b"moof" not in data


@SUFFIXES
@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "pcm_s16le", "libopus"])
def test_the_sound_goes_along(tmp_path: Path, suffix: str, codec: str) -> None:
    source = film(tmp_path / "source.mkv", codec=codec)
    path = write(tmp_path / f"out{suffix}", [number / 25 for number in range(40)], fps=25, audio_from=source)
    kind, start_s, wave = sound(path)
    name = {"libmp3lame": "mp3", "libopus": "opus"}.get(codec, codec)
    assert kind == (name if name in video_takes(suffix) else {".avi": "mp3"}.get(suffix, "aac"))
    assert abs(start_s) < 0.1
    assert len(pictures(path)) == 40
    spectrum = np.abs(np.fft.rfft(wave[9600:57600]))
    assert np.abs(wave).max() > 0
    assert spectrum.argmax() in range(int(440 * 0.45), int(440 * 2.1)), "it is still the tone"
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        seconds = sum(frame.samples for frame in container.decode(stream)) / stream.rate
    assert 1.4 < seconds < 1.8, "up to the last frame that was written, and no further"


def video_takes(suffix: str) -> frozenset[str]:
    from realtime.show.audio import COPIED

    return COPIED[suffix]


def test_the_sound_of_an_aac_file_is_copied_bit_for_bit(tmp_path: Path) -> None:
    source = film(tmp_path / "source.mp4")

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    made = packets(write(tmp_path / "out.mp4", [number / 25 for number in range(30)], fps=25, audio_from=source))
    given = packets(source)
    assert len(made) > 40
    assert b"".join(made) in b"".join(given)


def test_a_silent_or_unreadable_source_gives_a_silent_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    silent = write(tmp_path / "silent.mp4", [0.0, 0.04])
    for source in (silent, tmp_path / "missing.mp4"):
        path = write(tmp_path / "out.mp4", [0.0, 0.04], audio_from=source)
        with av.open(str(path)) as container:
            assert not container.streams.audio
    assert "the audio of missing.mp4 is left out" in caplog.text
    assert "silent.mp4" not in caplog.text


def test_an_existing_video_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "out.mp4", [0.0, 0.04, 0.08])
    before = path.read_bytes()
    out = VideoOutput(path, FAST)
    out.write(flat(9), 0)
    assert path.read_bytes() == before
    monkeypatch.setattr(video, "check", lambda _: (_ for _ in ()).throw(OSError(5, "no picture")))
    with pytest.raises(OutputError, match=r"out\.mp4: .*what was written before is in .*out\.partial\.mp4"):
        out.close()
    assert path.read_bytes() == before
    check(tmp_path / "out.partial.mp4")


def test_without_frames_nothing_is_written_and_nothing_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "out.mp4", [0.0])
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        VideoOutput(path, FAST).close()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    assert "no frame came" in caplog.text


def test_what_a_killed_run_left_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out.partial.mp4").write_bytes(b"treasure")
    path = write(tmp_path / "out.mp4", [0.0, 0.04])
    assert (tmp_path / "out.partial.mp4").read_bytes() == b"treasure"
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, "out.partial.mp4"}


def test_closing_twice_is_once_and_writing_after_it_an_error(tmp_path: Path) -> None:
    out = VideoOutput(tmp_path / "out.mp4", FAST)
    out.write(flat(9), 0)
    out.close()
    out.close()
    with pytest.raises(OutputError, match="is closed"):
        out.write(flat(9), 1)


def test_where_it_cannot_be_written_is_said_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*nowhere; make it or choose another"):
        VideoOutput(tmp_path / "nowhere" / "out.mp4", FAST)
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    with pytest.raises(OutputError, match="is a folder; give a file name"):
        VideoOutput(folder, FAST)
    source = film(tmp_path / "clip.mp4", seconds=1)
    with pytest.raises(OutputError, match="is the source itself"):
        VideoOutput(source, FAST, audio_from=source)


def test_the_suffix_says_what_is_written() -> None:
    assert [output_kind(name) for name in ("a.mp4", Path("b.MKV"), "c.avi", "d.jsonl", "-")] == ["video"] * 3 + [
        "frames"
    ] * 2
    for name in ("a.gif", "named", "x.json"):
        with pytest.raises(SettingsError, match=r"video is \.mp4, \.mkv, \.avi, one line a frame is \.jsonl"):
            output_kind(name)
    with pytest.raises(SettingsError):
        VideoOutput(Path("a.jsonl"), FAST)


BEGIN = """
import resource, sys
from pathlib import Path
import numpy as np
from realtime.errors import OutputError
from realtime.settings import ShowSettings
from realtime.show.video import VideoOutput
noise = np.random.default_rng(1)
out = VideoOutput(Path(sys.argv[1]), ShowSettings(preset="ultrafast"), fps=25)
def go(frames):
    for n in range(frames):
        out.write(noise.integers(0, 255, (120, 160, 3), dtype=np.uint8), n / 25)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
@SUFFIXES
def test_after_a_kill_the_partial_file_plays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    partial = tmp_path / f"out.partial{suffix}"
    writer = subprocess.Popen([sys.executable, "-c", BEGIN + "go(1000000)", str(path)])
    deadline = time.monotonic() + 60
    while (not partial.exists() or partial.stat().st_size < 3_000_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert not path.exists()
    assert len(pictures_until_torn(partial)) > 50


def pictures_until_torn(path: Path) -> list[float]:
    times = []
    with av.open(str(path)) as container, contextlib.suppress(av.InvalidDataError):  # the packet that was cut off
        for frame in container.decode(video=0):
            times.append(frame.time)
    return times


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are Unix's")
@SUFFIXES
@pytest.mark.parametrize("room", [200, 3_000_000])
def test_a_full_disk_is_a_sentence_and_what_was_written_plays(tmp_path: Path, suffix: str, room: int) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"older")
    code = BEGIN + f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
    code += "try:\n    go(1000)\nexcept OutputError as err: print(err)\nelse: print('no error')\nout.close()\n"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert f"out{suffix}: the file is larger than is allowed; what was written before is in " in done.stdout
    assert path.read_bytes() == b"older"
    if room > 1_000_000:
        assert len(pictures_until_torn(tmp_path / f"out.partial{suffix}")) > 10


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are Unix's")
def test_without_room_for_a_second_copy_the_fragments_are_the_video(tmp_path: Path, monkeypatch: Any) -> None:
    def full(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "remux", full)
    path = write(tmp_path / "out.mp4", [number / 25 for number in range(30)], fps=25)
    assert len(pictures(path)) == 30
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
