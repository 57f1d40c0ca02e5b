"""Small runs for tests: a network of ten thousand weights on crops of 32 pixels."""

from __future__ import annotations

from pathlib import Path

import torch

from train.checkpoints import Checkpoint, load_checkpoint
from train.fit.plan import Plan, plan_of
from train.prepared import open_prepared
from train.runs import CHECKPOINT
from train.settings import FitSettings, load_fit_settings
from train.sharding.ranks import Ranks

SMALL = (
    *("network.name=custom", "network.blocks=[1,1,1,1]", "network.width=4", "network.dimensions=16"),
    *("loss.scale=16", "optimiser.lr=0.02", "run.batch=8", "schedule.epochs=3", "run.device=cpu"),
    *("log.tensorboard=false", "log.every=5", "evaluate.sets=[]"),
)


def settings_of(data: Path, *more: str) -> FitSettings:
    return load_fit_settings(None, [*SMALL, f"data.path={data}", *more])


def listed(data: Path) -> str:
    """The people kept back with a list of pairs, about as many mated as not: quicker than one that is drawn."""
    val = open_prepared(data).val
    assert val is not None
    pairs = [(one, two) for two in range(len(val)) for one in range(two)]
    mated = [val.labels_N[one] == val.labels_N[two] for one, two in pairs]
    others = [pair for pair, same in zip(pairs, mated, strict=True) if not same]
    chosen = [pair for pair, same in zip(pairs, mated, strict=True) if same]
    kinds = [(1, chosen), (0, others[:: len(others) // len(chosen)])]
    lines = [f"{val.names[one]} {val.names[two]} {kind}" for kind, of in kinds for one, two in of]
    file = data.parent / "pairs.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{data},{file}"


def evaluated(data: Path) -> str:
    return f"evaluate.sets=['{listed(data)}']"


def small_plan(data: Path, *more: str, ranks: Ranks | None = None) -> Plan:
    return plan_of(settings_of(data, *more), open_prepared(data), ranks or Ranks.alone())


def kept(folder: Path) -> Checkpoint:
    return load_checkpoint(folder / CHECKPOINT)


def same_bits(one: Checkpoint, other: Checkpoint) -> bool:
    """Every tensor and every number that a run goes on with."""
    states = [(one.backbone, other.backbone), (one.momentum, other.momentum), (one.centres, other.centres)]
    states.append((one.ema or {}, other.ema or {}))
    return (one.step, one.scale, one.notes) == (other.step, other.scale, other.notes) and all(
        set(mine) == set(yours) and all(torch.equal(mine[name], yours[name]) for name in mine) for mine, yours in states
    )
