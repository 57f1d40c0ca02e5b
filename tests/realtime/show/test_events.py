"""Lines are whole, true to their schemas and to the records; events come once."""

import importlib.resources
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.errors import OutputError
from realtime.records import Event
from realtime.show.events import EventsOutput, EventTracker, FramesOutput, event_record, frame_record
from realtime.show.lines import Lines, finite
from tests.realtime.show.samples import result, seen


def schema(name: str) -> Any:
    text = (importlib.resources.files("realtime.show") / "schemas" / f"{name}.schema.json").read_text("utf-8")
    loaded = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(loaded)
    return jsonschema.Draft202012Validator(loaded)


FRAME, EVENT = schema("frame"), schema("event")
NAN = float("nan")


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_a_frames_line_is_as_the_specification_has_it(tmp_path: Path) -> None:
    out = FramesOutput(tmp_path / "a.jsonl")
    out.write(result(3, seen(5, (1.04, 2, 3.26, 4), name="김민준", second_distance=None), seen(6, state="pending")))
    out.write(result(4))
    out.close()
    out.close()
    first, second = lines(tmp_path / "a.jsonl")
    assert first == {
        "source": "door",
        "frame": 3,
        "time_s": 0.1,
        "latency_ms": 12.3,
        "faces": [
            {
                "track": 5,
                "box": [1.0, 2.0, 3.3, 4.0],
                "state": "named",
                "name": "김민준",
                "distance": 0.12,
                "second_distance": None,
                "detector_score": 1.5,
            },
            {
                "track": 6,
                "box": [170.0, 70.0, 280.0, 190.0],
                "state": "pending",
                "name": None,
                "distance": 0.12,
                "second_distance": 0.4,
                "detector_score": 1.5,
            },
        ],
    }
    assert second["faces"] == []
    assert "김민준" in (tmp_path / "a.jsonl").read_text("utf-8"), "letters are not escaped"


distances = (
    st.none() | st.floats(0, 4) | st.sampled_from([NAN, float("inf")]) | st.floats(0, 4, width=32).map(np.float32)
)


@settings(max_examples=100, deadline=None)
@given(
    box=st.tuples(*[st.floats(-1e4, 1e4)] * 4),
    name=st.none() | st.text(st.characters(), max_size=20),
    distance=distances,
    score=st.floats(allow_nan=True, allow_infinity=True),
    source=st.text(st.characters(), max_size=20),
    latency=st.sampled_from([0.0, 12.5, NAN]),
)
def test_any_result_makes_a_line_of_its_schema(
    box: Any, name: str | None, distance: Any, score: float, source: str, latency: float, tmp_path_factory: Any
) -> None:
    face = seen(1, box, name=name, distance=distance, second_distance=distance, detector_score=score)
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    out = FramesOutput(path)
    out.write(result(0, face, source=source, latency_ms=latency))
    out.close()
    data = path.read_bytes()
    assert data.count(b"\n") == 1
    record = json.loads(data.decode("utf-8"), parse_constant=pytest.fail)
    FRAME.validate(record)


@pytest.mark.parametrize(
    "change",
    [{"state": "named"}, {"state": "lost"}, {"box": [1, 2, 3]}, {"distance": -1}, {"extra": 1}],
    ids=lambda change: next(iter(change)) + str(next(iter(change.values()))),
)
def test_the_schema_refuses_what_is_not_a_face(change: dict[str, Any]) -> None:
    record = frame_record(result(0, seen()))
    FRAME.validate(finite(record))
    record["faces"][0].update(change)
    with pytest.raises(jsonschema.ValidationError):
        FRAME.validate(record)


def test_frames_replace_and_events_follow_what_is_there(tmp_path: Path) -> None:
    frames, events = tmp_path / "f.jsonl", tmp_path / "e.jsonl"
    frames.write_text("old\n")
    events.write_text('{"torn": ', "utf-8")
    for number in range(2):
        one, two = FramesOutput(frames), EventsOutput(events)
        if number == 0:
            assert frames.read_text() == "old\n", "nothing is lost before there is something new"
        one.write(result(number))
        two.write(Event(event="left", source="a", track=1, name=None, frame=number, time_s=0.5, distance=NAN))
        one.close()
        two.close()
    assert [line["frame"] for line in lines(frames)] == [1]
    torn, *whole = events.read_text("utf-8").splitlines()
    assert torn == '{"torn": '
    assert [json.loads(line)["frame"] for line in whole] == [0, 1]
    EVENT.validate(json.loads(whole[0]))
    assert json.loads(whole[0])["distance"] is None


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*nowhere; make it"):
        FramesOutput(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(OutputError, match="cannot be written"):
        EventsOutput(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_a_sentence() -> None:
    for append in (True, False):
        out = Lines("/dev/full", append=append)
        with pytest.raises(OutputError, match="the disk is full; the lines before are whole"):
            out.write({"n": 1})
        out.close()


def child(code: str, **more: Any) -> subprocess.Popen[bytes]:
    begin = "from realtime.show.lines import Lines; import resource, signal, sys\n"
    return subprocess.Popen([sys.executable, "-c", begin + code], stderr=subprocess.PIPE, **more)


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits and SIGKILL are Unix's")
def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"out = Lines({str(path)!r}, append=True)\n"
        "for n in range(99): out.write({'n': n, 'text': 'x' * 20})\n"
    )
    failed = child(code)
    _, errors = failed.communicate()
    assert b"OutputError" in errors
    assert b"the file is larger than is allowed; the lines before are whole" in errors
    assert [line["n"] for line in lines(path)] == [0, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
def test_lines_are_whole_when_the_program_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    writer = child(f"out = Lines({str(path)!r}, append=True)\nwhile True: out.write({{'text': 'x' * 3000}})\n")
    deadline = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    *whole, torn = path.read_text("utf-8").split("\n")  # the kernel may stop a killed write between two pages
    assert len(whole) > 30
    assert all(json.loads(line) == {"text": "x" * 3000} for line in whole)
    out = Lines(path, append=True)
    out.write({"text": "after"})
    out.close()
    assert json.loads(path.read_text("utf-8").splitlines()[-1]) == {"text": "after"}
    assert len(torn) < 3020


def test_standard_output_and_a_reader_that_goes_away() -> None:
    reader = child("out = Lines('-', append=False)\nout.write({'name': '한글'})\nout.close()\n", stdout=subprocess.PIPE)
    output, _ = reader.communicate()
    assert output.decode("utf-8") == '{"name": "한글"}\n'
    code = "out = Lines('-', append=False)\nwhile True: out.write({'n': 1})\n"
    writer = child(code, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.readline()
    writer.stdout.close()
    assert b"standard output: nobody reads it any more" in writer.stderr.read()
    writer.stderr.close()
    assert writer.wait() == 1


def test_a_closed_file_takes_no_lines(tmp_path: Path) -> None:
    out = Lines(tmp_path / "a.jsonl", append=True)
    out.close()
    with pytest.raises(OutputError, match="is closed"):
        out.write({})


def play(*frames: list[Any], left_after_s: float = 0.0) -> list[tuple[str, int, str | None, int]]:
    """Events as (event, track, name, frame) of a source with these sightings, and its end."""
    tracker = EventTracker(left_after_s=left_after_s)
    found = [event for index, faces in enumerate(frames) for event in tracker.update(result(index, *faces))]
    found += tracker.finish("door")
    assert tracker.finish("door") == []
    for event in found:
        EVENT.validate(event_record(event))
    return [(event.event, event.track, event.name, event.frame) for event in found]


def test_a_face_appears_is_named_renamed_and_leaves() -> None:
    ana, bea, nobody = seen(1, name="Ana"), seen(1, name="Bea"), seen(1)
    assert play([seen(1, state="pending")], [nobody], [ana], [ana], [bea], [nobody], [nobody], []) == [
        ("appeared", 1, None, 0),
        ("named", 1, "Ana", 2),
        ("renamed", 1, "Bea", 4),
        ("renamed", 1, None, 5),
        ("left", 1, None, 6),
    ]


def test_a_face_named_at_first_sight_appears_first() -> None:
    assert play([seen(1, name="Ana")]) == [("appeared", 1, None, 0), ("named", 1, "Ana", 0), ("left", 1, "Ana", 0)]


def test_being_verified_again_is_no_event() -> None:
    again = [seen(1, state="pending")]
    frames = [[seen(1, name="Ana")], again, again, [seen(1, name="Ana")], again]
    assert play(*frames) == [("appeared", 1, None, 0), ("named", 1, "Ana", 0), ("left", 1, "Ana", 4)]


def test_another_name_after_pending_is_renamed() -> None:
    frames = [[seen(1, name="Ana")], [seen(1, state="pending")], [seen(1, name="Bea")]]
    assert play(*frames)[2] == ("renamed", 1, "Bea", 2)


def test_a_face_that_blinks_has_not_left() -> None:
    face = [seen(1)]
    blink: list[Any] = []
    assert play(face, *[blink] * 10, face, left_after_s=0.5) == [("appeared", 1, None, 0), ("left", 1, None, 11)]
    assert play(face, *[blink] * 20, left_after_s=0.5) == [("appeared", 1, None, 0), ("left", 1, None, 0)]


def test_sources_do_not_mix() -> None:
    tracker = EventTracker(left_after_s=0)
    tracker.update(result(0, seen(1), source="a"))
    assert [event.event for event in tracker.update(result(0, seen(1), source="b"))] == ["appeared"]
    assert tracker.update(result(1, seen(1), source="a")) == []
    assert [event.source for event in tracker.finish("b")] == ["b"]


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from(["Ana", "Bea", "?", ""])), max_size=3, unique_by=lambda f: f[0]
        ),
        max_size=12,
    )
)
def test_every_track_has_one_consistent_story(frames: list[list[tuple[int, str]]]) -> None:
    def face(track: int, what: str) -> Any:
        return seen(track, name=what) if what.isalpha() else seen(track, state="pending" if what == "?" else "unknown")

    told: dict[int, list[tuple[str, str | None]]] = {}
    for kind, track, name, _frame in play(*[[face(*one) for one in faces] for faces in frames], left_after_s=99):
        told.setdefault(track, []).append((kind, name))
    assert set(told) == {track for faces in frames for track, _ in faces}
    for story in told.values():
        assert story[0] == ("appeared", None)
        assert story[-1][0] == "left"
        assert story[-1][1] == story[-2][1], "who left is who was there"
        names = [name for _, name in story[:-1]]
        assert all(before != after for before, after in itertools.pairwise(names))
        kinds = [kind for kind, _ in story[1:-1]]
        for kind, before in zip(kinds, names, strict=False):
            assert kind == ("named" if before is None else "renamed")
