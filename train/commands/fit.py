"""``python -m train fit``: from a prepared set and a configuration to trained weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from train.errors import ConfigError
from train.settings import FitSettings, load_fit_settings

if TYPE_CHECKING:
    from train.fit.plan import Plan
    from train.fit.trial import Trial

CTRL_C: Final = 130
"""Exit code of a run that was stopped, as shells have it."""

RUNS: Final = Path("runs")
"""Where runs go that have not been told where."""


def register(app: typer.Typer) -> None:
    app.command("fit")(fit)


def fit(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="A preset, as kface_r50, or a YAML file.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The prepared set; overrides data.path.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; runs/CONFIG if none.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override an option; repeatable.")
    ] = None,
    print_plan: Annotated[
        bool, typer.Option("--print-plan", help="Say steps, memory and time, try two steps on made-up crops, and end.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output, with the settings it was started with.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Train a network on a prepared set.

    Ctrl-C saves and ends with exit code 130; --resume then goes on to the same bits that the whole run would have
    given. Several GPUs or machines: torchrun --nproc_per_node 2 -m train fit ...
    """
    from train.fit.loop import fit as run_fit
    from train.fit.plan import plan_of
    from train.prepared import open_prepared
    from train.sharding.ranks import Ranks

    folder = output or RUNS / _stem(config)
    settings = _settings(config, folder, set_ or [], data, resume)
    if not settings.data.path:
        raise ConfigError("no prepared set is named; give one with --data FOLDER or as data.path")
    with Ranks.from_environment(settings.run.device) as ranks:
        plan = plan_of(settings, open_prepared(Path(settings.data.path)), ranks)
        if print_plan:
            _print_plan(plan, as_json)
            return
        if ranks.first and not as_json:
            print(f"{folder}: {_one_line(plan)}")
            for words in plan.warnings:
                print(f"train: note: {words}", file=sys.stderr)
        with _shown(plan, as_json) as (told, progress):
            outcome = run_fit(plan, folder, resume=resume, told=told, progress=progress)
    if not outcome.finished and not ranks.first:
        raise typer.Exit(CTRL_C)
    if not outcome.finished:
        again = f"python -m train fit --resume --output {folder}"
        print(f"train: stopped after step {outcome.step} of {outcome.steps}; go on with `{again}`", file=sys.stderr)
        raise typer.Exit(CTRL_C)
    if ranks.first:
        if as_json:
            print(json.dumps({"run": str(folder), "plan": plan.to_json(), **outcome.last}, ensure_ascii=False))
        else:
            print(f"{folder}: {_ended(outcome.last, plan)}")


def _stem(config: str | None) -> str:
    return "fit" if config is None else Path(config).stem


def _settings(config: str | None, folder: Path, overrides: list[str], data: Path | None, resume: bool) -> FitSettings:
    """Those of the configuration; of a run that goes on its own, which the configuration must not contradict."""
    more = [*overrides, *([] if data is None else [f"data.path={json.dumps(str(data), ensure_ascii=False)}"])]
    if not resume:
        return load_fit_settings(config, more)
    kept = folder / "settings.yaml"
    if not kept.is_file():
        raise ConfigError(
            f"{folder}: holds no run to go on with; name its folder with --output, or start one without --resume"
        )
    if config is not None and (differs := _difference(load_fit_settings(str(kept)), load_fit_settings(config, more))):
        raise ConfigError(
            f"{folder}: was started with {differs}; leave CONFIG out to go on as it was, or start a run elsewhere"
        )
    return load_fit_settings(str(kept), more)


def _difference(was: FitSettings, now: FitSettings) -> str | None:
    """The first option that differs, but for where the set lies."""
    for section in FitSettings.model_fields:
        before, after = getattr(was, section), getattr(now, section)
        for key in type(before).model_fields:
            values = getattr(before, key), getattr(after, key)
            if values[0] != values[1] and (section, key) != ("data", "path"):
                return f"{section}.{key}={values[0]}, and now it is {values[1]}"
    return None


def _print_plan(plan: Plan, as_json: bool) -> None:
    from train.fit.trial import try_steps

    if plan.ranks.first and sys.stderr.isatty():
        print("train: trying two steps on made-up crops", file=sys.stderr)
    trial = try_steps(plan)
    if not plan.ranks.first:
        return
    whole_s = trial.step_s * plan.steps
    if as_json:
        tried = {
            "step_s": trial.step_s,
            "run_s": whole_s,
            "images_s": plan.order.batch / trial.step_s,
            "matmul_flops": trial.matmul_flops,
            "peak_bytes": trial.peak_bytes,
        }
        print(json.dumps({**plan.to_json(), "trial": tried}, ensure_ascii=False))
        return
    print(*_plan_lines(plan, trial, whole_s), sep="\n")
    for words in plan.warnings:
        print(f"train: note: {words}", file=sys.stderr)


def _plan_lines(plan: Plan, trial: Trial, whole_s: float) -> Iterator[str]:
    facts = plan.to_json()
    images_s = plan.order.batch / trial.step_s
    share = images_s * plan.flops / (trial.matmul_flops * plan.ranks.size)
    yield f"set        {facts['set']}: {facts['images']:,} images of {facts['classes']:,} people"
    yield f"           {facts['people_kept_back']} people kept back"
    yield f"network    {facts['network']}, {facts['parameters'] / 1e6:.2f} M parameters, {facts['precision']}"
    yield f"loss       {facts['loss']}, {facts['margin']}"
    yield f"device     {facts['device']}, {_count(facts['ranks'], 'rank')}"
    yield (
        f"steps      {facts['steps']:,}: {facts['epochs']} epochs of {facts['steps_an_epoch']:,} with {facts['batch']} "
        f"crops, {facts['crops_at_a_time']} at a time; {facts['left_out_an_epoch']} crops left out of each epoch"
    )
    yield (
        f"rate       {facts['lr']:g}, {plan.settings.schedule.kind}, {facts['warmup_steps']} steps of warm-up, "
        f"{facts['frozen_steps']} with the network frozen"
    )
    yield f"memory     {_size(facts['memory_in_all'])} on each device, and what libraries take"
    for name, size in facts["memory"].items():
        yield f"           {_size(size):>9}  {name}"
    if trial.peak_bytes is not None:
        yield f"           {_size(trial.peak_bytes):>9}  measured at most, without resident crops"
    yield (
        f"speed      {_rate(images_s)} img/s, {100 * share:.0f} % of this machine's matrix products "
        f"({trial.matmul_flops / 1e12:.3g} TFLOP/s); measured on {trial.crops} made-up crops"
    )
    yield f"time       {_duration(whole_s)}, and evaluations and checkpoints"


def _one_line(plan: Plan) -> str:
    return (
        f"{plan.network.name}, {plan.settings.loss.kind}, {len(plan.prepared.train):,} images of {plan.classes:,} "
        f"people, {plan.steps:,} steps of {plan.order.batch} crops, {plan.precision} on {plan.ranks.device}"
        + (f" x {plan.ranks.size}" if plan.ranks.size > 1 else "")
    )


@contextmanager
def _shown(plan: Plan, as_json: bool) -> Iterator[tuple[Any, Any]]:
    """A bar on a terminal, and a line of text for each line of the log."""
    from tqdm import tqdm

    if not plan.ranks.first or as_json:
        yield None, None
        return
    with tqdm(desc="steps", total=plan.steps, unit="step", leave=False, disable=None) as bar:

        def told(line: Mapping[str, Any]) -> None:
            if words := _words(line, plan):
                bar.write(words, file=sys.stdout)

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        yield told, progress


def _words(line: Mapping[str, Any], plan: Plan) -> str | None:
    """A line of the log for people."""
    at = f"step {line['step']:>6}/{plan.steps}"
    if line["kind"] == "train":
        return (
            f"{at}  loss {line['loss']:.4f}  accuracy {100 * line['accuracy']:5.1f} %  lr {line['lr']:.2e}  "
            f"{_rate(line['images_s'])} img/s ({100 * line['share_of_matmul']:.0f} % of matmul)"
        )
    if line["kind"] == "evaluate":
        return "\n".join(
            f"{at}  {name}: {found['figure']} {100 * found['value']:.2f} % "
            f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
            for name, found in line["sets"].items()
        )
    return None


def _ended(last: Mapping[str, Any], plan: Plan) -> str:
    parts = [f"done in {_duration(last['seconds'])}"]
    if "best" in last:
        parts.append(f"best {100 * last['best']['value']:.2f} % at step {last['best']['step']}")
    if "gate" in last:
        parts.append(f"gate {100 * last['gate']['before']:.2f} % before, {100 * last['gate']['after']:.2f} % after")
    kept = "best" if "best" in last and plan.settings.evaluate.keep == "best" else "last"
    return "; ".join([*parts, f"{kept} weights in backbone.pth, curves in curves.png"])


def _rate(images_s: float) -> str:
    return f"{images_s:,.{0 if images_s >= 10 else 1}f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
