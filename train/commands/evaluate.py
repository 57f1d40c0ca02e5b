"""``python -m train evaluate``: how well a model tells people apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.commands.shared import AlignOption, align_options, bar

if TYPE_CHECKING:
    from train.evaluation.models import OpenModel
    from train.evaluation.sets import VerificationSet


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run's folder, weights (.pth), a model file, or a name of `python -m engines list`; dlib-resnet-v1 "
            "is the embedded one, for photos and crops of dlib_chip_150.",
        ),
    ],
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="SET...",
            help="Prepared sets (their people kept back), insightface's .bin, PHOTOS,LIST (a folder, a tar or a "
            "prepared set, with LFW's pairs.txt or K-FACE's list), or folders of people's folders.",
        ),
    ],
    pairs: Annotated[Path | None, typer.Option(help="List of comparisons for every SET that names none.")] = None,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Average each face with its mirror image.")] = False,
    identification: Annotated[
        bool, typer.Option("--identification", help="Also search for people in galleries drawn from the set.")
    ] = False,
    references: Annotated[int, typer.Option(min=1, help="Of --identification: photos a subject is enrolled with.")] = 1,
    conditions: Annotated[
        bool, typer.Option("--conditions", help="Also draw heat maps by yaw, light and so on (sets of K-FACE).")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder for report.json and report.html, the latter with all plots in it.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Of a .pth; found out if not given.")] = None,
    template: Annotated[
        str | None, typer.Option(help="Alignment template that a .pth was trained on; arcface_112 if not given.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="As tensorrt or openvino; the fastest here if auto.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, bf16, fp16, int8, or auto, which realtime takes; that of the file if not given."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of a runtime on the processor.")] = 1,
    align: AlignOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure error rates on labelled sets, with intervals over people.

    Accuracy over ten folds, TAR at FAR 1e-1 to 1e-6 where the comparisons allow it, EER. What cannot be measured is
    named. Images without a crop count as wrong.
    """
    from train.evaluation.models import opened
    from train.evaluation.report import evaluate as measure
    from train.evaluation.report import lines, write_report

    options = align_options(align)
    with opened(
        model, network=network, template=template, runtime=runtime, precision=precision, threads=threads
    ) as found:
        held = [_open(spec, pairs, found, options) for spec in sets]
        bars = _Bars()
        report = measure(
            found.embed,
            held,
            model=found.to_json(),
            threshold=found.threshold,
            flip=flip,
            identification=identification,
            conditions=conditions,
            references=references,
            progress=bars,
        )
    written = [] if output is None else write_report(report, output)
    if as_json:
        print(json.dumps(report.to_json()))
        return
    print(*lines(report), sep="\n")
    if written:
        print(f"\nwritten: {', '.join(map(str, written))}")


def _open(spec: str, pairs: Path | None, model: OpenModel, options: dict[str, str]) -> VerificationSet:
    from train.evaluation.sets import names_list, open_verification

    whole = spec if pairs is None or names_list(spec) else f"{spec},{pairs}"
    with bar("reading faces", "photo") as told:
        return open_verification(whole, template=model.template, size=model.size, options=options, progress=told)


class _Bars:
    """One bar after the other."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._what = ""
        self._told: Callable[[int, int], Any] | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._told is None or self._what != what:
            self._what, self._told = what, self._open.enter_context(bar(what, "face"))
        self._told(done, total)
        if done == total:
            self._open.close()
            self._told = None
