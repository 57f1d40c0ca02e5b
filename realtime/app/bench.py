"""``realtime bench``: what this program does on this machine, beside the loops that people use today."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from realtime.app.people import ConfigOption, SetOption
from realtime.errors import OutputError, RealtimeError, SettingsError
from realtime.settings import load_settings

Photos = list[tuple[str, Path]]


def register(app: typer.Typer) -> None:
    app.command("bench")(bench_command)


def bench_command(
    clip: Annotated[Path | None, typer.Option(help="Video to measure on; the demo if not given.")] = None,
    photo: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="Photo of a person in the clip; as many as you like.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="JSON file that says who is where in each frame.")] = None,
    upscale: Annotated[str | None, typer.Option(metavar="WxH", help="Scale the clip first, as 1280x720.")] = None,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs of each loop, in turn; medians are shown.")] = 3,
    loops: Annotated[
        str, typer.Option(help="Which loops, with commas: pipeline, untracked, recipe, tutorial.")
    ] = "pipeline,untracked,recipe,tutorial",
    engines: Annotated[bool, typer.Option("--engines", help="Instead: the networks beside the dlib wheel.")] = False,
    detectors: Annotated[
        bool, typer.Option("--detectors", help="Instead: recall and cost of the detectors; needs --truth.")
    ] = False,
    yunet: Annotated[Path | None, typer.Option(help="A YuNet file, for --detectors.")] = None,
    every: Annotated[int, typer.Option(min=1, help="With --detectors: look at every Nth frame only.")] = 1,
    startup: Annotated[bool, typer.Option("--startup", help="Instead: seconds to the first frame.")] = False,
    soak: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0.05, help="Instead: memory of the clip as a looped camera.")
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(metavar="1,2,4,...", help="Instead: so many cameras at 25 fps on an NVIDIA GPU, frames to names."),
    ] = None,
    size: Annotated[str, typer.Option(metavar="WxH,...", help="Frames of --streams.")] = "1280x720,1920x1080",
    minutes: Annotated[float, typer.Option(min=0.1, help="With --streams: leave out what no longer fits.")] = 9.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --streams: tiny frames, on a processor too; times say nothing.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write it all as JSON.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure speed, memory, and who is named, beside the two loops that people use today.

    Without options: the demo. On a clip of your own give a photo of each person in it. Each loop runs in a process of
    its own, --repeat times in turn, from its first frame to its last; models are loaded before. Nothing else should
    run.
    """
    if engines:
        _engines(json_file)
        return
    if streams is not None:
        from realtime.app.bench_streams import streams_command

        streams_command(streams, size, clip, _photos(photo or ()), minutes, dry_run, json_file)
        return
    load_settings(config, set_ or ())  # a wrong setting is said before anything runs
    with tempfile.TemporaryDirectory(prefix="realtime-bench-") as folder:
        film, people = _material(clip, _photos(photo or ()), upscale, Path(folder))
        if detectors:
            _detectors(film, truth, yunet, every, config, set_ or [], json_file)
            return
        from realtime.bench import make_gallery

        gallery = Path(folder) / "gallery.sqlite"
        make_gallery(people, load_settings(config, set_ or ()), gallery)
        if startup:
            _startup(film, gallery, repeat, set_ or [], json_file)
        elif soak is not None:
            _soak(film, gallery, soak, config, set_ or [], json_file)
        else:
            _loops(film, people, gallery, truth, _known_loops(loops), repeat, config, set_ or [], json_file)


def _photos(texts: list[str] | tuple[()]) -> Photos:
    photos: Photos = []
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name.strip() and equals and file):
            raise typer.BadParameter(f"{text!r} is not NAME=FILE, as Ana=ana.jpg", param_hint="--photo")
        photos.append((name.strip(), Path(file)))
    return photos


def _known_loops(text: str) -> list[str]:
    from realtime.benchmark.loops import LOOPS

    loops = [loop.strip() for loop in text.split(",") if loop.strip()]
    unknown = [loop for loop in loops if loop not in LOOPS]
    if unknown or not loops:
        raise typer.BadParameter(f"known are {', '.join(LOOPS)}", param_hint="--loops")
    return list(dict.fromkeys(loops))


def _material(clip: Path | None, photos: Photos, upscale: str | None, folder: Path) -> tuple[Path, Photos]:
    """The clip as it is measured, and who is in it; the demo where no clip is given."""
    from realtime.benchmark.clips import parse_size
    from realtime.benchmark.clips import upscale as scale

    if clip is None:
        film, people = _demo(folder)
        people = photos or people
    elif clip.is_file():
        film, people = clip, photos
    else:
        raise RealtimeError(f"{clip}: no such file; give a video file")
    if upscale is None:
        return film, people
    try:
        size = parse_size(upscale)
    except ValueError as err:
        raise typer.BadParameter(str(err), param_hint="--upscale") from err
    scaled = folder / f"{film.stem}-{upscale.lower()}.mp4"
    _say(f"scaling {film.name} to {upscale}")
    scale(film, size, scaled)
    return scaled, people


def _demo(folder: Path) -> tuple[Path, Photos]:
    from realtime.benchmark.clips import frames_of, render
    from realtime.capture.demo import DEMO_NAME, DemoSource, demo_photo
    from realtime.settings import CaptureSettings

    _say("drawing the demo")
    film = folder / "demo.mp4"
    render(frames_of(DemoSource(CaptureSettings())), film)
    return film, [(DEMO_NAME, demo_photo())]


def _loops(
    film: Path,
    people: Photos,
    gallery: Path,
    truth: Path | None,
    loops: list[str],
    repeat: int,
    config: str | None,
    overrides: list[str],
    json_file: Path | None,
) -> None:
    from tqdm import tqdm

    from realtime.bench import bench
    from realtime.benchmark.report import report
    from realtime.benchmark.truth import load_truth

    known = None if truth is None else load_truth(truth)
    with tqdm(total=len(loops) * repeat, unit="run", leave=False) as bar:

        def progress(title: str) -> None:
            if bar.desc:
                bar.update()
            bar.set_description(title)

        found = bench(
            film,
            people,
            gallery,
            truth=known,
            loops=loops,
            repeat=repeat,
            config=config,
            overrides=overrides,
            progress=progress,
        )
    print(report(found))
    _save(found.to_json(), json_file)


def _engines(json_file: Path | None) -> None:
    from tqdm import tqdm

    from engines.bench import bench, report
    from engines.benchmark.usage import machine

    with tqdm(unit="step", leave=False, disable=None) as bar:

        def progress(title: str, done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            bar.set_description(title)

        found = bench(batches=(1, 8), seconds=0.2, detector=True, progress=progress)
    print(report(found))
    values = found.as_json()
    _save({"engines": values.pop("rows"), **values, "machine": machine() | values["machine"]}, json_file)


def _detectors(
    film: Path,
    truth: Path | None,
    yunet: Path | None,
    every: int,
    config: str | None,
    overrides: list[str],
    json_file: Path | None,
) -> None:
    from dataclasses import asdict

    from engines.benchmark.usage import machine, machine_line
    from realtime.benchmark.detectors import detect_all, detector_table
    from realtime.benchmark.report import aligned
    from realtime.benchmark.truth import load_truth

    if truth is None:
        raise SettingsError("--detectors compares with the truth: add --truth FILE, and --clip FILE that it is of")
    own = load_settings(config, overrides).detect
    kinds = [own.model_copy(update={"kind": kind, "model": None}) for kind in ("hog", "cnn")]
    if yunet is not None:
        kinds.append(own.model_copy(update={"kind": "yunet", "model": str(yunet)}))
    rows = []
    for row in detect_all(film, load_truth(truth), kinds, every=every):
        rows.append(row)
        _say(f"{row.kind} done")
    print(machine_line(machine()))
    print(
        f"{film.name}, {rows[0].frames} frames, faces of {own.min_face_px} px at 720p and more; faces found / present\n"
    )
    print("\n".join(aligned(detector_table(rows))))
    _save({"machine": machine(), "detectors": [asdict(row) for row in rows]}, json_file)


def _startup(film: Path, gallery: Path, repeat: int, overrides: list[str], json_file: Path | None) -> None:
    from engines.benchmark.usage import machine, machine_line
    from realtime.benchmark.startup import time_starts

    starts = time_starts(film, gallery, starts=repeat, overrides=tuple(overrides))
    print(machine_line(machine()))
    each = ", ".join(f"{seconds:.2f}" for seconds in starts)
    print(f"first frame shown {median(starts):.2f} s after the command (median of {each})")
    _save({"machine": machine(), "first_frame_s": starts}, json_file)


def _soak(
    film: Path, gallery: Path, minutes: float, config: str | None, overrides: list[str], json_file: Path | None
) -> None:
    from dataclasses import asdict

    from tqdm import tqdm

    from engines.benchmark.usage import machine, machine_line
    from realtime.benchmark.loops import Job
    from realtime.benchmark.soak import soak

    job = Job(
        loop="pipeline", clip=str(film), photos=(), gallery=str(gallery), config=config, overrides=tuple(overrides)
    )
    with tqdm(total=100, unit="%", leave=False) as bar:

        def progress(done: float, resident: float) -> None:
            bar.update(round(100 * done) - bar.n)
            bar.set_description(f"{resident:.1f} MiB")

        found = soak(job, minutes, progress=progress)
    first, last = found.samples[0][1], found.samples[-1][1]
    print(machine_line(machine()))
    print(
        f"{found.minutes:g} minutes live: {found.frames} frames shown, {found.drops} dropped, {found.named} named\n"
        f"memory {first:.1f} MiB at first, {last:.1f} MiB at the end; after the first fifth of the time it grew by "
        f"{found.growth_mb:+.1f} MiB ({found.growth_mb_per_hour:+.1f} MiB an hour)"
    )
    values = asdict(found)
    _save(
        {
            "machine": machine(),
            **values,
            "growth_mb": found.growth_mb,
            "growth_mb_per_hour": found.growth_mb_per_hour,
        },
        json_file,
    )


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _save(values: dict[str, Any], path: Path | None) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err.strerror}); choose another file") from err
