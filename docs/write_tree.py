"""Writes the tree at the end of README.md: a phrase per room, and per file that stands outside of
one, from the first sentence of its docstring.

Run it as ``make docs`` after a file came or went; a test holds the README to it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- tree:begin -->", "<!-- tree:end -->"

OTHERS = {
    "configs/": "presets as YAML, no code; they travel inside the wheel",
    "configs/default.yaml": "every option of `realtime` with its unit and default",
    "configs/train_default.yaml": "every option of a training run with its unit and default",
    "configs/kface_r50.yaml": "training on K-FACE: iresnet50, aligned crops, a sane rate",
    "configs/kface_r50_onegpu.yaml": "training on K-FACE with the tutorial's values",
    "configs/kface_smoke.yaml": "a small network on K-FACE, to see on a CPU that everything works",
    "configs/lfw_demo.yaml": "a small network on LFW, some minutes on a CPU",
    "configs/lfw_losses.yaml": "every loss of the paper's table with one budget on LFW, ten minutes of a GPU",
    "configs/webcam.yaml": "one person or a few, close to a webcam",
    "configs/cameras.yaml": "several cameras on the network",
    "configs/accurate.yaml": "recordings, where time does not matter",
    "configs/light.yaml": "small or busy computers",
    "configs/models.yaml": "the models that the program knows, with their thresholds",
    "docs/": "measurements, and what draws and writes the generated parts of the documentation",
    "docs/training.md": "what training reaches on real data, with the command of each table, and the file formats",
    "docs/gpu.md": "what a GPU reaches, with the command of each table",
    "docs/engines.md": "how fast each runtime is and how well each one's answers hold, with the command of each table",
    "tests/": "mirrors the packages; also the layers, the README and the wheel",
    ".ci/run": "what a change must pass",
    "Makefile": "setup, demo, train-demo, run, test, lint, bench, gpu, docs, clean",
    "constraints.txt": "exact versions that CI ran with",
}
"""Phrases of what has no docstring."""


def tree() -> str:
    """The block that stands between the two marks, without them."""
    rows = [row for package in ("realtime", "engines", "train") for row in _package(ROOT / package)]
    rows += [("configs/", OTHERS["configs/"])]
    rows += [(f"  {path.name}", OTHERS.get(f"configs/{path.name}", "")) for path in _order("configs", "*.yaml")]
    rows += [("docs/", OTHERS["docs/"])]
    rows += [(f"  {path.name}", OTHERS.get(f"docs/{path.name}", "")) for path in _order("docs", "*.md")]
    rows += [(f"  {path.name}", _phrase(path)) for path in _order("docs", "*.py")]
    rows += [(name, OTHERS[name]) for name in ("tests/", ".ci/run", "Makefile", "constraints.txt")]
    if missing := [name.strip() for name, phrase in rows if not phrase]:
        raise SystemExit(f"no phrase for {', '.join(missing)}: give it a docstring, or a line in docs/write_tree.py")
    width = max(len(name) for name, _ in rows) + 2
    return "```text\n" + "".join(f"{name:<{width}}{phrase}\n" for name, phrase in rows) + "```\n"


def with_tree(readme: str) -> str:
    """The README with the tree as it is now."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{tree()}{END}{rest.split(END)[1]}"


def _order(folder: str, pattern: str) -> list[Path]:
    return sorted((ROOT / folder).glob(pattern))


def _package(folder: Path) -> Iterator[tuple[str, str]]:
    """The package, its files, and its rooms without theirs: 300 lines would be read by nobody."""
    yield f"{folder.name}/", _phrase(folder / "__init__.py")
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"  {path.name}", _phrase(path)
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").is_file():
            yield f"  {path.name}/", _phrase(path / "__init__.py")


def _phrase(path: Path) -> str:
    """First sentence of a module's docstring, without its stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\.(?:\s|$)|\n\n", " ".join(text.split("\n\n")[0].split()), maxsplit=1)[0]
    return sentence.replace("``", "`")


def main() -> None:
    README.write_text(with_tree(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write("README.md: tree written\n")


if __name__ == "__main__":
    main()
