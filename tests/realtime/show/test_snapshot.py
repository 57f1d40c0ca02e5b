"""A snapshot is a new file that holds the picture."""

from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import platformdirs
import pytest

from realtime.errors import OutputError
from realtime.show.snapshot import pictures_folder, save_snapshot
from tests.realtime.show.samples import portrait

NOON = datetime(2026, 11, 21, 12, 0, 5)


def test_a_snapshot_holds_the_picture_and_replaces_none(tmp_path: Path) -> None:
    first = save_snapshot(portrait(), "rtsp://cam/1?x=/../é", folder=tmp_path, now=NOON)
    second = save_snapshot(portrait(), "rtsp://cam/1?x=/../é", folder=tmp_path, now=NOON)
    assert first.name == "realtime-rtsp-cam-1-x-..-é-20261121-120005.png"
    assert second.name == "realtime-rtsp-cam-1-x-..-é-20261121-120005-2.png"
    assert first.parent == tmp_path
    assert np.array_equal(cv2.cvtColor(cv2.imread(str(first)), cv2.COLOR_BGR2RGB), portrait())


def test_a_jpeg_is_near_enough(tmp_path: Path) -> None:
    path = save_snapshot(portrait(), "", folder=tmp_path, now=NOON, suffix=".jpg")
    assert path.name == "realtime-source-20261121-120005.jpg"
    read = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert np.abs(read.astype(int) - portrait()).mean() < 4


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the snapshot is not saved, "):
        save_snapshot(portrait(), "door", folder=tmp_path / "nowhere")


def test_the_pictures_folder_or_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_pictures_path", lambda: tmp_path / "Pictures")
    assert pictures_folder() == tmp_path
    (tmp_path / "Pictures").mkdir()
    assert pictures_folder() == tmp_path / "Pictures"
