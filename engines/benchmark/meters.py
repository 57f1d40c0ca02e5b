"""Energy and device memory, where a driver gives them.

Enters: nothing; the drivers are asked. Leaves: ``Meters``: joules so far and MiB in use, and the words that say what
is measured and what is not. Chips are measured whole: what else runs on them, and what they use at rest, is in it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from engines.machine import has_nvidia_gpu

POWERCAP: Final = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of Intel's and AMD's processors (RAPL)."""


class Counter(Protocol):
    """Counts the energy of one chip."""

    def joules(self) -> float:
        """Since some moment in the past; never falls."""


class Meters:
    """Everything that can be read here."""

    def __init__(self, counters: list[Counter], gpu: Gpu | None, words: str) -> None:
        self._counters = counters
        self._gpu = gpu
        self.words: Final = words
        """What watts and joules are of, or why there are none."""

    @property
    def gpu_name(self) -> str | None:
        return None if self._gpu is None else self._gpu.name

    def joules(self) -> float | None:
        """Of all chips together; None where none tells."""
        return sum(counter.joules() for counter in self._counters) if self._counters else None

    def device_mib(self) -> float | None:
        """GPU memory that is in use by anybody, MiB."""
        return None if self._gpu is None else self._gpu.used_mib()

    def close(self) -> None:
        """May be called twice."""
        if self._gpu is not None:
            self._gpu.close()


def open_meters(powercap: Path = POWERCAP) -> Meters:
    """Find what can be read; what cannot is told in ``Meters.words``."""
    packages, no_cpu = _packages(powercap)
    gpu, no_gpu = _gpu()
    counters: list[Counter] = [*packages]
    told = ["processor (RAPL)"] if packages else []
    if gpu is not None and gpu.counts_energy:
        counters.append(gpu)
        told.append("GPU (NVML)")
    missing = [reason for reason in (no_cpu, no_gpu) if reason]
    words = "; ".join([f"energy of: {', '.join(told)}, whole chips, rest included" if told else "no energy", *missing])
    return Meters(counters, gpu, words)


class Package:
    """One processor package of RAPL. Its counter wraps about once an hour."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        self._last = self._read()
        self._total = 0

    def joules(self) -> float:
        now = self._read()
        self._total += (now - self._last) % (self._range + 1)
        self._last = now
        return self._total / 1e6

    def _read(self) -> int:
        return int(self._file.read_text(encoding="ascii"))


class Gpu:
    """The first NVIDIA GPU, through its driver."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._device = nvml.nvmlDeviceGetHandleByIndex(0)
        name = nvml.nvmlDeviceGetName(self._device)
        self.name: Final[str] = name.decode() if isinstance(name, bytes) else str(name)
        self.counts_energy: Final = self._counts_energy()

    def joules(self) -> float:
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)) / 1e3

    def used_mib(self) -> float:
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._device).used) / 2**20

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _counts_energy(self) -> bool:
        """GPUs before Volta do not."""
        try:
            self.joules()
        except self._nvml.NVMLError:
            return False
        return True


def _packages(powercap: Path) -> tuple[list[Package], str]:
    """The counters, or why there are none; cores and memory are parts of a package or not counted everywhere."""
    zones = sorted(
        zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1 and (zone / "energy_uj").exists()
    )
    try:
        packages = [
            Package(zone) for zone in zones if (zone / "name").read_text(encoding="ascii").startswith("package")
        ]
    except PermissionError as err:
        return [], f"the processor's counter is for the administrator only ({err.filename})"
    except (OSError, ValueError) as err:
        return [], f"the processor's counter cannot be read ({err})"
    return packages, "" if packages else "the processor shows no energy counter here"


def _gpu() -> tuple[Gpu | None, str]:
    if not has_nvidia_gpu():
        return None, ""
    try:
        import pynvml
    except ImportError:
        return None, "the GPU's energy and memory need `pip install nvidia-ml-py`"
    try:
        gpu = Gpu(pynvml)
    except pynvml.NVMLError as err:
        return None, f"the GPU's driver does not answer ({err})"
    return gpu, "" if gpu.counts_energy else "this GPU does not count its energy"
