"""``python -m train invert``: what a model gives away of the faces it knows. Opt-in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engines.commands.shared import bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from train.inversion.audit import Aim
    from train.runs import Run

MAX_EMBEDDING_BYTES: Final = 1 << 16


def register(app: typer.Typer) -> None:
    app.command("invert")(invert)


def invert(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run of your own.")],
    output: Annotated[Path, typer.Option(metavar="GRID.png", help="Where the pictures go.")],
    subject: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A subject that the run was trained on; may be repeated.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Somebody's photo, or a crop: what can be drawn from its embedding?")
    ] = None,
    embedding: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="An embedding of this network, as out of a gallery.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option("--set", metavar="SET", help="Prepared set to show real faces of the subjects from.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="The paper takes 20,000; a few hundred show colours.")] = 2000,
    images: Annotated[int, typer.Option(min=1, max=64, help="Pictures of each, from different noise.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    i_understand: Annotated[
        bool, typer.Option("--i-understand", help="That this draws faces of people; needed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """See which faces can be drawn out of a model's weights, before the model is published.

    A leak audit for models of your own, after the ArcFace paper's model inversion. Closed set: --subject. Open set:
    --photo or --embedding. A high cosine says that the network takes the picture for the person, not yet that a human
    would: look at the pictures. Ctrl-C writes what there is.
    """
    from engines.export import write_wanted
    from train.errors import ConfigError
    from train.inversion.audit import WARNING, audit, grid
    from train.runs import open_run
    from train.sharding.ranks import Ranks

    if not i_understand:
        raise ConfigError(f"{WARNING} To go on, add --i-understand")
    if sum(map(bool, (subject, photo, embedding))) != 1:
        raise ConfigError("give one of --subject (also several times), --photo and --embedding")
    print(f"train: {WARNING}", file=sys.stderr)
    opened = open_run(run)
    opened.module.to(Ranks.from_environment(device).device)
    aim = _aim(opened, subject or [], photo, embedding, prepared, images)
    with bar("drawing", "step") as told:
        result = audit(opened, aim, steps=steps, seed=seed, progress=told)
    write_wanted(output, grid(result))
    facts = {**result.to_json(), "written": str(output)}
    if as_json:
        print(json.dumps(facts))
        return
    stopped = ", stopped" if result.found.stopped else ""
    print(f"{aim.kind}, {facts['steps']} steps{stopped}: cosine to the target")
    for name, own in facts["people"].items():
        reached = " ".join(f"{cosine:.2f}" for cosine in own["cosines"])
        began = max(own["noise_cosines"])
        print(f"  {ascii(name)[1:-1]}: {reached} (noise at most {began:.2f})")
    print(f"written: {output}")


def _aim(
    run: Run, subjects: list[str], photo: Path | None, embedding: Path | None, prepared: Path | None, images: int
) -> Aim:
    from train.inversion.audit import aim_at_embedding, aim_at_subjects
    from train.prepared import open_prepared

    if photo is not None:
        face_SS3 = _face(run, photo)
        return aim_at_embedding(run, photo.name, _embedded(run, face_SS3), images, face_SS3)
    if embedding is not None:
        return aim_at_embedding(run, embedding.name, _read(embedding), images, None)
    held = None if prepared is None else open_prepared(prepared)
    return aim_at_subjects(run, list(dict.fromkeys(subjects)), images, held)


def _face(run: Run, photo: Path) -> NDArray[np.uint8]:
    """The photo's face, aligned as the run's crops are."""
    from engines.verification.faces import read_faces
    from train.errors import DataError

    if not photo.is_file():
        raise DataError(f"{photo}: no such photo")
    faces = read_faces(photo.parent, template=run.template, size=run.size, only=(photo.stem,))
    for face_SS3, name in zip(faces.faces_NSS3, faces.names, strict=True):
        if name == photo.name:
            face: NDArray[np.uint8] = face_SS3
            return face
    raise DataError(f"{photo}: gives no face ({faces.failures.get(photo.name, 'none found')}); take another photo")


def _embedded(run: Run, face_SS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    from train.fit.embedding import embedder

    embed = embedder(run.module, next(run.module.parameters()).device)
    embedding_D: NDArray[np.float32] = embed(face_SS3[None])[0]
    return embedding_D


def _read(path: Path) -> NDArray[np.float32]:
    import numpy as np

    from train.errors import DataError

    try:
        if path.stat().st_size > MAX_EMBEDDING_BYTES:
            raise DataError(f"{path}: too large for an embedding; save one with numpy.save")
        found = np.load(path, allow_pickle=False)
        return np.asarray(found, dtype=np.float32).reshape(-1)
    except (OSError, ValueError, EOFError, TypeError) as err:
        raise DataError(f"{path}: is no array of numbers ({err}); save one with numpy.save") from err
