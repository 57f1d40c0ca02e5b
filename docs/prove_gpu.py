"""Runs everything that docs/gpu.md says of a GPU, in one go, and writes its tables.

``python docs/prove_gpu.py`` runs the parts one after the other, each with its share of the time, and keeps what each
finds in a JSON file of its own; ``--dry-run`` runs the same on tiny shapes, on a processor too, and changes no
document; ``--write`` puts the files of an earlier run into docs/gpu.md. A part that fails or runs out of time does not
stop the others.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "gpu.md"

sys.path.insert(0, str(ROOT))

from engines.proofs.record import shown  # noqa: E402 - found beside this script where the package is not installed

_PLACE: Final = re.compile(r"(?<![\w.])/(?:[^\s/:;,]+/)+([^\s/:;,]+)")
"""A file of the machine at hand: its name is enough for a page."""

GRACE_S: Final = 60.0
"""What a part may take beyond its time, for its start and its last table; then it is stopped."""


@dataclass(frozen=True, slots=True)
class Part:
    """One proof: a module's command, and how much of the time it gets."""

    name: str
    title: str
    arguments: tuple[str, ...]
    share: float
    """Of the whole time."""
    needs: tuple[str, ...] = ()
    """Options of this script without which it cannot run, beside what the command draws by itself."""


PARTS: Final = (
    Part("embedding", "Embedding", ("engines", "gpu", "embedding"), 0.25),
    Part("training", "Training: speed", ("train", "bench"), 0.2),
    Part("dlib", "dlib's networks", ("engines", "gpu", "dlib"), 0.15),
    Part("matching", "Matching", ("engines", "gpu", "matching"), 0.15),
    Part("streams", "End to end", ("realtime", "bench", "--streams", "1,2,4,8,16,32,64"), 0.25),
)
"""In the order of the page. The table of losses is a training run of its own, ``python -m train losses``; ``--write``
takes it from the folder's ``losses/losses.md``."""


def main() -> int:
    options = _options()
    if options.write is not None:
        write(options.write)
        return 0
    names = [name.strip() for name in options.parts.split(",")]
    if unknown := set(names) - {part.name for part in PARTS}:
        sys.exit(f"prove_gpu: no part is called {', '.join(sorted(unknown))}; known are {_known()}")
    chosen = [part for part in PARTS if part.name in names]
    whole = sum(part.share for part in chosen)
    codes = {}
    for part in chosen:
        minutes = options.minutes * part.share / whole
        codes[part.name] = run(part, options, minutes)
    for name, code in codes.items():
        print(f"{name}: {'every check passed' if code == 0 else f'exit code {code}'}, {options.output / name}.json")
    if not options.dry_run:
        write(options.output)
    return int(any(codes.values()))


def run(part: Part, options: argparse.Namespace, minutes: float) -> int:
    """One part in a process of its own; its exit code, 124 where it had to be stopped."""
    command = [sys.executable, "-m", *part.arguments, "--json", str(options.output / f"{part.name}.json")]
    command += ["--minutes", f"{minutes:.1f}", *(["--dry-run"] if options.dry_run else [])]
    command += options.streams if part.name == "streams" else []
    print(f"\n=== {part.title}: {shlex.join(command[1:])}", flush=True)
    started = time.monotonic()
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=60 * minutes + GRACE_S, check=False).returncode
    except subprocess.TimeoutExpired:
        code = 124
    print(f"--- {part.title}: exit code {code} after {time.monotonic() - started:.0f} s", flush=True)
    return code


def write(folder: Path) -> None:
    """Put what the files of a folder say into the page; parts without a file keep what the page says."""
    page = PAGE.read_text(encoding="utf-8")
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["dry_run"]:
            sys.exit(f"prove_gpu: {file} is of a dry run, whose times say nothing; nothing was written")
        page = with_part(page, found)
    losses = folder / "losses" / "losses.md"
    if losses.is_file():
        page = between(page, "losses", losses.read_text(encoding="utf-8").strip())
    PAGE.write_text(page, encoding="utf-8")


def with_part(page: str, found: dict[str, Any]) -> str:
    """The page with one part as it was found.

    Raises:
        ValueError: the page has no place for it.
    """
    return between(page, found["part"], "\n".join(markdown(found)))


def between(page: str, name: str, text: str) -> str:
    """The page with other text between the two marks of a name.

    Raises:
        ValueError: it has no such marks.
    """
    begin, end = (f"<!-- {name}:{word} -->" for word in ("begin", "end"))
    if begin not in page or end not in page:
        raise ValueError(f"docs/gpu.md has no place for {name}: write {begin} and {end} into it")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def markdown(found: dict[str, Any]) -> Iterator[str]:
    """One part: its machine and command, every table, every check, and what was not run."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "onnxruntime", "tensorrt") if name in machine)
    gpu = machine.get("gpu", "no GPU")
    yield f"{found['date']}, {gpu}, {machine['processor']}, {machine['cores']} cores, {versions}: `{found['command']}`"
    for table in found["tables"]:
        yield ""
        yield f"**{table['title']}**" + (f": {table['note']}" if table["note"] else "")
        yield ""
        yield _line(table["columns"])
        yield _line(["---"] * len(table["columns"]))
        yield from (_line([shown(cell) for cell in row]) for row in table["rows"])
    if found["checks"]:
        yield ""
        yield from (
            f"- {'ok' if one['passed'] else '**failed**'}: {one['name']}: {one['detail']}" for one in found["checks"]
        )
    if found["untried"]:
        yield ""
        for one in found["untried"]:
            why = _PLACE.sub(r"\1", one["why"])
            yield f"- not run: {one['what']}: {why}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _known() -> str:
    return ", ".join(part.name for part in PARTS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prove_gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default=_known(), metavar="NAME,...", help="only these (default: all: %(default)s)")
    parser.add_argument("--minutes", type=float, default=40.0, help="for all of them together (default: %(default)g)")
    parser.add_argument("--output", type=Path, default=Path("out/gpu"), help="folder of the JSON files")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes, on a processor too; no document changes")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="run nothing; put these files into docs/gpu.md")
    parser.add_argument(
        "--streams", type=shlex.split, default=[], metavar="OPTIONS", help="more for `realtime bench --streams`"
    )
    options = parser.parse_args()
    options.output = options.output.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
