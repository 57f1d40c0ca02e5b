"""From a source to a set: what is written, that it is the same however it came about, and what is refused."""

from __future__ import annotations

import filecmp
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn_source import DrawnSource
from train.errors import ConfigError, DataError, TrainError
from train.prepared import MANIFEST, open_prepared
from train.preparing.place import GROWING, LOCK, NOTES, STATE
from train.preparing.plan import Wishes
from train.preparing.report import report_text
from train.preparing.run import prepare
from train.source import Taken

ROOT = Path(__file__).resolve().parents[2]


def same(first: Path, second: Path) -> bool:
    """Whether two folders hold the same files, byte by byte."""
    names = sorted(path.name for path in first.iterdir())
    if names != sorted(path.name for path in second.iterdir()):
        return False
    return filecmp.cmpfiles(first, second, names, shallow=False)[0] == names


def killed_while_writing(source: str, out: Path, send: int, *, workers: int = 2, notes: int = 5) -> tuple[int, str]:
    """Start ``prepare`` in a process, send it a signal when some notes are written, and give exit code and stderr."""
    program = f"""
from pathlib import Path
from tests.train.drawn_source import DrawnSource
from train.preparing.run import prepare
if __name__ == "__main__":
    prepare({source}, Path({str(out)!r}), workers={workers})
"""
    script = out.parent / "program.py"
    script.write_text(program, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not ((out / NOTES).exists() and (out / NOTES).read_bytes().count(b"\n") >= notes):
        time.sleep(0.01)
    process.send_signal(send)
    _, errors = process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while processes_of(process.pid):  # its workers notice within a moment
        assert time.monotonic() < deadline, "a worker outlives the process that it works for"
        time.sleep(0.05)
    return process.returncode, errors


def processes_of(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class TestWritten:
    def test_a_set_opens_and_holds_each_crop_under_its_name_and_label(self, tmp_path: Path) -> None:
        source = DrawnSource(people=5, images=4)
        prepare(source, tmp_path / "set", Wishes(split="people", val_people=2, seed=3), workers=0)
        found = open_prepared(tmp_path / "set")
        assert found.val is not None
        assert (len(found.train), len(found.val)) == (12, 8)
        reader, item_named = source.open(), {item.name: place for place, item in enumerate(source.items)}
        for split in (found.train, found.val):
            for crop, label, name in zip(split.crops_NSS3, split.labels_N, split.names, strict=True):
                taken = reader.take(item_named[name])
                assert isinstance(taken, Taken)
                assert (crop == taken.crop_SS3).all()
                assert split.subjects[label] == name.partition("/")[0]
        assert not set(found.train.subjects) & set(found.val.subjects)
        assert not any((tmp_path / "set" / name).exists() for name in (STATE, GROWING, NOTES, LOCK))

    def test_processes_write_what_one_writes(self, tmp_path: Path) -> None:
        source = DrawnSource(people=7, images=70, wrong={3: "no face", 200: "again", 40: "shared", 300: "shared"})
        for workers in (0, 3):
            prepare(source, tmp_path / str(workers), Wishes(split="people", val_people=2), workers=workers)
        assert same(tmp_path / "0", tmp_path / "3")

    def test_every_image_is_a_row_or_named_with_its_reason(self, tmp_path: Path) -> None:
        wrong = {1: "no face", 7: "again", 11: "shared", 16: "shared", 5: "no face"}
        source = DrawnSource(wrong=wrong, refused={"p009/001.jpg": "missing in its zip"}, expected=21)
        report = prepare(source, tmp_path / "set", workers=0)
        found = open_prepared(tmp_path / "set")
        lines = (tmp_path / "set" / "refused.jsonl").read_text(encoding="ascii").splitlines()
        reasons = {value["name"]: value["reason"] for value in map(json.loads, lines)}
        assert {*found.train.names, *reasons} == {"p009/001.jpg", *(item.name for item in source.items)}
        assert len(found.train) + len(reasons) == 21
        assert reasons["p001/002.jpg"] == "the same file as another image of this person (p001/001.jpg)"
        assert reasons["p002/001.jpg"] == "the same file is in the set as another person's image (p003/001.jpg)"
        assert reasons["p003/001.jpg"] == "the same file is in the set as another person's image (p002/001.jpg)"
        assert report.expected == 21 == report.train_rows + report.refused
        text = report_text(report)
        assert "21 = 15 crops + 6 refused" in text
        assert "WARNING" in text
        assert "p002/001.jpg" in text
        assert "p003/001.jpg" in text

    def test_people_with_too_few_usable_images_are_left_out_and_named(self, tmp_path: Path) -> None:
        source = DrawnSource(people=4, images=3, wrong={3: "no face", 7: "again", 9: "no face", 10: "no face"})
        report = prepare(source, tmp_path / "set", Wishes(min_images=2), workers=0)
        assert report.people_left_out == {"p003": 1}
        assert open_prepared(tmp_path / "set").train.subjects == ("p000", "p001", "p002")
        assert "p003 (1)" in report_text(report)

    def test_a_single_image_a_person_is_said(self, tmp_path: Path) -> None:
        text = report_text(prepare(DrawnSource(images=1), tmp_path / "set", workers=0))
        assert "every person has one crop" in text
        text = report_text(prepare(DrawnSource(images=2, wrong={0: "no face"}), tmp_path / "two", workers=0))
        assert "1 person to train on with one crop only; --min-images 2" in text

    def test_names_that_no_terminal_can_show(self, tmp_path: Path) -> None:
        source = DrawnSource(subjects=("\x1b[31mred", "a\nb", "김철수", "𝕏"), wrong={0: "no face", 5: "no face"})
        text = report_text(prepare(source, tmp_path / "set", workers=0))
        assert "\x1b" not in text
        assert r"a\nb/000.jpg" in text
        assert open_prepared(tmp_path / "set").train.subjects == source.subjects

    def test_progress_counts_every_image_and_goes_on_where_it_was(self, tmp_path: Path) -> None:
        told: list[tuple[int, int]] = []
        with pytest.raises(DataError, match="put it back"):
            prepare(
                DrawnSource(wrong={9: "lost"}), tmp_path / "set", workers=0, progress=lambda *both: told.append(both)
            )
        assert told == [(done, 20) for done in range(1, 6)]
        prepare(DrawnSource(), tmp_path / "set", workers=0, progress=lambda *both: told.append(both))
        assert told == [(done, 20) for done in range(1, 21)]


class TestInterrupted:
    @pytest.mark.parametrize(("crops", "notes"), [(0, 0), (500, 2000), (3000, 300), (3000, 1)])
    def test_cut_anywhere_it_goes_on_to_the_same_bytes(self, tmp_path: Path, crops: int, notes: int) -> None:
        whole, out = tmp_path / "whole", tmp_path / "cut"
        prepare(DrawnSource(wrong={4: "no face", 13: "again"}), whole, workers=0)
        with pytest.raises(DataError, match="put it back"):
            prepare(DrawnSource(wrong={4: "no face", 13: "again", 19: "lost"}), out, workers=0)
        os.truncate(out / GROWING, crops)
        os.truncate(out / NOTES, min(notes, (out / NOTES).stat().st_size))
        prepare(DrawnSource(wrong={4: "no face", 13: "again"}), out, workers=0)
        assert same(whole, out)

    def test_killed_it_goes_on_to_the_same_bytes_and_no_worker_is_left(self, tmp_path: Path) -> None:
        source = "DrawnSource(people=6, images=40, slow_s=0.01)"
        code, _ = killed_while_writing(source, tmp_path / "cut", signal.SIGKILL, notes=40)
        assert code == -signal.SIGKILL
        assert not (tmp_path / "cut" / MANIFEST).exists()
        prepare(DrawnSource(people=6, images=40), tmp_path / "cut", workers=2)
        prepare(DrawnSource(people=6, images=40), tmp_path / "whole", workers=0)
        assert same(tmp_path / "cut", tmp_path / "whole")

    def test_ctrl_c_leaves_a_folder_that_can_be_gone_on_with(self, tmp_path: Path) -> None:
        source = "DrawnSource(people=6, images=40, slow_s=0.01)"
        _, errors = killed_while_writing(source, tmp_path / "cut", signal.SIGINT, notes=40)
        assert errors.count("Traceback") == 1  # the program's own; its workers are silent
        assert "KeyboardInterrupt" in errors
        assert not (tmp_path / "cut" / LOCK).exists()
        prepare(DrawnSource(people=6, images=40), tmp_path / "cut", workers=0)

    @pytest.mark.parametrize("taken_out", [True, False], ids=["rows taken out", "all rows stay"])
    def test_stopped_between_the_array_and_the_manifest(self, tmp_path: Path, taken_out: bool) -> None:
        source = DrawnSource(wrong={13: "again"} if taken_out else {})
        prepare(source, tmp_path / "whole", workers=0)
        with pytest.raises(DataError):
            prepare(DrawnSource(wrong={**source.wrong, 19: "lost"}), tmp_path / "cut", workers=0)
        (tmp_path / "cut" / "sheet.png").mkdir()  # the last file before the manifest cannot be written
        with pytest.raises(DataError, match="cannot be written"):
            prepare(source, tmp_path / "cut", workers=0)
        assert (tmp_path / "cut" / "crops.npy").exists()
        (tmp_path / "cut" / "sheet.png").rmdir()
        prepare(source, tmp_path / "cut", workers=0)
        assert same(tmp_path / "whole", tmp_path / "cut")

    def test_a_full_disk_is_said_and_gone_on_from(self, tmp_path: Path) -> None:
        out = tmp_path / "set"
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(DataError, match=r"disk is full.*goes on where it was"):
                prepare(DrawnSource(), out, workers=0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        prepare(DrawnSource(), out, workers=0)
        prepare(DrawnSource(), tmp_path / "whole", workers=0)
        assert same(out, tmp_path / "whole")

    def test_more_than_the_disk_holds_is_refused_before_the_first_crop(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"needs \d+.* GB more"):
            prepare(DrawnSource(size=20_000_000), tmp_path / "set", workers=0)

    @pytest.mark.parametrize("fate", ["killed", "gone", "lost"])
    def test_a_worker_that_fails_ends_the_run_in_a_sentence(self, tmp_path: Path, fate: str) -> None:
        source = DrawnSource(images=40, wrong={100: fate})
        words = {"killed": "was killed.*SIGKILL.*goes on", "gone": "Input/output error", "lost": "put it back"}
        with pytest.raises(DataError, match=words[fate]):
            prepare(source, tmp_path / "set", workers=2)
        prepare(DrawnSource(images=40), tmp_path / "set", workers=0)

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        from train.preparing.place import claimed

        with claimed(tmp_path / "set", "key", force=False), pytest.raises(ConfigError, match="another prepare"):
            prepare(DrawnSource(), tmp_path / "set", workers=0)

    def test_what_a_killed_process_was_writing_goes(self, tmp_path: Path) -> None:
        """Its very first file among them: the folder is still taken for ours."""
        out = tmp_path / "set"
        out.mkdir()
        for name in (STATE, MANIFEST, "train.rec"):
            (out / f".{name}.{'0123456789abcdef'}.part").write_bytes(b"half")
        prepare(DrawnSource(), out, workers=0)
        prepare(DrawnSource(), tmp_path / "whole", workers=0)
        assert same(out, tmp_path / "whole")

    def test_workers_do_not_hear_ctrl_c_while_they_start(self, tmp_path: Path) -> None:
        """The first start of a process brings multiprocessing's tracker along, which used to let the signal in."""
        program = """
import signal
from train.preparing.workers import _no_ctrl_c
from multiprocessing import get_context
if __name__ == "__main__":
    with _no_ctrl_c():
        process = get_context("spawn").Process(target=print, args=("started",))
        process.start()
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "let in"
    process.join()
"""
        (tmp_path / "program.py").write_text(program, encoding="utf-8")
        subprocess.run([sys.executable, tmp_path / "program.py"], env={"PYTHONPATH": str(ROOT)}, check=True)


class TestRefused:
    def test_a_finished_set_is_left_as_it_is(self, tmp_path: Path) -> None:
        assert not prepare(DrawnSource(), tmp_path / "set", workers=0).found_done
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
        assert prepare(DrawnSource(), tmp_path / "set", workers=0).found_done
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}

    @pytest.mark.parametrize("half", [True, False], ids=["half done", "done"])
    @pytest.mark.parametrize(
        ("source", "wishes"),
        [
            (DrawnSource(people=3), Wishes()),
            (DrawnSource(), Wishes(split="people", val_people=1)),
            (DrawnSource(), Wishes(min_images=2)),
        ],
        ids=["source", "split", "fewest"],
    )
    def test_another_set_is_never_overwritten_without_force(
        self, tmp_path: Path, source: DrawnSource, wishes: Wishes, half: bool
    ) -> None:
        out = tmp_path / "set"
        if half:
            with pytest.raises(DataError):
                prepare(DrawnSource(wrong={9: "lost"}), out, workers=0)
        else:
            prepare(DrawnSource(), out, workers=0)
        with pytest.raises(ConfigError, match="--force"):
            prepare(source, out, wishes, workers=0)
        prepare(source, out, wishes, workers=0, force=True)
        prepare(source, tmp_path / "fresh", wishes, workers=0)
        assert same(out, tmp_path / "fresh")

    def test_a_folder_of_other_files_is_refused_and_force_touches_none(self, tmp_path: Path) -> None:
        out = tmp_path / "photos"
        out.mkdir()
        (out / "holiday.jpg").write_bytes(b"mine")
        for force in (True, False):
            with pytest.raises(ConfigError, match=r"holds other files \(holiday.jpg\)"):
                prepare(DrawnSource(), out, workers=0, force=force)
        assert [path.name for path in out.iterdir()] == ["holiday.jpg"]

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "set").write_text("")
        with pytest.raises(ConfigError, match="is a file"):
            prepare(DrawnSource(), tmp_path / "set", workers=0)

    @pytest.mark.parametrize(
        ("source", "wishes", "words"),
        [
            (DrawnSource(people=0), Wishes(), "no image to prepare"),
            (DrawnSource(people=1), Wishes(), "all images are of one person"),
            (DrawnSource(), Wishes(min_images=6), "0 of 4 people have 6 images or more"),
            (DrawnSource(), Wishes(split="people", val_people=3), "people would be kept back"),
            (DrawnSource(), Wishes(split="tutorial"), "tutorial's split keeps the last 10"),
            (DrawnSource(expected=22), Wishes(), "mistake of the source"),
        ],
        ids=["nothing", "one person", "too few images", "too many kept back", "tutorial", "counts"],
    )
    def test_what_cannot_be_a_set_is_refused_before_anything_is_written(
        self, tmp_path: Path, source: DrawnSource, wishes: Wishes, words: str
    ) -> None:
        with pytest.raises(TrainError, match=words):
            prepare(source, tmp_path / "set", wishes, workers=0)
        assert not (tmp_path / "set").exists()

    def test_no_faces_at_all(self, tmp_path: Path) -> None:
        source = DrawnSource(wrong=dict.fromkeys(range(20), "no face"))
        with pytest.raises(DataError, match=r"no image gave a crop.*20 images: no face found, as p000/000.jpg"):
            prepare(source, tmp_path / "set", workers=0)
        assert len((tmp_path / "set" / "refused.jsonl").read_text().splitlines()) == 20

    def test_faces_of_one_person_only(self, tmp_path: Path) -> None:
        source = DrawnSource(wrong=dict.fromkeys(range(5, 20), "no face"))
        with pytest.raises(DataError, match="only 'p000' has crops to train on"):
            prepare(source, tmp_path / "set", workers=0)


def test_the_sheet_shows_crops_of_both_splits(tmp_path: Path) -> None:
    from PIL import Image

    source = DrawnSource(people=20, images=12, size=112)
    prepare(source, tmp_path / "set", Wishes(split="people", val_people=6), workers=0)
    with Image.open(tmp_path / "set" / "sheet.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (30 + 16 * 116 + 4, 200 + 10 * 116 + 4, 3)  # 12 people of train, 4 of val, 10 crops each
    found = open_prepared(tmp_path / "set")
    assert found.val is not None
    shown = pixels[30 + 15 * 116 :][:112, 200:312]
    assert (found.val.crops_NSS3 == shown).all(axis=(1, 2, 3)).any()
