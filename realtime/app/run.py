"""The root command: ``realtime --source 0``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from realtime import __version__
from realtime.app.gallery import ConfigOption, GalleryOption, SetOption
from realtime.app.people_output import say


def register(app: typer.Typer) -> None:
    """Make it what ``app`` does without a command."""
    app.callback(invoke_without_command=True)(run)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"realtime {__version__}")
        raise typer.Exit


def run(
    context: typer.Context,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            "-s",
            metavar="S",
            help="Camera number, video file, folder or glob of images, rtsp:// or http(s):// address, or demo. "
            "Several run at once. Camera 0 if not given.",
        ),
    ] = None,
    gallery: GalleryOption = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Annotated video (.mp4, .mkv, .avi) or one JSON line a frame (.jsonl, or - for standard output).",
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="One JSON line when somebody appears, is named, renamed or leaves; or -.",
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_window: Annotated[bool, typer.Option("--no-window", help="Do not open a window.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more of what is going on.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Name the people in a webcam, a video file or network cameras.

    Enrol people first (realtime enroll people/), then: realtime --source 0

    In the window: n names the unknown face nearest the centre, space pauses, s saves a picture, h helps, q quits.
    Ctrl-C ends cleanly. `realtime doctor` explains what this machine can do.
    """
    if verbose:
        logging.getLogger().setLevel(logging.INFO)
    if context.invoked_subcommand is not None:
        given = {"--source": source, "--gallery": gallery, "--output": output, "--events": events, "--config": config}
        early = [option for option, value in ({**given, "--set": set_}).items() if value]
        if early:
            command = context.invoked_subcommand
            raise typer.BadParameter(
                f"write it after the command, as in `realtime {command} ... {early[0]} ...`", param_hint=early[0]
            )
        return
    from realtime.app.session import Session
    from realtime.settings import load_settings

    settings = load_settings(config, set_ or ())
    with Session(
        source or ["0"], settings, gallery=gallery, outputs=output or [], events=events, window=not no_window
    ) as session:
        complete = session.run()
    raise typer.Exit(0 if complete else 1)
