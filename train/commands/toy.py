"""``python -m train toy``: the ArcFace paper's toy, eight people on a circle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engines.commands.shared import bar

if TYPE_CHECKING:
    from train.toy.circle import Circle
    from train.toy.faces import ToyFaces

PAPER: Final = "softmax,norm_softmax,arcface"


def register(app: typer.Typer) -> None:
    app.command("toy")(toy)


def toy(
    prepared: Annotated[
        Path, typer.Argument(metavar="SET", help="Prepared set; its people with the most crops are taken.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the pictures; made if it is not there.")],
    classes: Annotated[int, typer.Option(min=2, max=20, help="People.")] = 8,
    losses: Annotated[
        str, typer.Option(help="Any of softmax, norm_softmax, sphereface, cosface, arcface, cm1 and cm2.")
    ] = PAPER,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Of each loss.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and mirroring.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Train networks with two outputs and draw where each loss puts the faces it was trained on.

    Writes circles.png (faces and class centres), margins.png (who is decided for, between two classes) and
    logits.png (what each margin makes of the angle). On the processor, about a minute.
    """
    from train.prepared import open_prepared
    from train.toy.drawing import draw_circles, draw_decision_margins, draw_target_logits
    from train.toy.faces import toy_faces

    kinds = _kinds(losses)
    faces = toy_faces(open_prepared(prepared), classes)
    _made(out)
    written = [_written(out / "margins.png", draw_decision_margins())]
    written.append(_written(out / "logits.png", draw_target_logits()))
    circles = [_trained(faces, kind, epochs, seed) for kind in kinds]
    written.append(_written(out / "circles.png", draw_circles(circles, faces.subjects)))
    if as_json:
        print(json.dumps(_facts(faces, circles, written)))
        return
    print(f"{len(faces)} crops of {len(faces.subjects)} people, two numbers a face, {epochs} epochs\n")
    print(f"{'loss':<14}{'to own centre':>14}{'between centres':>17}{'own is nearest':>16}")
    for circle in circles:
        nearest = f"{100 * circle.nearest:.1f} %"
        print(f"{circle.kind:<14}{circle.own_deg:>13.1f}°{circle.apart_deg:>16.1f}°{nearest:>16}")
    print("\nwritten: " + ", ".join(map(str, written)))


def _kinds(text: str) -> list[str]:
    from train.toy.drawing import TITLES

    kinds = [kind.strip() for kind in text.split(",")]
    for kind in kinds:
        if kind not in TITLES:
            raise typer.BadParameter(f"{kind!r}; known are {', '.join(TITLES)}", param_hint="--losses")
    return list(dict.fromkeys(kinds))


def _trained(faces: ToyFaces, kind: str, epochs: int, seed: int) -> Circle:
    from train.settings import LossSettings
    from train.toy.circle import train_circle

    loss = LossSettings.model_validate({"kind": kind})
    with bar(kind, "step") as told:
        return train_circle(faces, loss, epochs=epochs, seed=seed, progress=told)


def _made(out: Path) -> None:
    from train.errors import TrainError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise TrainError(f"{out}: cannot be made a folder ({err.strerror}); name another one") from err


def _written(path: Path, content: bytes) -> Path:
    from engines.export import write_atomically
    from train.errors import TrainError

    try:
        write_atomically(path, content)
    except OSError as err:
        raise TrainError(f"{path}: cannot be written ({err.strerror}); choose another place") from err
    return path


def _facts(faces: ToyFaces, circles: list[Circle], written: list[Path]) -> dict[str, Any]:
    return {
        "subjects": list(faces.subjects),
        "crops": len(faces),
        "losses": {
            circle.kind: {
                "own_deg": circle.own_deg,
                "apart_deg": circle.apart_deg,
                "nearest": circle.nearest,
            }
            for circle in circles
        },
        "written": [str(path) for path in written],
    }
