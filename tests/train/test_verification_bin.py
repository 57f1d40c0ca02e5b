"""insightface's .bin: every way in which it was ever pickled, and every way in which it may hurt."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engines.verification.packed import pack
from engines.verification.pairs import compare
from tests.paths import SHARED, needs_shared
from train.errors import DataError
from train.recordio.pickles import MAX_BYTES
from train.recordio.verification_bin import BinSet, read_bin, write_bin

PROTOCOLS = range(6)


def image(value: int, size: int = 112) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (size, size), (value, 0, 255 - value)).save(content, "PNG")
    return content.getvalue()


IMAGES = [image(0), image(1), image(2), image(3)]


def arrays(images: list[bytes]) -> list[Any]:
    return [np.frombuffer(content, dtype=np.uint8).reshape(-1, 1) for content in images]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "lfw.bin"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [list, arrays, lambda images: [array.copy() for array in arrays(images)]])
@pytest.mark.parametrize("truths", [[True, False], [1, 0], [np.True_, np.False_], np.array([True, False])])
def test_every_way_of_writing(tmp_path: Path, protocol: int, kind: Any, truths: Any) -> None:
    content = read_bin(written(tmp_path, pickle.dumps((kind(IMAGES), truths), protocol=protocol)))
    assert content.images == tuple(IMAGES)
    assert content.mated_P.tolist() == [True, False]


def in_python_2(protocol: int) -> bytes:
    """([b"\\xff\\xd8'\\n", b""], [True]) as Python 2 wrote it, where bytes were text."""
    if protocol == 0:
        return b"((lp0\nS\"\\xff\\xd8'\\n\"\np1\naS''\np2\na(lp3\nI01\natp4\n."
    return b"\x80\x02]q\x01(U\x04\xff\xd8'\nq\x02U\x00q\x03e]q\x04\x88a\x86q\x05."


@pytest.mark.parametrize("protocol", [0, 2])
def test_files_of_python_2(tmp_path: Path, protocol: int) -> None:
    content = in_python_2(protocol)
    assert pickle.loads(content, encoding="bytes") == ([b"\xff\xd8'\n", b""], [True])
    assert read_bin(written(tmp_path, content)).images == (b"\xff\xd8'\n", b"")


def test_written_and_read(tmp_path: Path) -> None:
    pairs = [(IMAGES[0], IMAGES[1], True), (IMAGES[0], IMAGES[2], False)]
    path = tmp_path / "own.bin"
    assert write_bin(path, iter(pairs)) == 2
    content = read_bin(path)
    assert list(zip(content.images[::2], content.images[1::2], content.mated_P.tolist(), strict=True)) == pairs
    assert pickle.loads(path.read_bytes()) == ([IMAGES[0], IMAGES[1], IMAGES[0], IMAGES[2]], [True, False])
    with pytest.raises(DataError, match="no pairs to write"):
        write_bin(path, [])
    with pytest.raises(DataError, match="cannot be written"):
        write_bin(tmp_path / "nowhere" / "own.bin", pairs)


class Runs:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.place}",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "within",
    [
        lambda evil: evil,
        lambda evil: ([evil, b""], [True]),
        lambda evil: ([np.array([evil, evil], dtype=object), b""], [True]),
        lambda evil: ([b"", b""], [evil]),
    ],
)
def test_an_exploit_is_not_run(tmp_path: Path, protocol: int, within: Any) -> None:
    path = written(tmp_path, pickle.dumps(within(Runs(tmp_path / "ran")), protocol=protocol))
    with pytest.raises(DataError, match=r"asks to run or build (posix|nt)\.system"):
        read_bin(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02c_codecs\nencode\n\x81.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02\x82\x01.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.",
    ],
    ids=["eval", "INST", "NEWOBJ", "persistent", "extension", "dotted", "numpy.load"],
)
def test_other_ways_of_running_something(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="asks to run or build"):
        read_bin(written(tmp_path, content))


ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
KIND = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R\x89C\x00tb."
"""An array's pickle, to put a shape between the two."""


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04Nr\xff\xff\xff\x7f.",
        b"\x80\x04Np2147483647\n.",
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x00N.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0fN.",
        b"\x80\x05\x96" + b"\xff" * 7 + b"\x0fN.",
        ARRAY + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85" + KIND,
        ARRAY + b"C\x09999999999\x8a\x05\x00\x00\x00\x00\x01\x86" + KIND,
        ARRAY + b"(" + b"K\x01" * 65 + b"t" + KIND,
        b"\x80\x02cnumpy\ndtype\n" + b"]" * 100 + b"a" * 99 + b"\x85R.",
        b"N" + b"\x85" * 1_000_000 + b".",
        b"\x80\x02cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.",
        b"\x80\x02c_codecs\nencode\nK\x01b.",
        b"\x80\x02c_codecs\nencode\nN(K\x01K\x02\x86\x86b.",
        b"\x80\x02cnumpy\ndtype\nNK\x01b.",
        b"\x80\x02}.",
        b"\x80\x09N.",
        b"\x80\x02]h\x07.",
        b"N",
        b"\x00",
        b"I" + b"9" * 5000 + b"\n.",
    ],
)
def test_bombs_and_nonsense_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"is no pickle of face pairs|is no verification set"):
        read_bin(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "two lists are expected"),
        (([], []), "something else in them"),
        (([b"", "text"], [True]), "something else in them"),
        (([b"", np.zeros(3)], [True]), "is no pickle of face pairs"),
        (([b"", b""], [2]), "something else in them"),
        (([b"", b"", b""], [True]), "3 images for 1 pairs"),
        (b"bytes", "two lists are expected"),
        ((1, 2), "something else in them"),
    ],
)
def test_pickles_of_other_things(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_bin(written(tmp_path, pickle.dumps(content)))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_bin(tmp_path / "lfw.bin")
    with pytest.raises(DataError, match="has 0 bytes"):
        read_bin(written(tmp_path, b""))
    with (tmp_path / "lfw.bin").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="copy the file again"):
        read_bin(tmp_path / "lfw.bin")


@settings(deadline=None, max_examples=300)
@given(
    protocol=st.integers(0, 5),
    plain=st.booleans(),
    damage=st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 60),
)
def test_damage_is_named_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, protocol: int, plain: bool, damage: list[tuple[int, int]], cut: int
) -> None:
    images = [b"\xff\xd8 one", b"two \n", b"", b"\0\x80"]
    content = bytearray(pickle.dumps((images if plain else arrays(images), [True, False]), protocol=protocol))
    for place, value in damage:
        content[place % len(content)] = value
    with contextlib.suppress(DataError):
        read_bin(written(tmp_path_factory.mktemp("b"), bytes(content[: len(content) - cut])))


def content_of(folder: Path, pairs: list[tuple[int, int, bool]]) -> BinSet:
    write_bin(folder / "own.bin", [(image(one), image(two), same) for one, two, same in pairs])
    return read_bin(folder / "own.bin")


def test_photos_are_there_once_and_people_as_far_as_pairs_tell(tmp_path: Path) -> None:
    photos = content_of(tmp_path, [(0, 1, True), (1, 2, True), (3, 0, False), (4, 5, False)]).photos()
    assert photos.names == ("000000", "000001", "000003", "000004", "000006", "000007")
    assert photos.people == ("p000000", "p000000", "p000000", "p000004", "p000006", "p000007")
    assert photos.pairs().photos[2:] == (("000004", "000000"), ("000006", "000007"))
    assert photos.pairs().people[2] == ("p000004", "p000000")


def test_pairs_that_contradict_each_other_stay_what_the_file_says(tmp_path: Path) -> None:
    content = content_of(tmp_path, [(0, 1, True), (1, 2, True), (2, 0, False)])
    photos = content.photos()
    assert len(photos.names) == 6
    assert [one == two for one, two in photos.pairs().people] == [True, True, False]


@pytest.mark.parametrize(
    ("pairs", "sizes"), [(10, [1] * 10), (23, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]), (600, [60] * 10), (9, [9])]
)
def test_folds_are_those_of_insightface(tmp_path: Path, pairs: int, sizes: list[int]) -> None:
    content = BinSet(path=tmp_path, images=(b"",) * (2 * pairs), mated_P=np.ones(pairs, dtype=np.bool_))
    assert np.bincount(content.photos().pairs().folds_T).tolist() == sizes


def test_through_the_engines_own_comparison(tmp_path: Path) -> None:
    """Crops by ``pack``, pairs by ``compare``: mated pairs are as in the file, a photo that fails never matches."""
    truths = [(0, 1, True), (2, 3, False), (4, 5, True)]
    write_bin(
        tmp_path / "own.bin",
        [(image(one), image(two, 100 if two == 5 else 112), same) for one, two, same in truths],
    )
    photos = read_bin(tmp_path / "own.bin").photos()
    packed = pack(photos, range(len(photos.names)), 112, tmp_path / "crops", lambda done, total: None)
    assert packed.failures == {"000005": "is not an aligned crop (has 100x100 pixels, not 112x112)"}
    assert packed.faces_NSS3[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    found = compare(photos.pairs(), packed.names, packed.failures, np.eye(5, 8, dtype=np.float32))
    assert found.mated_T.tolist() == [True, False, True]
    assert found.distances_T.tolist() == [2, 2, np.inf]


class TestOfInsightface:
    pytestmark = needs_shared

    def test_a_real_file(self) -> None:
        path = SHARED / "lfw" / "small_lfw.bin"
        images, truths = pickle.loads(path.read_bytes(), encoding="bytes")
        content = read_bin(path)
        assert content.images == tuple(array.tobytes() for array in images)
        assert content.mated_P.tolist() == truths
        photos = content.photos()
        assert len(photos.names) == 17
        assert all(np.shape(photos.crop(row)) == (112, 112, 3) for row in range(17))
