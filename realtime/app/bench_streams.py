"""``realtime bench --streams``: so many cameras on one GPU, from frames to names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from realtime.errors import RealtimeError
from realtime.records import RGB_HW3

Photos = list[tuple[str, Path]]

SECONDS = 4.0
"""Of playing, for each number of streams."""

DRY_COUNTS = (1, 2)


def streams_command(
    streams: str, size: str, clip: Path | None, photos: Photos, minutes: float, dry_run: bool, json_file: Path | None
) -> None:
    """Prove and print.

    Raises:
        typer.BadParameter: numbers or sizes that are none.
        EngineError: no GPU, and no dry run.
        typer.Exit: with code 1 where a check failed.
    """
    counts, sizes = _counts(streams), _sizes(size)
    if photos and clip is None:
        raise typer.BadParameter("photos are of people in a clip: add --clip FILE", param_hint="--photo")
    from engines.networks.library import torch_library

    torch_library()
    from engines.proofs.starting import begin
    from realtime.benchmark.streams import TITLE, Wishes, prove

    proof, device = begin(
        "streams",
        TITLE,
        "realtime",
        path=json_file,
        dry_run=dry_run,
        minutes=minutes,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    frames, people = _material(clip, photos, dry_run)
    prove(
        proof,
        device,
        Wishes(
            frames=frames,
            people=people,
            counts=[count for count in counts if count <= max(DRY_COUNTS)] or [1] if dry_run else counts,
            sizes=sizes,
            seconds=1.0 if dry_run else SECONDS,
            threads=min(16, os.cpu_count() or 1),
        ),
    )
    print(proof.report())
    if not proof.passed:
        raise typer.Exit(1)


def _material(clip: Path | None, photos: Photos, dry_run: bool) -> tuple[list[RGB_HW3], Photos]:
    from realtime.benchmark.streams_material import clip_frames, demo_frames, tiny_frames
    from realtime.capture.demo import DEMO_NAME, demo_photo

    if clip is not None:
        if not clip.exists():
            raise RealtimeError(f"{clip}: no such file; give a video file, or a folder of pictures")
        return clip_frames(clip), photos
    frames = tiny_frames() if dry_run else demo_frames(every=6)
    return frames, [(DEMO_NAME, demo_photo())]


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() and 1 <= int(part[:6]) <= 1024 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of numbers from 1 to 1024, as 1,2,4", param_hint="--streams")
    return sorted({int(part) for part in parts})


def _sizes(text: str) -> list[tuple[int, int]]:
    from realtime.benchmark.clips import parse_size

    try:
        return list(dict.fromkeys(parse_size(part.strip()) for part in text.split(",")))
    except ValueError as err:
        raise typer.BadParameter(str(err), param_hint="--size") from err
