"""Synthetic K-FACE trees for tests: the real layout, codes and annotation rules, and every kind of damage.

    write_tree(root, people=4, select=((1,), (1, 3), (1, 2, 3), (6, 7, 8, 9)), damage={...})

``damage`` names a person (``19062531``) or an image (``19062531/S001/L1/E01/C7.jpg``) and what is wrong with it, one of
``PERSON_DAMAGE`` or ``IMAGE_DAMAGE``. Written without the code under test.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.train.kface_faces import SIZES, Person, draw, face_box, landmarks

Codes = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]
"""Accessories, lights, expressions, cameras."""

TUTORIAL: Codes = ((1,), (1, 3), (1, 2, 3), (6, 7, 8, 9))
EVERYTHING: Codes = (range(1, 7), range(1, 31), range(1, 4), range(1, 21))

PERSON_DAMAGE = ("truncated", "not_a_zip", "twice", "copy", "cp949", "slip", "encrypted", "no_txt")
IMAGE_DAMAGE = (
    *("missing", "empty", "broken_jpg", "crc", "bomb", "lying_bomb", "encrypted", "twice", "other_size", "moved"),
    *("no_txt", "short_txt", "no_point", "no_face_box", "long_txt", "words_txt", "big_txt"),
    *("high_coordinates", "low_coordinates", "wild_coordinates", "out_of_frame"),
)

ANNOTATED_LIGHTS = (1, 3, 6, 7)
SEPARATORS = (" ", "\t", ",", ";")

HIDDEN = {
    **dict.fromkeys((1, 2), ("right eye", "right ear")),
    **dict.fromkeys((12, 13), ("left eye", "left ear")),
    **dict.fromkeys((3, 4, 5, 6, 14, 15, 19), ("right ear",)),
    **dict.fromkeys((8, 9, 10, 11, 17, 18, 20), ("left ear",)),
    **dict.fromkeys((7, 16), ()),
}
"""Camera -> parts that it does not see."""

RIGS = [
    f"{day}{rig}{shot}" for day in (190624, 190625, 190716, 190826, 191015) for rig in (1, 2, 3, 4) for shot in (1, 2)
]


def ids(count: int) -> tuple[str, ...]:
    """So many people, sorted."""
    more = (f"{200101 + day}{rig}{shot}" for day in range(1000) for rig in (1, 2, 3, 4) for shot in range(1, 6))
    return tuple(sorted((RIGS + [next(more) for _ in range(max(0, count - len(RIGS)))])[:count]))


def write_tree(
    root: Path,
    *,
    people: int | Sequence[str] = 4,
    select: Codes = TUTORIAL,
    resolution: Literal["High", "Middle", "Low"] = "Middle",
    form: Literal["zips", "zip_of_zips", "extracted"] = "zips",
    damage: Mapping[str, str] | None = None,
    nested: Literal["stored", "deflated"] = "stored",
    full: bool = False,
) -> tuple[str, ...]:
    """Write a tree and give its people.

    ``full``: all 10,800 images a person and 240 annotations are there; those outside of ``select`` are copies of its
    first image of the same camera, so that it is quick.
    """
    names = ids(people) if isinstance(people, int) else tuple(people)
    wrong = dict(damage or {})
    assert set(wrong.values()) <= {*PERSON_DAMAGE, *IMAGE_DAMAGE}, wrong
    home = root / f"{resolution}_Resolution"
    home.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        members = list(_members(name, number, select, resolution, wrong, full))
        if form == "extracted":
            for member, content in members:
                path = home / name / member
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        else:
            _write_zips(home, name, members, wrong)
    if form == "zip_of_zips":
        _nest(home, zipfile.ZIP_STORED if nested == "stored" else zipfile.ZIP_DEFLATED)
    return names


def _members(
    name: str, number: int, select: Codes, resolution: str, wrong: Mapping[str, str], full: bool
) -> Iterator[tuple[str, bytes]]:
    """(``S001/L1/E01/C7.jpg``, content) and annotations, as they are to be stored."""
    person = Person(int(name))
    style = (SEPARATORS[number % 4], "\r\n" if number % 2 else "\n", "\ufeff" if number % 5 == 4 else "")
    wanted = set(product(*select))
    spare: dict[int, bytes] = {}
    for codes in product(*EVERYTHING) if full else product(*select):
        accessory, light, expression, camera = codes
        member = f"S{accessory:03d}/L{light}/E{expression:02d}/C{camera}"
        kind = wrong.get(f"{name}/{member}.jpg", "")
        if codes in wanted or camera not in spare:
            jpeg = _jpeg(person, codes, resolution, kind)
            spare.setdefault(camera, jpeg)
        else:
            jpeg = spare[camera]
        if kind != "missing":
            yield f"{member}.jpg", jpeg
        if kind == "twice":
            yield f"{member}.jpg", _jpeg(person, (1, 1, 2, camera), resolution, "")
        annotated = accessory == 1 and light in ANNOTATED_LIGHTS
        if annotated and kind != "no_txt" and wrong.get(name) != "no_txt":
            yield f"{member}.txt", annotation(person, camera, resolution, style, kind)


def _jpeg(person: Person, codes: tuple[int, int, int, int], resolution: str, kind: str) -> bytes:
    if kind == "other_size":
        resolution = "High" if resolution != "High" else "Low"
    image = draw(person, *codes, resolution, shift=14.0 if kind == "moved" else 0.0)
    content: bytes = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    if kind == "bomb":
        return bytes(64 << 20)
    if kind == "lying_bomb":
        return bytes(4 << 20)
    return {"empty": b"", "broken_jpg": content[: len(content) // 3]}.get(kind, content)


def annotation(person: Person, camera: int, resolution: str, style: tuple[str, str, str], kind: str = "") -> bytes:
    """The text of one image: seven points, then the boxes of what the camera sees."""
    middle_72 = landmarks(person, camera)
    if kind == "out_of_frame":
        middle_72 = middle_72 - (middle_72[1:3, 0].mean() + 20, 0)
    space = {"high_coordinates": "High", "low_coordinates": "Low"}.get(kind, resolution)
    scale = SIZES[space][0] / SIZES["Middle"][0] * (1.6 if kind == "wild_coordinates" else 1.0)
    x, y, side = face_box(middle_72, camera)
    boxes = {"face": (x, y, side, side)}
    parts = {"right eye": (1, 18, 13), "left eye": (2, 18, 13), "nose": (0, 18, 29), "mouth": (3, 34, 16)}
    parts |= {"right ear": (5, 35, 45), "left ear": (6, 35, 45)}
    for part, (point, width, height) in parts.items():
        if part not in HIDDEN[camera]:
            boxes[part] = (*(middle_72[point] - (width / 2, height / 2)), width, height)
    rows = [[round(value * scale) for value in row] for row in (*middle_72.tolist(), *boxes.values())]
    if kind == "short_txt":
        rows.pop()
    elif kind == "no_point":
        rows.pop(2)
    elif kind == "no_face_box":
        rows.pop(7)
    elif kind == "long_txt":
        rows.append(rows[-1])
    separator, ending, mark = style
    lines = [separator.join(map(str, row)) for row in rows]
    if kind == "words_txt":
        lines[3] = separator.join(("left", "mouth"))
    text = mark + ending.join(lines) + ending + ("1 2\n" * 40_000 if kind == "big_txt" else "")
    return text.encode()


def five_points(person_id: str, camera: int, resolution: str = "Middle") -> NDArray[np.float64]:
    """(5, 2): eyes, nose, mouth corners as an image shows them, before rounding to whole pixels."""
    scale = SIZES[resolution][0] / SIZES["Middle"][0]
    return landmarks(Person(int(person_id)), camera)[[1, 2, 0, 3, 4]] * scale


def _write_zips(home: Path, name: str, members: list[tuple[str, bytes]], wrong: Mapping[str, str]) -> None:
    kind = wrong.get(name, "")
    prefix = "안면데이터/" if kind == "cp949" else ""
    if kind == "slip":
        members = [*members, ("../../../escaped.jpg", members[0][1]), ("/etc/escaped.jpg", b"x")]
    content = pack([(prefix + member, data) for member, data in members])
    for member, _ in members:
        content = _patched(content, prefix + member, wrong.get(f"{name}/{member}", ""))
    if kind == "encrypted":
        for member, _ in members:
            content = _patched(content, member, kind)
    elif kind == "truncated":
        content = content[: len(content) * 2 // 3]
    elif kind == "not_a_zip":
        content = b"<html>please sign in to download</html>"
    (home / f"{name}.zip").write_bytes(content)
    if kind in ("twice", "copy"):
        second = content if kind == "copy" else pack(members[: len(members) // 2 * 2 - 2])
        (home / f"{name} (1).zip").write_bytes(second)


def pack(members: list[tuple[str, bytes]]) -> bytes:
    """A zip; names outside of ASCII stand in it as Korean Windows writes them, in cp949 without the flag of UTF-8."""
    buffer = io.BytesIO()
    swaps: list[tuple[bytes, bytes]] = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in members:
            plain = name
            if not name.isascii():
                korean = name.encode("cp949")
                plain = korean.decode("latin1").translate(dict.fromkeys(range(128, 256), "\x7f"))
                swaps.append((plain.encode(), korean))
            if plain in file.NameToInfo:
                file.NameToInfo.pop(plain)  # zipfile warns of a second member of a name
            file.writestr(zipfile.ZipInfo(plain), content, zipfile.ZIP_DEFLATED, compresslevel=1)
    data = buffer.getvalue()
    for before, after in dict(swaps).items():
        data = data.replace(before, after)
    return data


def _patched(content: bytes, member: str, kind: str) -> bytes:
    """A zip whose headers say of one member what is not so."""
    if kind not in ("crc", "lying_bomb", "encrypted"):
        return content
    data = bytearray(content)
    name = member.encode()
    central = data.rindex(name) - 46
    while data[central : central + 4] != b"PK\x01\x02":
        central = data.rindex(name, 0, central + 46) - 46
    local = struct.unpack_from("<I", data, central + 42)[0]
    for header, flags, crc, size in ((central, 8, 16, 24), (local, 6, 14, 22)):
        if kind == "encrypted":
            data[header + flags] |= 1
        elif kind == "crc":
            data[header + crc] ^= 0xFF
        else:
            struct.pack_into("<I", data, header + size, 1000)
    return bytes(data)


def _nest(home: Path, method: int) -> None:
    """Every zip of the folder into one zip beside it; the folder goes."""
    with zipfile.ZipFile(home.with_suffix(".zip"), "w", method) as file:
        for path in sorted(home.iterdir()):
            file.write(path, f"{home.name}/{path.name}")
            path.unlink()
    home.rmdir()
