"""The whole examination, in the order in which it is shown.

Enters: settings, sources and a gallery as a person typed them. Leaves: a ``Report``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from engines.store import cache_dir
from realtime.capture.addresses import redact
from realtime.capture.demo import demo_photo
from realtime.doctor import machine, people, recognition, screen, sources
from realtime.doctor.report import Finding, Report
from realtime.errors import SourceError
from realtime.settings import Settings


def examine(
    settings: Settings, *, specs: Sequence[str] = (), gallery: Path, measured_s: float = sources.MEASURED_S
) -> Report:
    """Look at everything; takes some seconds, and ``measured_s`` more for each of ``specs``."""
    findings = [*machine.versions()]
    broken = any(finding.state == "problem" for finding in findings)
    findings += machine.processor()
    findings.append(machine.folder("cache", cache_dir(), "Converted models"))
    findings.append(machine.folder("gallery folder", gallery.parent, "The gallery"))
    if broken:
        # the rest would only say the same again, less clearly
        return Report(findings=tuple(findings), next_steps=("pip install --force-reinstall realtime-arcface",))
    about_model, manifest = recognition.embedding(settings)
    findings += [*recognition.runtimes(), *about_model, recognition.engine_files(), *recognition.models()]
    findings += recognition.detector(settings)
    findings += recognition.landmarks(settings)
    findings += [*screen.display(), *screen.fonts(settings.show)]
    findings += people.examine_gallery(gallery, manifest)
    working = []
    for spec in specs:
        about_source = list(sources.examine_source(spec, settings.capture, measured_s=measured_s))
        findings += about_source
        if not any(finding.state == "problem" for finding in about_source):
            working.append(redact(spec))
    if not specs:
        about_cameras = list(sources.cameras())
        findings += about_cameras
        working += ["0" for finding in about_cameras if finding.state == "ok"]
    return Report(
        findings=tuple(findings), next_steps=tuple(_next_steps(findings, [*working, _without_camera()][0], gallery))
    )


def _without_camera() -> str:
    """What can be tried where no source is known to work."""
    try:
        demo_photo()
    except SourceError:
        return "CLIP.mp4"
    return "demo"


def _next_steps(findings: Sequence[Finding], source: str, gallery: Path) -> Iterator[str]:
    """What a person would type now."""
    if people.is_empty(findings):
        yield f"realtime enroll PHOTO.jpg --name NAME{people.flag(gallery)}"
    window = any(finding.name == "window" and finding.state == "ok" for finding in findings)
    output = "" if window else " --output named.mp4"
    yield f"realtime --source {shlex.quote(source)}{people.flag(gallery)}{output}"
