"""The table of known models, and how a model is found by its name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engines import models
from engines.__main__ import main
from engines.errors import ModelFileError
from engines.export import ModelFile, check_model, with_manifest, write_atomically
from engines.intake.adopt import Terms, adopt
from engines.models import DEFAULT, ForeignInput, known_model, known_models
from engines.store import (
    CACHE_VARIABLE,
    DATA_VARIABLE,
    default_model,
    find_model,
    keep_model,
    keep_named,
    models_dir,
    place_of,
    stored_names,
)
from tests.engines.foreign_networks import content

FETCHED = {
    "insightface/buffalo_l": "4c06341c",
    "uniface/iresnet50-w600k": "4c06341c",
    "uniface/mobilefacenet-w600k": "9cc6e4a7",
    "edgeface/xxs": "dc674de4",
    "edgeface/xs-gamma-06": "9206e2eb",
    "edgeface/s-gamma-05": "b850767c",
    "edgeface/base": "b56942f0",
}


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    return tmp_path


@pytest.fixture(scope="module")
def mine() -> ModelFile:
    return adopt(content(), "mine.onnx", Terms(name="mine"))


# the table


def test_every_model_is_fetched_installed_or_brought() -> None:
    known = known_models()
    assert {name for name, model in known.items() if model.url} == set(FETCHED)
    assert {name for name, model in known.items() if model.package} == {DEFAULT}
    assert {name for name, model in known.items() if model.by_hand} == {"insightface/iresnet50-ms1mv3"}
    for name, start in FETCHED.items():
        model = known[name]
        assert model.weights_sha256.startswith(start)
        assert model.url.startswith("https://github.com/")
        assert model.must_accept
        assert (model.template, model.input_size, model.dimensions) == ("arcface_112", 112, 512)
        assert model.onnx == ForeignInput(layout="nchw", mean=127.5, std=127.5, colour="rgb")
        assert place_of(name).name == name.split("/")[1] + ".onnx"


def test_a_threshold_says_its_rate_or_that_it_has_none() -> None:
    for model in known_models().values():
        assert (model.threshold_fmr is None) == model.threshold_source.startswith("not calibrated for this model")
        assert model.threshold_fmr is None or model.threshold_fmr <= 1e-4


def test_the_archive_and_its_member_have_sums_of_their_own() -> None:
    known = known_model("insightface/buffalo_l")
    assert (known.download, known.weights) == ("buffalo_l.zip", "w600k_r50.onnx")
    assert known.download_sha256.startswith("80ffe37d")
    alone = known_model("uniface/iresnet50-w600k")
    assert alone.download_sha256 == alone.weights_sha256 == known.weights_sha256
    with pytest.raises(ModelFileError, match="no package carries its weights"):
        known.weights_path()


GOOD = {
    "url": "https://example.org/a.onnx",
    "weights": "a.onnx",
    "weights_sha256": "0" * 64,
    "network": "n",
    "onnx": {"layout": "nchw"},
    "template": "arcface_112",
    "unit_length": True,
    "mirrored": False,
    "threshold": 1,
    "threshold_fmr": None,
    "threshold_source": "none",
    "licence": "MIT",
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights_sha256": "0" * 63}, "weights_sha256 is '000.*; expected 64 hex digits"),
        ({"weights_sha256": ""}, "expected 64 hex digits"),
        ({"archive_sha256": "x"}, "archive_sha256 is 'x'"),
        ({"package": "p"}, "exactly one of package, url and by_hand"),
        ({"url": ""}, "exactly one of package, url and by_hand"),
        ({"onnx": None}, "is no section"),
        ({"onnx": {"order": "nchw"}}, "unknown key 'order'"),
        ({"onnx": {"layout": "hwc"}}, "known are nchw, nhwc"),
        ({"onnx": {"mean": "half"}}, "mean is 'half'; expected float"),
        ({"onnx": {"std": 0}}, "std is 0; a value above 0"),
        ({"threshold": "low"}, "threshold is 'low'; expected float"),
        ({"unit_length": 1}, "unit_length is '1'; expected bool"),
        ({"dimensions": True}, "dimensions is 'True'; expected int"),
        ({"must_accept": "no"}, "must_accept is 'no'; expected bool"),
        ({"published": [99]}, "published is"),
        ({"name": "other"}, "unknown key 'name'"),
    ],
)
def test_a_damaged_entry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], words: str
) -> None:
    monkeypatch.setattr(models, "configs_dir", lambda: tmp_path)
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"a": GOOD}))
    assert known_models()["a"].download == "a.onnx"
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"a": {**GOOD, **changes}}))
    with pytest.raises(ModelFileError, match=rf"models\.yaml: a: .*{words}"):
        known_models()


# names and paths


def test_models_are_found_by_name_and_by_path(empty: Path, mine: ModelFile) -> None:
    assert find_model(DEFAULT) == default_model()
    path = keep_model("me/mine.v2", mine.content)
    assert path == models_dir() / "me" / "mine.v2.onnx"
    for way in ("me/mine.v2", str(path)):
        assert find_model(way).manifest == mine.manifest
    assert stored_names() == ["me/mine.v2"]


def test_a_name_wins_over_a_file(empty: Path, mine: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_model("mine", mine.content)
    monkeypatch.chdir(empty)
    Path("mine").write_bytes(b"something else")
    assert find_model("mine").manifest == mine.manifest
    with pytest.raises(ModelFileError, match="is not a whole ONNX file"):
        find_model("./mine")


def test_the_home_folder_is_understood(empty: Path, mine: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(empty))
    write_atomically(empty / "mine.onnx", mine.content)
    assert find_model("~/mine.onnx").manifest == mine.manifest


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "insightface/buffalo_l",
            "run `python -m engines fetch insightface/buffalo_l --accept-licence` .licence: non-com",
        ),
        (
            "insightface/iresnet50-ms1mv3",
            "backbone.pth.*python -m engines import backbone.pth --network iresnet50 --name",
        ),
        ("buffalo_l", "no model or file is named 'buffalo_l'; did you mean 'insightface/buffalo_l'"),
        ("insightface/bufalo", "did you mean 'insightface/buffalo_l'"),
        ("mobilefacenet", "did you mean 'uniface/mobilefacenet-w600k'"),
        ("zzz", "no model or file is named 'zzz'; `python -m engines list`"),
        ("", "no model or file is named ''|cannot be read"),
        ("z" * 5000, "no model or file is named"),
        ("~nobody-at-all/mine", "no model or file is named"),
        ("no\0ne.onnx", r"none\.onnx: cannot be read"),
        ("none.onnx", r"none\.onnx: cannot be read \(No such file"),
        ("backbone.pth", r"backbone\.pth: cannot be read"),
    ],
)
def test_what_is_not_here_says_what_to_do(empty: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.chdir(empty)
    with pytest.raises(ModelFileError, match=words):
        find_model(name)


@given(st.text(max_size=30) | st.from_regex(r"[a-z./\\-]{1,12}", fullmatch=True))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    try:
        path = place_of(name)
    except ModelFileError:
        return
    inside = path.resolve().relative_to(models_dir().resolve())
    assert inside.as_posix() == name + ".onnx"
    assert len(inside.parts) <= 2


@pytest.mark.parametrize(
    "name", ["../x", "a/../b", "/etc/x", "a/b/c", ".hidden", "a.onnx", "a\n", "a b", "", "ä", "a" * 99]
)
def test_what_cannot_be_a_name_is_refused(name: str, mine: ModelFile) -> None:
    with pytest.raises(ModelFileError, match="cannot name a model"):
        keep_model(name, mine.content)


def test_a_name_is_not_given_to_another_model(mine: ModelFile) -> None:
    keep_named("mine", mine)
    keep_named("mine", mine)
    other = check_model(
        with_manifest(onnx.ModelProto.FromString(mine.content), replace(mine.manifest, weights_sha256="1" * 64)),
        "other",
    )
    for taken in ("mine", "edgeface/base", DEFAULT):
        with pytest.raises(ModelFileError, match=f"{taken}: is the name of another model already"):
            keep_named(taken, other)
    keep_named("insightface/iresnet50-ms1mv3", other)  # nobody publishes its sum
    place_of("mine").write_bytes(b"damaged")
    keep_named("mine", other)
    assert find_model("mine").manifest == other.manifest


def test_a_folder_that_cannot_be_written_is_one_sentence(
    empty: Path, mine: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "in the way").touch()
    monkeypatch.setenv(DATA_VARIABLE, str(empty / "in the way"))
    with pytest.raises(ModelFileError, match=f"cannot be written .*{DATA_VARIABLE}"):
        keep_model("mine", mine.content)
    assert stored_names() == []


def test_models_are_kept_with_the_users_data_unless_moved(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_dir() == empty / "data" / "models"
    monkeypatch.delenv(DATA_VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(empty / "data"))
    assert models_dir().name == "models"
    assert models_dir().parent.name == "realtime"


# the commands


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["engines", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    code = stop.value.code
    return code if isinstance(code, int) else 0


def test_list_and_show(mine: ModelFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    keep_model("me/mine", mine.content)
    keep_model("me/broken", b"nothing")
    assert call(monkeypatch, "list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        **dict.fromkeys(FETCHED, "to fetch"),
        DEFAULT: "installed",
        "insightface/iresnet50-ms1mv3": "by hand",
        "me/mine": "here",
        "me/broken": "damaged",
    }
    assert rows["insightface/buffalo_l"]["published"]["LFW"] == 99.83
    assert call(monkeypatch, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "network", "state", "licence", "source"]
    assert len(lines) == len(rows) + 1
    assert call(monkeypatch, "show", "me/mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["template"] == "arcface_112"
    assert call(monkeypatch, "show", "edgeface/base") == 1
    assert "is not here yet; run `python -m engines fetch edgeface/base" in capsys.readouterr().err
