"""Small prepared sets for tests, written without the code under test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from train.prepared import CROPS, IMAGES, LABELS, MANIFEST, REFUSED, SetManifest


def tiny_set(
    folder: Path,
    *,
    train_people: int = 4,
    val_people: int = 2,
    images: int = 5,
    size: int = 112,
    seed: int = 0,
    names: tuple[str, ...] | None = None,
) -> Path:
    """Each person is a pattern of low frequency with noise: easy to tell apart, nobody's face.

    ``names``: of all rows, where a test needs names of its own.
    """
    random = np.random.default_rng(seed)
    people = train_people + val_people
    cells = random.integers(0, 256, (people, 7, 7, 3)).astype(np.float32)
    patterns = cells.repeat(-(-size // 7), axis=1).repeat(-(-size // 7), axis=2)[:, :size, :size]
    who = np.repeat(np.arange(people), images)
    noise = random.normal(0, 20, (len(who), size, size, 3))
    crops = np.clip(patterns[who] + noise, 0, 255).astype(np.uint8)
    labels = np.where(who < train_people, who, who - train_people).astype(np.int32)
    subjects = tuple(f"p{number:03d}" for number in range(people))
    rows = names or tuple(f"{subjects[person]}/{index % images:04d}.jpg" for index, person in enumerate(who))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / CROPS, crops)
    np.save(folder / LABELS, labels)
    shas = [hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops]
    lines = [json.dumps({"name": name, "sha256": sha}) + "\n" for name, sha in zip(rows, shas, strict=True)]
    (folder / IMAGES).write_text("".join(lines), encoding="utf-8")
    (folder / REFUSED).write_text("", encoding="utf-8")
    manifest = SetManifest(
        name=folder.name,
        template="arcface_112",
        size=size,
        train_rows=train_people * images,
        val_rows=val_people * images,
        train_subjects=subjects[:train_people],
        val_subjects=subjects[train_people:],
        expected=None,
        refused=0,
        facts={"kind": "test"},
        digest=hashlib.sha256(crops.tobytes()).hexdigest(),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder
