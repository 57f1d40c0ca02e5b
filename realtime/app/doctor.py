"""``realtime doctor``: what works on this machine, what does not, and what to type next.

Enters: the command line. Leaves: a report on the screen or as JSON, and exit code 1 where something needed is broken.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Final

import typer

from realtime.doctor.report import Finding, Report
from realtime.settings import load_settings

MARKS: Final = {"ok": " ", "note": "!", "problem": "x"}
COLOURS: Final = {"ok": None, "note": "yellow", "problem": "red"}
NAME_WIDTH: Final = 24
LINE_WIDTH: Final = 110


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("doctor")(doctor)


def doctor(
    source: Annotated[
        list[str] | None,
        typer.Option("--source", "-s", help="Camera, file or stream to try for three seconds; may be repeated."),
    ] = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="Gallery file; yours if left out.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="Preset or YAML file.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what works here, what does not, and what to type next.

    Looks at versions, processor, folders, the runtime that is used and why, detector, display, fonts, gallery and
    cameras. With --source it opens the source and measures what really arrives. Exit code 1: something is broken.
    """
    from realtime.doctor.examine import examine
    from realtime.people.gallery import default_gallery_path

    settings = load_settings(config, set_ or ())
    report = examine(settings, specs=source or (), gallery=gallery or default_gallery_path())
    if as_json:
        typer.echo(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        _show(report)
    if report.problems:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    for topic in report.topics:
        typer.secho(f"\n{topic}", bold=True)
        for finding in report.findings:
            if finding.topic == topic:
                _show_finding(finding)
    typer.echo()
    for problem in report.problems:
        named = problem.advice.startswith(problem.name)
        typer.secho(f"x {problem.advice}" if named else f"x {problem.name}: {problem.advice}", fg="red")
    if not report.problems:
        typer.secho("Everything that is needed works.", fg="green")
    if report.next_steps:
        typer.echo("\nWhat to type next:")
    for step in report.next_steps:
        typer.echo(f"  {step}")


def _show_finding(finding: Finding) -> None:
    head = f"{MARKS[finding.state]} {finding.name:<{NAME_WIDTH}} "
    lines = textwrap.wrap(finding.value, LINE_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    if finding.state == "note" and finding.advice:
        lines += textwrap.wrap(finding.advice, LINE_WIDTH, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        typer.secho((head if number == 0 else " " * len(head)) + line, fg=COLOURS[finding.state])
