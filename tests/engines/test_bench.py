"""The bench as a whole: who runs, what is told, and what happens when somebody dies or stops it."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
import typer
from typer.testing import CliRunner

from engines.bench import Bench, Row, bench, format_rows, report
from engines.benchmark.contestants import WHEEL, Contestant, Skipped, detectors, wanted_rows, yardsticks
from engines.benchmark.openers import open_contestant
from engines.benchmark.plot import check_plotting, plot
from engines.benchmark.results import Matmul, Tally, rows_of
from engines.benchmark.turns import take_turns
from engines.commands import bench as command
from engines.errors import EngineError, RuntimeMissing
from engines.export import with_manifest
from engines.manifest import Manifest
from engines.networks import NETWORKS, Network
from engines.networks.random_weights import digest, random_state
from engines.networks.to_onnx import to_onnx
from engines.runtimes import ROWS, describe_runtimes
from engines.store import cache_dir

FAST = {"batches": (1, 2), "threads": 1, "seconds": 0.0, "repeats": 2}
CPU_ROWS = ("onnxruntime fp32", "openvino fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    """A mobilefacenet for 32x32 pixels."""
    return written(folder / "small.onnx", replace(NETWORKS["mobilefacenet"], input_size=32))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Path:
    """A network of nobody's: there is nothing to compare it with."""
    shape = Network(name="nobody", family="iresnet", blocks=(1, 1, 1, 1), width=4, dimensions=8, input_size=32)
    return written(folder / "tiny.onnx", shape)


def written(path: Path, network: Network) -> Path:
    state = random_state(network, 0)
    manifest = Manifest(
        name=path.stem,
        network=network.name,
        weights_sha256=digest(state),
        template="arcface_112",
        input_size=network.input_size,
        dimensions=network.dimensions,
        unit_length=True,
        mirrored=False,
        threshold=1.2,
        threshold_fmr=None,
        threshold_source="not calibrated",
        licence="none",
    )
    path.write_bytes(with_manifest(to_onnx(network, state, unit_length=True, mirrored=False), manifest))
    return path


def of(found: Bench, engine: str) -> list[Row]:
    return [row for row in found.rows if row.engine == engine]


def test_a_network_of_ours_is_measured_beside_torch_eager(small: Path) -> None:
    pytest.importorskip("torch")
    found = bench([str(small)], runtimes=CPU_ROWS, **FAST)
    assert list(dict.fromkeys(row.engine for row in found.rows)) == ["torch eager", *CPU_ROWS]
    assert found.skipped == ()
    assert not found.interrupted
    for row in found.rows:
        assert (row.model, row.task, row.against) == ("small", f"embed {row.batch}", "torch eager")
        assert (row.calls, row.rounds, row.threads) == (2, 2, 1)
        assert row.p50_ms <= row.p95_ms <= row.p99_ms
        assert row.per_s == pytest.approx(1e3 * row.batch / row.p50_ms, rel=0.01)
        assert row.median_ms == pytest.approx(row.p50_ms / row.batch, rel=0.01)
        assert row.gmac == found.rows[0].gmac
        assert row.of_matmul is not None
        assert row.of_matmul > 0
        assert row.load_s > 0
    assert {row.speed_up for row in of(found, "torch eager")} == {1}
    assert [(m.precision, m.threads, m.device) for m in found.matmul] == [("fp32", 1, "cpu")]
    assert found.rows[0].gmac == pytest.approx(0.438 * (32 / 112) ** 2, rel=0.1)


def test_the_embedded_descriptor_is_measured_beside_the_wheel() -> None:
    found = bench(runtimes=["onnxruntime fp32"], **{**FAST, "repeats": 1})
    assert [(row.task, row.engine) for row in found.rows] == [
        (f"embed {batch}", engine)
        for engine in (WHEEL, "onnxruntime fp32", "onnxruntime fp32, mirrored")
        for batch in (1, 2)
    ]
    wheel, plain, mirrored = (of(found, row.engine)[0] for row in found.rows[::2])
    assert wheel.speed_up == 1
    assert (wheel.runtime, plain.runtime) == ("", "onnxruntime")
    assert plain.speed_up is not None
    assert plain.speed_up > 1
    assert plain.gmac is not None
    assert mirrored.gmac == pytest.approx(2 * plain.gmac)


def test_the_detector_is_measured_beside_the_wheel() -> None:
    found = take_turns(detectors([("onnxruntime", "fp32"), ("tensorrt", "fp16")], 1), seconds=0, repeats=1)
    assert [(row.task, row.engine) for row in found.rows] == [
        ("detect 640x480", WHEEL),
        ("detect 640x480", "onnxruntime fp32"),
    ]
    assert found.rows[1].speed_up is not None
    assert found.rows[1].speed_up > 1
    assert found.rows[1].gmac == pytest.approx(4.21, rel=0.01)


def test_one_that_crashes_is_a_line_and_the_others_go_on(tiny: Path) -> None:
    def kill(title: str, done: int, total: int) -> None:
        """The process of the one whose turn it is: the last that was opened."""
        if title == "round 1, tiny, openvino fp32":
            children = [child for child in psutil.Process().children() if "engines.benchmark.worker" in child.cmdline()]
            max(children, key=lambda child: (child.create_time(), child.pid)).kill()

    found = bench([str(tiny)], runtimes=CPU_ROWS, progress=kill, **FAST)
    (dead,) = found.skipped
    assert (dead.model, dead.engine) == ("tiny", "openvino fp32")
    assert "SIGKILL" in dead.reason
    assert of(found, "openvino fp32") == []
    assert [row.rounds for row in of(found, "onnxruntime fp32")] == [2, 2]
    assert "openvino fp32 of tiny: its process was ended by SIGKILL" in report(found)


def test_ctrl_c_shows_what_is_there(tiny: Path) -> None:
    def stop(title: str, done: int, total: int) -> None:
        assert done < total
        if title.startswith("round 2"):
            raise KeyboardInterrupt

    found = bench([str(tiny)], runtimes=["onnxruntime fp32"], progress=stop, **FAST)
    assert found.interrupted
    assert [row.rounds for row in of(found, "onnxruntime fp32")] == [1, 1]
    assert "stopped by Ctrl-C" in report(found)
    assert not [child for child in psutil.Process().children() if "engines.benchmark.worker" in child.cmdline()]


def test_the_order_turns_each_round(tiny: Path) -> None:
    titles: list[str] = []
    bench([str(tiny)], runtimes=["onnxruntime fp32"], progress=lambda title, *_: titles.append(title), **FAST)
    rounds = [[title.partition(", ")[2] for title in titles if title.startswith(f"round {n},")] for n in (1, 2)]
    assert rounds[1] == [*rounds[0][1:], rounds[0][0]]


def test_rows_that_cannot_run_are_listed_with_the_reason() -> None:
    working, skipped = wanted_rows(["all"])
    infos = describe_runtimes()
    assert [" ".join(row) for row in working] == [info.name for info in infos if info.available]
    assert [(one.engine, one.reason) for one in skipped] == [(i.name, i.reason) for i in infos if not i.available]
    assert wanted_rows(["onnxruntime fp32"])[0] == [("onnxruntime", "fp32")]
    assert {row for row, _ in wanted_rows(["openvino"])[0]} <= {"openvino"}
    with pytest.raises(ValueError, match=r"called 'cuda'; known are all, tensorrt.*openvino bf16"):
        wanted_rows(["cuda"])
    assert {one.engine for one in (*skipped,)} <= {row.title for row in ROWS}


@pytest.mark.parametrize("wishes", [{"batches": ()}, {"batches": (0,)}, {"repeats": 0}, {"threads": 0}])
def test_a_bench_of_nothing_is_refused(wishes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bench(**wishes)  # type: ignore[arg-type]


def test_what_is_built_on_the_way_is_told_apart_from_loading(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose first opening leaves a plan in the cache."""
    closed: list[bool] = []

    def opening(*_: object, **__: object) -> object:
        plan = cache_dir() / "plans" / "test" / "0.plan"
        if not plan.exists():
            plan.parent.mkdir(parents=True)
            plan.touch()
        return SimpleNamespace(run=len, close=lambda: closed.append(True))

    monkeypatch.setattr("engines.engine.open_model", opening)
    spec = Contestant(kind="engine", engine="", model="tiny", file=str(tiny), runtime="onnxruntime")
    first, second = open_contestant(spec), open_contestant(spec)
    assert (first.build_s is None, second.build_s is None) == (False, True)
    assert closed == [True]
    assert first.run(1) == 1


def contestant(engine: str, **fields: object) -> Contestant:
    return replace(
        Contestant(kind="engine", engine=engine, model="net", gmac=1.0, batches=(1, 8)),
        **fields,  # type: ignore[arg-type]
    )


def tally(who: Contestant, batch: int, *seconds: float, **fields: object) -> Tally:
    made = Tally(contestant=who, batch=batch, load_s=1.0, build_s=None, seconds=list(seconds), rounds=1)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_the_figures_by_hand() -> None:
    eager = contestant("torch eager", runtime="cpu")
    fast = contestant("openvino bf16", runtime="openvino", precision="bf16", threads=2)
    rates = [
        Matmul(precision="bf16", threads=1, device="cpu", gflop_s=200.0),
        Matmul(precision="bf16", threads=2, device="cpu", gflop_s=400.0),
        Matmul(precision="bf16", threads=1, device="cuda", gflop_s=9000.0),
    ]
    slow_row, row, silent = rows_of(
        [
            tally(eager, 8, 1.0),
            tally(fast, 8, *np.linspace(0.01, 1.0, 100), joules=100.0, metered_s=20.0),
            tally(contestant("onnxruntime fp32", model="other"), 8, 0.5),
            tally(fast, 1),
        ],
        rates,
    )
    assert (row.p50_ms, row.p95_ms, row.p99_ms) == (505, 950, 990)
    assert row.per_s == pytest.approx(8 / 0.505, rel=1e-3)
    assert row.speed_up == pytest.approx(1 / 0.505, rel=1e-3)
    assert row.of_matmul == pytest.approx(2 * 1.0 * 8 / 0.505 / 400, rel=1e-3)
    assert row.watts == 5
    assert row.joules == pytest.approx(100 / 800)
    assert (slow_row.of_matmul, slow_row.speed_up) == (None, 1)
    assert (silent.speed_up, silent.against) == (None, None)


def test_a_gpu_is_compared_with_torch_on_the_gpu() -> None:
    rows = rows_of(
        [
            tally(contestant("torch eager", runtime="cpu"), 1, 1.0),
            tally(contestant("torch eager cuda", runtime="cuda"), 1, 0.1),
            tally(contestant("tensorrt fp16", runtime="tensorrt", precision="fp16"), 1, 0.01),
        ],
        [Matmul(precision="fp16", threads=1, device="cuda", gflop_s=1000.0)],
    )
    assert [(row.against, row.speed_up) for row in rows] == [
        ("torch eager", 1),
        ("torch eager cuda", 1),
        ("torch eager cuda", 10),
    ]
    assert rows[2].of_matmul == pytest.approx(0.2)


def test_the_machine_is_measured_in_what_runs() -> None:
    found = yardsticks(
        [
            contestant("openvino int8", runtime="openvino", precision="int8", threads=2),
            contestant("torch eager", runtime="cpu", threads=2),
            contestant("tensorrt fp16", runtime="tensorrt", precision="fp16", threads=2),
        ]
    )
    assert [(one.kind, one.precision, one.threads) for one in found] == [
        ("matmul int8", "int8", 1),
        ("matmul int8", "int8", 2),
        ("matmul fp32", "fp32", 1),
        ("matmul fp32", "fp32", 2),
        ("matmul cuda", "fp16", 1),
    ]


def made_up() -> Bench:
    rows = rows_of(
        [
            tally(contestant(engine), batch, seconds * batch)
            for engine, seconds in (("torch eager", 0.1), ("openvino bf16", 0.01))
            for batch in (1, 8)
        ],
        [],
    )
    skipped = (
        Skipped(model="", engine="tensorrt fp16", reason="no GPU"),
        Skipped(model="", engine="torch-cuda fp16", reason="no GPU"),
    )
    machine: dict[str, str | int] = {"processor": "Test", "cores": 2, "system": "Linux"}
    return Bench(machine=machine, rows=rows, matmul=(), skipped=skipped, energy="no energy", interrupted=False)


def test_the_table_leaves_out_what_nobody_has() -> None:
    found = made_up()
    head, *lines = format_rows(found.rows).splitlines()
    assert len(lines) == 4
    assert "speed-up" in head
    assert "J each" not in head
    assert "GPU MiB" not in head
    assert "tensorrt fp16, torch-cuda fp16: no GPU" in report(found)


def test_every_key_of_the_json_is_documented() -> None:
    values = json.loads(json.dumps(made_up().as_json()))
    assert set(values) == {"schema", "machine", "rows", "matmul", "skipped", "energy", "interrupted"}
    assert set(values["rows"][0]) == {field.name for field in fields(Row)}


def test_a_plot_has_a_line_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "rates.svg"
    check_plotting(path)
    monkeypatch.setitem(__import__("matplotlib").rcParams, "svg.fonttype", "none")
    plot(made_up(), path)
    texts = {element.text for element in ElementTree.parse(path).iter() if element.text}
    assert {"torch eager", "openvino bf16", "net, 1 thread", "faces a second"} <= texts
    plot(made_up(), tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(EngineError, match="nothing was measured"):
        plot(replace(made_up(), rows=()), path)
    with pytest.raises(EngineError, match=r"\.png, \.svg or \.pdf"):
        check_plotting(tmp_path / "rates.gif")
    with pytest.raises(EngineError, match="no such folder"):
        check_plotting(tmp_path / "none" / "rates.png")


def test_a_plot_without_matplotlib_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RuntimeMissing, match=r"pip install 'realtime-arcface\[plots\]'"):
        check_plotting(tmp_path / "rates.png")


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.callback()(lambda: None)
    command.register(made)
    return made


def test_the_command_prints_json_and_nothing_else(app: typer.Typer, tiny: Path, tmp_path: Path) -> None:
    options = ["--runtimes", "onnxruntime fp32", "--batch", "1", "--threads", "1", "--seconds", "0", "--repeats", "1"]
    done = CliRunner().invoke(app, ["bench", str(tiny), *options, "--json", "-"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["rows"][0]["task"] == "embed 1"


def test_a_stopped_command_prints_what_it_has_and_says_so(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.bench.bench", lambda *_, **__: replace(made_up(), interrupted=True))
    done = CliRunner().invoke(app, ["bench", "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 130
    assert "stopped by Ctrl-C" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text())["interrupted"] is True


@pytest.mark.parametrize("batch", ["", "one", "0", "1,-8"])
def test_batches_are_numbers(app: typer.Typer, batch: str) -> None:
    done = CliRunner().invoke(app, ["bench", "--batch", batch])
    assert done.exit_code == 2
    assert "not a list of numbers" in done.output


def test_the_commands_mistakes_are_sentences(app: typer.Typer, tmp_path: Path) -> None:
    for arguments, words in (
        (["--runtimes", "cuda"], "no runtime is called 'cuda'"),
        (["--plot", str(tmp_path / "x.gif")], "name it so"),
        ([str(tmp_path / "none.onnx")], "none.onnx"),
    ):
        done = CliRunner().invoke(app, ["bench", *arguments])
        assert isinstance(done.exception, EngineError)
        assert words in str(done.exception)
