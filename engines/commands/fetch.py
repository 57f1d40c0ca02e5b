"""``python -m engines fetch``: a known model brought here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engines.intake.fetch import Fetched, Offer


def register(app: typer.Typer) -> None:
    app.command("fetch")(fetch)


def fetch(
    name: Annotated[str, typer.Argument(help="A name that `list` shows, as insightface/buffalo_l.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read its licence, and it allows what you do.")
    ] = False,
    mirror: Annotated[
        str | None, typer.Option(help="Another https address of the file; one that ends with / is its folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Download a known model, verify it, make it ready to use."""
    import engines.intake.fetch as library
    from engines.models import known_model

    found = library.already_here(known_model(name))
    if found is None:
        wanted = library.offer(name, mirror=mirror)
        if not as_json:
            _show(wanted)
        bar = _Bar(name)
        try:
            found = library.fetch(wanted, accept_licence=accept_licence, progress=bar.show, tell=_tell)
        except KeyboardInterrupt:
            _tell(f"{name}: stopped; what has come is kept, and the same command goes on from there")
            raise typer.Exit(130) from None
        finally:
            bar.close()
    _report(name, found, as_json)


def _show(wanted: Offer) -> None:
    known = wanted.known
    size = "size not known" if wanted.size is None else f"{wanted.size / 1e6:.1f} MB"
    print(f"{known.name}: {known.network}, {size}, from {wanted.url}")
    print(f"  licence {known.licence}; trained on {known.training_set or 'what its authors do not say'}")
    if known.published:
        figures = ", ".join(f"{test} {percent:.2f} %" for test, percent in known.published.items())
        print(f"  its authors publish {figures}")


def _report(name: str, found: Fetched, as_json: bool) -> None:
    manifest = found.model.manifest
    if as_json:
        print(
            json.dumps(
                {
                    "name": name,
                    "path": str(found.path),
                    "new": found.new,
                    "bytes": len(found.model.content),
                    "model_id": manifest.model_id,
                    "weights_sha256": manifest.weights_sha256,
                    "licence": manifest.licence,
                }
            )
        )
        return
    print(f"{name}: {'kept as' if found.new else 'is here already:'} {found.path}")
    print(f"  threshold {manifest.threshold:g}, {manifest.threshold_source}")
    print(f"  use it: realtime --source 0 --set embed.model={name}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


class _Bar:
    """Progress on stderr, from the first byte on, only on a terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def show(self, done: int, total: int | None) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=total, initial=done, desc=self._name, unit="B", unit_scale=True, disable=None, leave=False
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
