"""A bench as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from engines.benchmark.usage import machine, machine_line
from realtime.benchmark.loops import LOOPS
from realtime.benchmark.results import BASELINE, Bench, Row

Table = Sequence[Sequence[str]]

SHOWN_WRONG: Final = 3
"""Wrong names of a loop that are listed with their frame."""


def report(bench: Bench) -> str:
    """The machine, what each loop costs, whom it names, and what every wrong name is."""
    runs = max(row.runs for row in bench.rows)
    lines = [
        machine_line(machine()),
        f"{bench.clip}, {bench.width}x{bench.height}, {bench.rows[0].frames} frames; known: {', '.join(bench.people)}; "
        f"{runs} {'run' if runs == 1 else 'runs'} of each loop, in turn; medians",
        "",
        *aligned(_costs(bench)),
        "",
        *aligned(_names(bench)),
    ]
    if any(row.score is not None for row in bench.rows):
        lines += ["", *aligned(_wrong(bench)), *(line for row in bench.rows for line in _where(row))]
    for row in bench.rows:
        if not row.steady:
            lines.append(f"{LOOPS[row.loop].title}: its runs gave different answers; the worst run is shown")
    return "\n".join(lines)


def aligned(table: Table) -> Iterator[str]:
    """Rows as lines: the first column to the left, the others to the right, two spaces between."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for first, *others in table:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def _costs(bench: Bench) -> list[list[str]]:
    baseline = LOOPS[BASELINE].title
    table = [["", "frames/s", "x", "frames/CPU s", "x", "MiB loaded", "end", "peak"]]
    for row in bench.rows:
        table.append(
            [
                LOOPS[row.loop].title,
                f"{row.wall_fps:.1f}",
                _ratio(bench.ratio(row, "wall_fps")),
                f"{row.cpu_fps:.1f}",
                _ratio(bench.ratio(row, "cpu_fps")),
                _whole(row.loaded_mb),
                _whole(row.end_mb),
                _whole(row.peak_mb),
            ]
        )
    table[0][2] = table[0][4] = f"x {baseline}"
    return table


def _names(bench: Bench) -> list[list[str]]:
    """With truth: right names of each person and scene; without: how much was named."""
    scored = [row.score for row in bench.rows if row.score is not None]
    if not scored:
        table = [["", "faces", "named", "frames with a face", "with a name", "first name after"]]
        for row in bench.rows:
            found = row.summary
            table.append(
                [
                    LOOPS[row.loop].title,
                    str(found.faces),
                    _share(found.faces_named, found.faces),
                    _share(found.frames_with_faces, found.frames),
                    _share(found.frames_with_names, found.frames),
                    _seconds(found.seconds_to_name),
                ]
            )
        return table
    heads = [f"{person.who} {scene.first}-{scene.last}" for person in scored[0].people for scene in person.scenes]
    table = [["frames named right", *heads, *(f"{person.who} named after" for person in scored[0].people)]]
    for row in bench.rows:
        assert row.score is not None
        cells = [f"{scene.right}/{scene.present}" for person in row.score.people for scene in person.scenes]
        seconds = [_seconds(person.seconds_to_name) for person in row.score.people]
        table.append([LOOPS[row.loop].title, *cells, *seconds])
    return table


def _wrong(bench: Bench) -> list[list[str]]:
    kinds = ("other person", "stranger", "no face", "twice")
    table = [["wrong names", *(f"on {kind}" if kind != "twice" else kind for kind in kinds), "frames", "unsure"]]
    for row in bench.rows:
        if row.score is not None:
            counts = [str(row.score.counts.get(kind, 0)) for kind in kinds]
            table.append([LOOPS[row.loop].title, *counts, str(row.score.wrong_frames), str(row.score.unsure)])
    return table


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _where(row: Row) -> Iterator[str]:
    """The first wrong names of a loop, for whoever wants to look at the frames."""
    wrong = () if row.score is None else row.score.wrong
    for name in wrong[:SHOWN_WRONG]:
        corner = ", ".join(f"{edge:.0f}" for edge in name.box[:2])
        yield f"  {LOOPS[row.loop].title}, frame {name.frame}: {name.name} on {name.kind} at ({corner})"
    if len(wrong) > SHOWN_WRONG:
        yield f"  and {len(wrong) - SHOWN_WRONG} more (--json FILE has them all)"
