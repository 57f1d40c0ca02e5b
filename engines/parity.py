"""A quick look at whether a runtime answers as the reference does, before ``auto`` trusts it.

Enters: two sessions of one model. Leaves: a ``Verdict`` on drawn faces. Real faces and error rates are the business of
``python -m engines verify``; this catches a runtime that is broken for a model, on the first start, in a second.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.export import ModelFile
from engines.runtimes import REFERENCE, Row, Session, runtime_module
from engines.verdicts import COSINE_FLOORS, Verdict

PROBES: Final = 4
"""Drawn faces; each costs the reference one embedding."""


def judge(model: ModelFile, row: Row, session: Session, version: str) -> Verdict:
    """Compare ``session``, opened for ``row``, with the reference on drawn faces.

    Raises:
        EngineError: one of the two failed.
    """
    faces_NSS3 = drawn_faces(model.manifest.input_size)
    runtime, precision = REFERENCE
    reference = runtime_module(runtime).open_session(model.content, model.where, precision=precision, threads=1)
    try:
        cosine = float(cosines(session.run(faces_NSS3), reference.run(faces_NSS3)).min())
    finally:
        reference.close()
    floor = COSINE_FLOORS[row.precision]
    passed = bool(cosine >= floor)
    return Verdict(
        model_sha256=model.sha256,
        runtime=row.runtime,
        version=version,
        precision=row.precision,
        passed=passed,
        reason=f"smallest cosine to {' '.join(REFERENCE)} {cosine:.6f} on {PROBES} drawn faces, {floor} needed",
        figures={"cosine_min": cosine if np.isfinite(cosine) else 0.0},
    )


def cosines(first_ND: NDArray[np.float32], second_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) cosine of each row with its counterpart; not-a-number where one is not a number or has no length."""
    first, second = first_ND.astype(np.float64), second_ND.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths_N = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(np.einsum("nd,nd->n", first, second) / lengths_N)


def drawn_faces(size: int, count: int = PROBES) -> NDArray[np.uint8]:
    """(count, size, size, 3) RGB: an oval with eyes, nose and mouth, each time otherwise; the same at every call."""
    random = np.random.default_rng(112)
    rows_SS, columns_SS = np.mgrid[0:size, 0:size] / size

    def spot(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-(((columns_SS - x) / width) ** 4) - ((rows_SS - y) / height) ** 4))

    faces = []
    for _ in range(count):
        skin_3, background_3, dark_3 = random.uniform(90, 240, 3), random.uniform(0, 255, 3), random.uniform(0, 80, 3)
        x, y = random.uniform(0.46, 0.54, 2)
        eyes = spot(x - 0.17, y - 0.04, 0.08, 0.035) + spot(x + 0.17, y - 0.04, 0.08, 0.035)
        dark = np.clip(eyes + spot(x, y + 0.35, 0.16, 0.03) + 0.4 * spot(x, y + 0.15, 0.05, 0.05), 0, 1)[..., None]
        oval = spot(x, y + 0.08, 0.4, 0.52)[..., None]
        light = 1 + random.uniform(-0.3, 0.3) * (columns_SS - 0.5)[..., None]
        face = (oval * skin_3 + (1 - oval) * background_3) * (1 - dark) * light + dark * dark_3
        faces.append(np.clip(face + random.normal(0, 6, face.shape), 0, 255).astype(np.uint8))
    return np.stack(faces)
