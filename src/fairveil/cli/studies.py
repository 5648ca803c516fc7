"""The commands `fairveil study list|show|run|table|report`."""

import html
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table as TerminalTable
from rich.text import Text

from fairveil.base.errors import FairveilError
from fairveil.cli.cluster import OnRay, RayAddress, cluster_address
from fairveil.cli.terminal import named_path, progress_bar, results, talk

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.experiment.records import Record, RecordStore, Run
    from fairveil.experiment.study import Study
    from fairveil.report.tables import Table

study_app = typer.Typer(
    no_args_is_help=True, help="The dissertation's tables as experiments that anyone can run, beside its own numbers."
)


class PresetName(StrEnum):
    """How large a study is."""

    smoke = "smoke"
    small = "small"
    paper = "paper"


class TableFormat(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    md = "md"
    csv = "csv"
    html = "html"


Name = Annotated[str, typer.Argument(metavar="NAME", help="As in `study list`, or package.module:NAME of your own.")]
Folder = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FOLDER", parser=named_path, help="Folder of records and of what trials share."
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, or one entry of one: ensembles.Mine=faceres,dlib-resnet; repeatable. See `study show`.",
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", parser=named_path, help="Change settings from TOML."),
]

DEFAULT_FOLDER = Path("fairveil-studies")


@study_app.command("list")
def list_studies(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list for machines.")] = False,
) -> None:
    """Show every study: its name, what it asks, and where the dissertation has it.

    Example: fairveil study list
    """
    from fairveil.experiment.catalogue import studies

    if as_json:
        fields = ("name", "title", "question", "source")
        typer.echo(json.dumps([{name: getattr(s, name) for name in fields} for s in studies().values()], indent=1))
        return
    table = TerminalTable("study", "question", "published")
    for study in studies().values():
        table.add_row(study.name, study.question, study.source)
    results.print(table)


@study_app.command("show")
def show_study(
    name: Name,
    preset: Annotated[PresetName, typer.Option(help="Whose settings to show.")] = PresetName.small,
    set_: Assignments = None,
    settings_file: SettingsFile = None,
) -> None:
    """Show what a study does: its settings, which `--set` can change, its trials, and what differs from the published.

    Example: fairveil study show lowkey-transfer --preset paper
    """
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.overrides import keys_of

    study = find_study(name)
    settings = _settings(study, preset, set_, settings_file)
    with suppress(FairveilError):  # what is not here can be shown all the same
        settings = study.resolve(settings)
    trials = study.trials(settings)
    results.print(Text(f"{study.name}: {study.title}", "bold"))
    results.print(f"{study.question} Published: {study.source}.", soft_wrap=True)
    table = TerminalTable("setting", "value")
    for key, value in keys_of(settings).items():
        table.add_row(key, escape(str(value)))
    results.print(table)
    results.print(f"{len(trials)} trials: {escape(', '.join(trial.label for trial in trials))}", soft_wrap=True)
    for difference in study.differences(settings):
        results.print(f"- {escape(difference)}", soft_wrap=True)


@study_app.command("run")
def run(
    name: Name,
    preset: Annotated[
        PresetName, typer.Option(help="smoke: seconds; small: minutes on two cores; paper: the published setting.")
    ] = PresetName.small,
    set_: Assignments = None,
    settings_file: SettingsFile = None,
    out: Folder = DEFAULT_FOLDER,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine; as many as it has cores by default.")
    ] = None,
    ray: OnRay = False,
    ray_address: RayAddress = None,
    threads: Annotated[int, typer.Option(min=1, help="Cores for the networks of one trial.")] = 1,
    device: Annotated[str, typer.Option(help="Where networks run, as torch names it: cpu, cuda, cuda:1.")] = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Every trial once, with one step on tiny made-up data.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Run every trial of a study that has no result yet. What is finished is never run again.

    Example: fairveil study run lowkey-transfer --preset small --workers 2
    """
    from fairveil.base.executors import executor, usable_cores
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.records import RecordStore
    from fairveil.experiment.running import run_of, run_study

    study = find_study(name)
    settings = _settings(study, preset, set_, settings_file)
    if dry_run:
        _look_at_labels(study, settings)
    else:
        settings = _resolved(study, settings)
    count = len(study.trials(settings))
    if not count:
        raise FairveilError(f"These settings leave {study.name} without a trial: see fairveil study show {name}.")
    address = cluster_address(ray, ray_address)
    if address is None:
        check_device(device)
    processes = 1 if study.alone else min(count, workers or usable_cores())
    if study.alone and (workers or 1) > 1:
        talk.print(f"{study.name} measures seconds, so its trials are run one at a time.")
    store = RecordStore(out / "dry-run" if dry_run else out)
    with (
        progress_bar() as progress,
        executor(workers=processes, ray=address, threads=threads) as where,
    ):
        task = progress.add_task(escape(study.name), total=count)

        def told(record: "Record", finished: int, total: int) -> None:
            progress.update(task, completed=finished)
            if record.failure:
                talk.print(Text(f"{record.label} failed: {record.failure.message}", "red"), soft_wrap=True)
            else:
                talk.print(Text(f"{record.label}: {record.seconds:.1f} s"), soft_wrap=True)

        try:
            records = run_study(
                study,
                settings,
                store,
                where,
                preset=preset.value,
                device=device,
                threads=threads,
                dry=dry_run,
                on_record=told,
            )
        except KeyboardInterrupt:
            talk.print("Stopped. Finished trials are kept; the same command goes on from there.")
            raise typer.Exit(130) from None
    if as_json:
        typer.echo("[" + ",\n".join(record.model_dump_json() for record in records) + "]")
    failed = [record.label for record in records if record.failure]
    if not (as_json or dry_run or len(failed) == len(records)):
        _print_run(study, run_of(study, settings, preset.value), store, TableFormat.terminal)
    if failed:
        raise FairveilError(f"{len(failed)} of {len(records)} trials failed: {', '.join(failed)}. Run again to retry.")


@study_app.command("table")
def print_tables(
    name: Name,
    preset: Annotated[PresetName | None, typer.Option(help="Of which run; the latest by default.")] = None,
    format: Annotated[TableFormat, typer.Option(help="How to print it.")] = TableFormat.terminal,
    out: Folder = DEFAULT_FOLDER,
) -> None:
    """Print the tables of a study from its records, ours beside the published.

    Example: fairveil study table lowkey-transfer --format md
    """
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.records import RecordStore

    store = RecordStore(out)
    study = find_study(name)
    _print_run(study, _last_run(store, study, preset), store, format)


@study_app.command("report")
def report(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all that were run.")] = None,
    out: Folder = DEFAULT_FOLDER,
    page: Annotated[Path, typer.Option(metavar="FILE", parser=named_path, help="The page to write.")] = Path(
        "studies.html"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace a page that is there already.")] = False,
) -> None:
    """Write one web page with the tables and plots of studies, what was run where, and what differs from the published.

    Example: fairveil study report --page studies.html
    """
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.presentation import section_of
    from fairveil.experiment.records import RecordStore
    from fairveil.report.study import write_report

    store = RecordStore(out)
    studies = [find_study(name) for name in dict.fromkeys(names or _reportable(store))]
    sections = [section_of(study, _last_run(store, study, None), store) for study in studies]
    today = datetime.now().astimezone().date().isoformat()
    write_report(page, sections, title="Studies", date=today, overwrite=overwrite)
    results.print(str(page), soft_wrap=True)


def _settings(
    study: "Study[Any, Any]", preset: PresetName, assignments: Sequence[str] | None, file: Path | None
) -> Any:
    from fairveil.experiment.overrides import override, override_from_file

    settings = study.presets[preset.value]
    if file is not None:
        settings = override_from_file(settings, file)
    return override(settings, assignments or [])


def check_device(device: str) -> None:
    """Before every trial fails for it."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise FairveilError(f"Networks cannot run on {device!r} here: {str(error).splitlines()[0]}") from error


def _resolved(study: "Study[Any, Any]", settings: Any) -> Any:
    """The settings with what this machine decides; whoever asked for data that are not here is told what stands in."""
    resolved = study.resolve(settings)
    asked, found = (Path(study.data(some)).name for some in (settings, resolved))
    if asked != found:
        talk.print(Text(f"The data set {asked} is not here: {found} data stand in for it."), soft_wrap=True)
    for note in study.check(resolved):  # before any face is cut
        talk.print(Text(note), soft_wrap=True)
    return resolved


def _look_at_labels(study: "Study[Any, Any]", settings: Any) -> None:
    """Say of the data that a dry run does without, as far as they are here, whether the real run could use them."""
    data = study.data(settings)
    if not data or data == "synthetic":
        return
    talk.print(Text(f"A dry run trains on made-up data, not on {data}."), soft_wrap=True)
    try:
        for note in study.check(settings):
            talk.print(Text(note), soft_wrap=True)
    except FairveilError as error:
        talk.print(Text(f"A real run would stop at the labels of {data}: {error}", "yellow"), soft_wrap=True)


def _reportable(store: "RecordStore") -> list[str]:
    """The studies that were run, in the catalogue's order; of somebody's own, records do not say where they are."""
    from fairveil.experiment.catalogue import studies

    names = {run.study for run in store.runs()}
    known = [name for name in studies() if name in names]
    if not names:
        raise FairveilError(f"No study was run in {store.folder} yet: fairveil study run NAME.")
    for name in sorted(names.difference(known)):
        talk.print(Text(f"{name} is no study of fairveil's: name it as package.module:NAME.", "yellow"), soft_wrap=True)
    if not known:
        raise FairveilError(f"None of fairveil's studies was run in {store.folder} yet.")
    return known


def _last_run(store: "RecordStore", study: "Study[Any, Any]", preset: PresetName | None) -> "Run":
    of_study = [run for run in store.runs(study.name) if preset is None or run.preset == preset.value]
    if not of_study:
        wanted = f"{study.name} ({preset.value})" if preset else study.name
        raise FairveilError(f"{wanted} was not run in {store.folder} yet: fairveil study run {study.name}.")
    return of_study[0]


def _print_run(study: "Study[Any, Any]", run: "Run", store: "RecordStore", format: TableFormat) -> None:
    """The tables of a run, and what it differs in from the published setting, but for programs that read CSV."""
    from fairveil.experiment.presentation import settings_of, tables_of

    _print_tables(tables_of(study, run, store), format)
    if format is TableFormat.csv:
        return
    said = [f"{study.name}, preset {run.preset}, run {run.started}. What differs from the published setting:"]
    said += study.differences(settings_of(study, run))
    if format is TableFormat.html:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in said[1:])
        typer.echo(f"<p>{html.escape(said[0])}</p><ul>{items}</ul>")
    elif format is TableFormat.md:
        typer.echo("\n- ".join([said[0] + "\n", *said[1:]]))
    else:
        results.print(Text("\n- ".join(said)), soft_wrap=True)


def _print_tables(tables: Sequence["Table"], format: TableFormat) -> None:
    from fairveil.report.rendering import to_csv, to_html, to_markdown, to_terminal

    if format is TableFormat.csv:
        typer.echo(to_csv(tables), nl=False)
        return
    for table in tables:
        if format is TableFormat.terminal:
            for part in to_terminal(table, width=results.width):
                results.print(part)
        else:
            typer.echo(to_markdown(table) if format is TableFormat.md else to_html(table))
