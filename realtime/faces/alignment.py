"""The only place that knows a geometric template: where a face's points have to lie for a network.

Enters: an RGB image and dlib's 5 or 68 points of one face. Leaves: the square crop that a model's manifest names.
A network is only as good as the crop it was trained on: the same model reaches 99.33 % on LFW with ``arcface_112`` and
73.1 % with ``eyes_112``, so no caller chooses a template by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.records import RGB_HW3

# P points, 2 = x, y in pixels; "left" and "right" are the image's
Points_P2 = NDArray[np.float64]

FIVE_OF_68: Final = (45, 42, 36, 39, 33)
"""dlib's 5 points among its 68: outer and inner corner of the right eye, of the left eye, base of the nose."""


@dataclass(frozen=True, slots=True)
class Template:
    """Where points lie in a crop of ``size`` x ``size`` pixels."""

    size: int
    from_5: Points_P2
    """Targets of the points that ``pick_5`` takes from dlib's 5."""
    from_68: Points_P2
    """Targets of the points that ``pick_68`` takes from dlib's 68."""
    pick_5: tuple[tuple[int, ...], ...]
    """One source point each: the mean of the named points."""
    pick_68: tuple[tuple[int, ...], ...]
    cubic: bool = False
    dlib_corners: bool = False
    """Sample as dlib's extract_image_chip does; see ``_to_dlib_corners``."""


EACH_OF_5: Final = tuple((index,) for index in range(5))
LEFT_EYE_68: Final = tuple(range(36, 42))
RIGHT_EYE_68: Final = tuple(range(42, 48))


def _dlib_chip(size: int, padding: float) -> Points_P2:
    """dlib's get_face_chip_details: the mean face's 5 points, in units of the unpadded chip
    (image_transforms/interpolation.h)."""
    mean_face = [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
    return (np.array(mean_face) + padding) / (2 * padding + 1) * size


ARCFACE_FIVE: Final = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""Left eye, right eye, nose tip, left and right mouth corner at 112x112: insightface's reference points."""

ARCFACE_FROM_DLIB_5: Final = np.array(
    [(80.212, 52.763), (66.448, 53.198), (31.598, 53.030), (45.364, 53.316), (56.047, 79.638)]
)
"""dlib's 5 points in ArcFace's frame: mean over 7,678 LFW faces aligned by their 68 points (s.d. 1.4 - 2.5 px)."""

EYES_AT: Final = np.array([(0.35, 0.35), (0.65, 0.35)]) * 112
"""imutils' FaceAligner with desiredLeftEye (.35, .35) and 112 pixels: eye centres, left then right."""


def dlib_chip(padding: float) -> Template:
    """dlib's chip with so much of the unpadded chip's side around it; its descriptor was trained at 0.25."""
    points_P2 = _dlib_chip(150, padding)
    return Template(
        size=150,
        from_5=points_P2,
        from_68=points_P2,
        pick_5=EACH_OF_5,
        pick_68=tuple((index,) for index in FIVE_OF_68),
        dlib_corners=True,
    )


TEMPLATES: Final[dict[str, Template]] = {
    "dlib_chip_150": dlib_chip(0.25),
    "arcface_112": Template(
        size=112,
        from_5=ARCFACE_FROM_DLIB_5,
        from_68=ARCFACE_FIVE,
        pick_5=EACH_OF_5,
        pick_68=(LEFT_EYE_68, RIGHT_EYE_68, (30,), (48,), (54,)),
    ),
    "eyes_112": Template(
        size=112,
        from_5=EYES_AT,
        from_68=EYES_AT,
        pick_5=((2, 3), (0, 1)),
        pick_68=(LEFT_EYE_68, RIGHT_EYE_68),
        cubic=True,
    ),
}


def template_named(name: str) -> Template:
    """Raises ValueError naming the known templates."""
    if name not in TEMPLATES:
        raise ValueError(f"alignment template {name!r} is not known; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def five_points(points_P2: NDArray[Any]) -> NDArray[Any]:
    """dlib's 5 points, whichever predictor gave them."""
    five: NDArray[Any] = points_P2[list(FIVE_OF_68)] if len(points_P2) == 68 else points_P2
    return five


def similarity(from_P2: Points_P2, to_P2: Points_P2) -> NDArray[np.float64]:
    """Least-squares rotation, scale and shift (2, 3) that takes ``from_P2`` to ``to_P2`` (Umeyama 1991, no reflection).

    In the complex plane a similarity is ``w = a z + b``, so least squares is one division.
    """
    z_P = from_P2[:, 0] + 1j * from_P2[:, 1]
    w_P = to_P2[:, 0] + 1j * to_P2[:, 1]
    centred_P = z_P - z_P.mean()
    spread = float(np.vdot(centred_P, centred_P).real)
    a = np.vdot(centred_P, w_P - w_P.mean()) / spread if spread > 0 else complex(1)
    b = w_P.mean() - a * z_P.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def alignment_matrix(points_P2: NDArray[Any], template: Template) -> NDArray[np.float64]:
    """Image pixels -> crop pixels, (2, 3).

    Raises:
        ValueError: neither 5 nor 68 points.
    """
    if points_P2.shape not in ((5, 2), (68, 2)):
        raise ValueError(f"points must have shape (5, 2) or (68, 2), but got {points_P2.shape}")
    few = len(points_P2) == 5
    picks, targets = (template.pick_5, template.from_5) if few else (template.pick_68, template.from_68)
    sources = np.array([points_P2[list(pick)].mean(axis=0) for pick in picks], dtype=np.float64)
    matrix_23 = similarity(sources, targets)
    return _to_dlib_corners(matrix_23, template.size) if template.dlib_corners else matrix_23


def _to_dlib_corners(matrix_23: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """dlib fits in a frame of ``size`` pixels, takes a rectangle one *image* pixel smaller around the same centre, and
    lays its corners on the centres of the first and last chip pixel (image_transforms/interpolation.h)."""
    scale = float(np.hypot(matrix_23[0, 0], matrix_23[1, 0]))
    factor = (size - 1) / max(size - scale, 1.0)  # points within a pixel of each other: not turned over
    out = matrix_23 * factor
    out[:, 2] += (size - 1) / 2 - factor * size / 2
    return out


def align(rgb_HW3: RGB_HW3, points_P2: NDArray[Any], template: str | Template, *, margin_px: int = 0) -> RGB_HW3:
    """Warp one face upright into its template; outside of the image is black.

    Args:
        rgb_HW3: uint8 image.
        points_P2: dlib's 5 or 68 points, pixels of that image.
        template: name in ``TEMPLATES``, or one of the caller's own.
        margin_px: what to show of the surroundings, crop pixels at each side; a gallery keeps its crops so.

    Returns:
        (S, S, 3) uint8, S the template's size plus both margins.
    """
    wanted = template_named(template) if isinstance(template, str) else template
    matrix_23 = alignment_matrix(points_P2, wanted)
    scale = float(np.hypot(matrix_23[0, 0], matrix_23[1, 0]))
    image, matrix_23 = _shrink(rgb_HW3, points_P2, matrix_23, scale)
    matrix_23 = matrix_23 + np.array([[0, 0, margin_px], [0, 0, margin_px]])
    side = wanted.size + 2 * margin_px
    flags = cv2.INTER_CUBIC if wanted.cubic else cv2.INTER_LINEAR
    crop: RGB_HW3 = cv2.warpAffine(image, matrix_23, (side, side), flags=flags)  # type: ignore[assignment]
    return crop


def _shrink(
    rgb_HW3: RGB_HW3, points_P2: NDArray[Any], matrix_23: NDArray[np.float64], scale: float
) -> tuple[RGB_HW3, NDArray[np.float64]]:
    """Average a face that is more than twice its crop down first: bilinear sampling alone would alias."""
    steps = int(np.floor(np.log2(1 / scale))) if 0 < scale < 0.5 else 0
    if steps <= 0:
        return rgb_HW3, matrix_23
    factor = 2**steps
    reach = 3 * float(np.ptp(points_P2, axis=0).max())
    low = np.floor((points_P2.min(axis=0) - reach).clip(0)).astype(int)
    high = np.ceil(points_P2.max(axis=0) + reach).astype(int)
    region = rgb_HW3[low[1] : high[1], low[0] : high[0]]
    height, width = max(1, region.shape[0] // factor), max(1, region.shape[1] // factor)
    if region.size == 0:
        return rgb_HW3, matrix_23
    region = region[: height * factor, : width * factor]
    small = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA)
    # pixel centres: x = low + factor * (u + 1/2) - 1/2
    shift = low + (factor - 1) / 2
    moved = matrix_23.copy()
    moved[:, 2] += matrix_23[:, :2] @ shift
    moved[:, :2] *= factor
    return small, moved  # type: ignore[return-value]
