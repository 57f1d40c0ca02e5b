"""Names of any script become labels, and no string can break the drawing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.errors import SettingsError
from realtime.show import typefaces
from realtime.show.text import ELLIPSIS, MAX_CHARACTERS, Label, Lettering, paste, readable
from realtime.show.typefaces import SHIPPED, Typeface, Typefaces, covered

FONTS = Path(typefaces.__file__).parent / "fonts"
WHITE, GREEN = (255, 255, 255), (0, 110, 80)
LETTERING = Lettering()


def label(text: str, **more: object) -> Label:
    return LETTERING.label(text, **{"size_px": 20, "ink": WHITE, "paper": GREEN, **more})  # type: ignore[arg-type]


def ink(drawn: Label) -> int:
    return int((drawn.rgb[..., 0] > 128).sum())


@pytest.mark.parametrize(
    "name",
    [
        "Eileen Collins",
        "김민준",
        "Ольга",
        "Ελένη",
        "محمد",
        "שרה",
        "नरेन्द्र",
        "สมชาย",
        "さくら",
        "Nguyễn Łukasz",
    ],
)
def test_every_letter_of_a_name_has_a_shipped_glyph(name: str) -> None:
    shipped = [Typeface(FONTS / file) for file in SHIPPED]
    assert [letter for letter in name if not any(face.has(letter) for face in shipped)] == []
    assert ink(label(name)) > 20


def test_scripts_are_drawn_and_not_boxes() -> None:
    """Two Hangul names of two syllables differ; two names that no font has look the same."""
    assert not np.array_equal(label("김민").rgb, label("박준").rgb)
    assert np.array_equal(label("\U000f0001").rgb, label("\U000f0002").rgb)


def test_arabic_is_joined_and_runs_from_right_to_left() -> None:
    joined, apart = label("بب").width, label("ب\u200cب").width
    assert joined < apart, "two joined letters are narrower than two that stand alone"
    tall = label("اااا ب", size_px=40).rgb[:24, :, 0].max(axis=0) > 128  # of the two letters only alef is tall
    assert tall[len(tall) // 2 :].sum() > 3 * tall[: len(tall) // 2].sum(), "what is said first stands right"


def test_a_name_of_two_scripts_takes_two_fonts_on_one_line() -> None:
    both = label("김 محمد Ana")
    assert both.height == label("Ana").height
    assert ink(both) > ink(label("김 Ana"))


def test_long_names_end_in_an_ellipsis_within_the_width() -> None:
    short = label("x" * 10_000, max_width_px=200)
    assert short.width <= 200
    assert label("Bartholomew Featherstonehaugh", max_width_px=120).width <= 120
    assert label("Ana", max_width_px=200).width < 60
    assert len(readable("x" * 10_000)) == MAX_CHARACTERS + len(ELLIPSIS)


def test_controls_become_marks_and_direction_overrides_vanish() -> None:
    assert readable("a\x00b\nc\u202ed\ud800") == "a\ufffdb cd\ufffd"
    assert readable("e\u0301") == "é"


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(), max_size=40), st.integers(8, 40), st.integers(1, 300) | st.none())
def test_any_text_draws_within_its_width(text: str, size_px: int, max_width_px: int | None) -> None:
    drawn = label(text, size_px=size_px, max_width_px=max_width_px)
    assert drawn.rgb.dtype == np.uint8
    assert drawn.width > 0
    if max_width_px is not None:
        ellipsis = label(ELLIPSIS, size_px=size_px).width
        assert drawn.width <= max(max_width_px, ellipsis) + 1


def test_a_label_is_drawn_once() -> None:
    assert label("once") is label("once")
    assert label("once") is not label("once", size_px=21)


def test_old_labels_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.show.text.CACHED_LABELS", 3)
    lettering = Lettering()
    kept = [lettering.label(str(n), size_px=9, ink=WHITE, paper=GREEN) for n in range(5)]
    assert lettering.label("4", size_px=9, ink=WHITE, paper=GREEN) is kept[4]
    assert lettering.label("0", size_px=9, ink=WHITE, paper=GREEN) is not kept[0]


@given(st.integers(-90, 90), st.integers(-60, 60))
def test_pasting_cuts_at_the_edges(x: int, y: int) -> None:
    canvas = np.full((40, 60, 3), 200, np.uint8)
    drawn = label("edge")
    larger = np.full((40 + 240, 60 + 240, 3), 200, np.uint8)
    paste(canvas, drawn, x, y)
    paste(larger, drawn, x + 120, y + 120)
    assert np.array_equal(canvas, larger[120:160, 120:180])


def test_a_half_clear_plate_mixes_with_what_is_behind() -> None:
    canvas = np.full((60, 200, 3), 200, np.uint8)
    paste(canvas, label("", paper=(0, 0, 0), opacity=0.5, size_px=40), 0, 0)
    assert abs(int(canvas[25, 10, 0]) - 100) <= 2
    assert (canvas[:, 150:] == 200).all()


@pytest.mark.parametrize(
    "content", [None, b"", b"not a font", b"\x00\x01\x00\x00\x00\x09" + b"\xff" * 400, b"ttcf" + b"\xff" * 60]
)
def test_a_font_that_is_none_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    font = tmp_path / "mine.ttf"
    if content is not None:
        font.write_bytes(content)
    with pytest.raises(SettingsError, match=r"show\.font: .*mine\.ttf cannot be used as a font"):
        Lettering(str(font))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 3000), value=st.integers(0, 255), cut=st.integers(0, 20_000))
def test_a_damaged_font_is_an_error_and_no_crash(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int
) -> None:
    data = bytearray((FONTS / "NotoSansHebrew-Regular.ttf").read_bytes())
    data[at] = value
    font = tmp_path_factory.mktemp("fonts") / "damaged.ttf"
    font.write_bytes(data[: len(data) - cut])
    try:
        covered(font)
    except ValueError:
        return


def test_the_users_font_is_asked_first() -> None:
    hebrew = FONTS / "NotoSansHebrew-Regular.ttf"
    faces = Typefaces(str(hebrew))
    assert faces.first.path == hebrew
    hangul = faces.of("김")
    assert hangul is not None
    assert hangul.path.name == "NotoSansCJKkr-Hangul.otf"


def test_coverage_is_what_the_font_says() -> None:
    latin = covered(FONTS / "NotoSans-Regular.ttf")
    assert {ord("A"), ord("ß"), ord("Ж"), ord("Ω"), ord("ễ")} <= latin
    assert not {ord("김"), ord("ب"), 0x1F600} & latin
    assert ord(" ") in latin
    assert sum(0xAC00 <= code <= 0xD7A3 for code in covered(FONTS / "NotoSansCJKkr-Hangul.otf")) == 11_172


def test_a_glyph_without_an_outline_is_no_glyph(tmp_path: Path) -> None:
    """Some fonts map characters to nothing; a name must not be drawn with holes."""
    data = bytearray((FONTS / "NotoSansHebrew-Regular.ttf").read_bytes())
    tables = {bytes(data[at : at + 4]): int.from_bytes(data[at + 8 : at + 12], "big") for at in range(12, 400, 16)}
    wide = 4 if data[tables[b"head"] + 51] else 2
    end = tables[b"loca"] + wide * (1 + int.from_bytes(data[tables[b"maxp"] + 4 : tables[b"maxp"] + 6], "big"))
    data[tables[b"loca"] : end] = bytes(end - tables[b"loca"])
    hollow = tmp_path / "hollow.ttf"
    hollow.write_bytes(data)
    assert ord("א") in covered(FONTS / "NotoSansHebrew-Regular.ttf")
    assert ord("א") not in covered(hollow)
    assert ord(" ") in covered(hollow)


def test_system_fonts_come_after_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = tmp_path / "truetype"
    nested.mkdir()
    (nested / "DejaVuSans.ttf").write_bytes((FONTS / "NotoSansHebrew-Regular.ttf").read_bytes())
    (nested / "wqy-zenhei.ttc").write_bytes(b"damaged")
    monkeypatch.setattr(typefaces, "system_folders", lambda: (tmp_path, tmp_path / "missing"))
    assert [face.path.name for face in Typefaces()] == [*SHIPPED, "DejaVuSans.ttf"]


def test_fonts_travel_with_their_licences_and_are_small() -> None:
    licences = "".join(path.read_text(encoding="utf-8") for path in FONTS.glob("*.txt"))
    assert "SIL OPEN FONT LICENSE" in licences
    assert {path.name for path in FONTS.glob("*.?tf")} == set(SHIPPED)
    assert all(name in licences for name in SHIPPED)
    assert sum(path.stat().st_size for path in FONTS.iterdir()) < 2.5e6
