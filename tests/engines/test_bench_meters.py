"""Energy and device memory, on counters like those that Linux and NVIDIA's driver show."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from engines.benchmark import meters
from engines.benchmark.meters import open_meters


def zone(powercap: Path, folder: str, name: str, microjoules: int, wraps_at: int = 10**9) -> Path:
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return path


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 200)
    part = zone(tmp_path, "intel-rapl:0:0", "core", 50)
    whole_board = zone(tmp_path, "intel-rapl:2", "psys", 50)
    found = open_meters(tmp_path)
    assert "processor (RAPL)" in found.words
    assert found.joules() == 0
    for path, value in ((first, 1_000_100), (second, 500_200), (part, 900_000), (whole_board, 900_000)):
        (path / "energy_uj").write_text(f"{value}\n")
    assert found.joules() == pytest.approx(1.5)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 999_000, wraps_at=999_999)
    found = open_meters(tmp_path)
    (package / "energy_uj").write_text("1000\n")
    assert found.joules() == pytest.approx(2000e-6)
    (package / "energy_uj").write_text("2000\n")
    assert found.joules() == pytest.approx(3000e-6)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert open_meters(tmp_path / "none").joules() is None
    assert "no energy counter" in open_meters(tmp_path / "none").words
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (package / "energy_uj").write_text("no number\n")
    found = open_meters(tmp_path)
    assert found.joules() is None
    assert "cannot be read" in found.words


def test_a_counter_for_the_administrator_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux has it since 2020; the tests may run as the administrator, who may read everything."""
    zone(tmp_path, "intel-rapl:0", "package-0", 1)

    def refuse(self: meters.Package) -> int:
        raise PermissionError(13, "Permission denied", "energy_uj")

    monkeypatch.setattr(meters.Package, "_read", refuse)
    assert "administrator" in open_meters(tmp_path).words


class DriverError(Exception):
    pass


def driver(*, energy: bool) -> ModuleType:
    """The names of ``pynvml`` that are used, on a GPU that does not exist."""

    def total_energy(device: object) -> int:
        if not energy:
            raise DriverError("Not Supported")
        return 5000

    library = ModuleType("pynvml")
    library.__dict__.update(
        NVMLError=DriverError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: object(),
        nvmlDeviceGetName=lambda device: b"NVIDIA Test",
        nvmlDeviceGetTotalEnergyConsumption=total_energy,
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=3 * 2**20),
    )
    return library


@pytest.mark.parametrize("energy", [True, False])
def test_a_gpu_tells_its_memory_and_perhaps_its_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, energy: bool
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(energy=energy))
    monkeypatch.setattr(meters, "has_nvidia_gpu", lambda: True)
    found = open_meters(tmp_path)
    assert found.gpu_name == "NVIDIA Test"
    assert found.device_mib() == 3
    assert found.joules() == (5 if energy else None)
    assert ("GPU (NVML)" in found.words) == energy
    assert ("does not count" in found.words) != energy
    found.close()
    found.close()


def test_a_gpu_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(meters, "has_nvidia_gpu", lambda: True)
    assert "pip install nvidia-ml-py" in open_meters(tmp_path).words
