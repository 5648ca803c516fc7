"""The commands `fairveil study list|show|run|table|report`."""

import html
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table as TerminalTable
from rich.text import Text

from fairveil.base.errors import FairveilError
from fairveil.cli.cluster import ClusterOptions
from fairveil.cli.option_groups import with_option_groups
from fairveil.cli.options import AsJson, Device, Overwrite, Preset, PresetName, ReportFile, check_device, folder_option
from fairveil.cli.outputs import json_beside, write_json
from fairveil.cli.terminal import named_path, print_sentence, print_table, progress_bar, results, say, stopped_by_ctrl_c

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.experiment.records import Record, RecordStore, Run
    from fairveil.experiment.study import Study
    from fairveil.report.study import StudySection
    from fairveil.report.tables import Table

study_app = typer.Typer(
    no_args_is_help=True, help="Run the dissertation's tables as experiments, and compare the results with its own."
)


class TableFormat(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    md = "md"
    csv = "csv"
    html = "html"


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Study: a name in `fairveil study list`, or package.module:NAME of your own.",
        show_default=False,
    ),
]
Folder = Annotated[Path, folder_option("Folder that keeps the records, and what trials share.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting (see `fairveil study show`), or one entry of it, such as ensembles.Mine=faceres; "
        "repeatable.",
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", parser=named_path, help="Change the settings that this TOML file names."
    ),
]

DEFAULT_FOLDER = Path("fairveil-studies")


@study_app.command("list")
def list_studies(
    as_json: AsJson = False,
) -> None:
    """List every study: its name, its question, and where the dissertation has it.

    Example: fairveil study list
    """
    from fairveil.experiment.catalogue import studies

    if as_json:
        fields = ("name", "title", "question", "source")
        typer.echo(json.dumps([{name: getattr(s, name) for name in fields} for s in studies().values()], indent=1))
        return
    table = TerminalTable("study", "question", "published")
    table.columns[0].no_wrap = True  # a name is typed as it stands
    for study in studies().values():
        table.add_row(study.name, study.question, study.source)
    results.print(table)


@study_app.command("show")
def show_study(
    name: Name,
    preset: Preset = PresetName.small,
    set_: Assignments = None,
    settings_file: SettingsFile = None,
) -> None:
    """Show a study: its settings, which --set can change, its trials, and its differences from the published ones.

    Example: fairveil study show lowkey-transfer --preset paper
    """
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.overrides import keys_of

    study = find_study(name)
    settings = _settings(study, preset, set_, settings_file)
    with suppress(FairveilError):  # settings can be shown without the data
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
@with_option_groups
def run(
    *,
    name: Name,
    preset: Preset = PresetName.small,
    set_: Assignments = None,
    settings_file: SettingsFile = None,
    out: Folder = DEFAULT_FOLDER,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes on this machine, by default one for each core.")
    ] = None,
    cluster: ClusterOptions,
    threads: Annotated[int, typer.Option(min=1, help="Number of cores for the networks of one trial.")] = 1,
    device: Device = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run every trial once, with one step on tiny generated data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run every trial of a study that has no result yet. Finished trials are not run again.

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
    if cluster.address is None:
        check_device(device)
    processes = 1 if study.alone else min(count, workers or usable_cores())
    if study.alone and (workers or 1) > 1:
        say(f"{study.name} measures seconds, so its trials are run one at a time.")
    store = RecordStore(out / "dry-run" if dry_run else out)
    with (
        stopped_by_ctrl_c("Finished trials are kept; the same command goes on from there."),
        progress_bar() as progress,
        executor(workers=processes, ray=cluster.address, threads=threads) as where,
    ):
        task = progress.add_task(escape(study.name), total=count)

        def told(record: "Record", finished: int, total: int) -> None:
            progress.update(task, completed=finished)
            if record.failure:
                say(f"{record.label} failed: {record.failure.message}", "red")
            else:
                say(f"{record.label}: {record.seconds:.1f} s")

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
    preset: Annotated[
        PresetName | None, typer.Option(help="Preset of the run to print, by default that of the latest.")
    ] = None,
    format: Annotated[TableFormat, typer.Option(help="Format of the tables.")] = TableFormat.terminal,
    out: Folder = DEFAULT_FOLDER,
) -> None:
    """Print the tables of a study from its records, our figures beside the published ones.

    Example: fairveil study table lowkey-transfer --format md
    """
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.records import RecordStore

    store = RecordStore(out)
    study = find_study(name)
    _print_run(study, _last_run(store, study, preset), store, format)


@study_app.command("report")
def write_studies(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Studies, by default all that were run.")
    ] = None,
    out: Folder = DEFAULT_FOLDER,
    report: ReportFile = Path("studies.html"),
    overwrite: Overwrite = False,
) -> None:
    """Write a report on studies: tables and plots, what ran where, and the differences from the published settings.

    Example: fairveil study report --report studies.html
    """
    from fairveil.experiment.catalogue import find_study
    from fairveil.experiment.presentation import section_of
    from fairveil.experiment.records import RecordStore
    from fairveil.report.study import write_report

    machines = json_beside(report, overwrite=overwrite)
    store = RecordStore(out)
    studies = [find_study(name) for name in dict.fromkeys(names or _reportable(store))]
    sections = [section_of(study, _last_run(store, study, None), store) for study in studies]
    today = datetime.now().astimezone().date().isoformat()
    write_report(report, sections, title="Studies", date=today, overwrite=overwrite)
    write_json(machines, [_record_of(section) for section in sections], overwrite=overwrite)
    print_sentence(f"{report}, {machines}")


def _record_of(section: "StudySection") -> dict[str, Any]:
    """A section of the report for programs: all of it but the plots."""
    return asdict(replace(section, plots=()))


def _settings(
    study: "Study[Any, Any]", preset: PresetName, assignments: Sequence[str] | None, file: Path | None
) -> Any:
    from fairveil.experiment.overrides import override, override_from_file

    settings = study.presets[preset.value]
    if file is not None:
        settings = override_from_file(settings, file)
    return override(settings, assignments or [])


def _resolved(study: "Study[Any, Any]", settings: Any) -> Any:
    """The settings with what this machine decides; whoever asked for data that are not here is told what stands in."""
    resolved = study.resolve(settings)
    asked, found = (Path(study.data(some)).name for some in (settings, resolved))
    if asked != found:
        say(f"The data set {asked} is not here: {found} data stand in for it.")
    for note in study.check(resolved):  # before any face is cut
        say(note)
    return resolved


def _look_at_labels(study: "Study[Any, Any]", settings: Any) -> None:
    """Say of the data that a dry run does without, as far as they are here, whether the real run could use them."""
    data = study.data(settings)
    if not data or data == "synthetic":
        return
    say(f"A dry run trains on made-up data, not on {data}.")
    try:
        for note in study.check(settings):
            say(note)
    except FairveilError as error:
        say(f"A real run would stop at the labels of {data}: {error}", "yellow")


def _reportable(store: "RecordStore") -> list[str]:
    """The studies that were run, in the catalogue's order; of somebody's own, records do not say where they are."""
    from fairveil.experiment.catalogue import studies

    names = {run.study for run in store.runs()}
    known = [name for name in studies() if name in names]
    if not names:
        raise FairveilError(f"No study has been run in {store.folder} yet: use fairveil study run NAME.")
    for name in sorted(names.difference(known)):
        say(f"{name} is no study of fairveil's: name it as package.module:NAME.", "yellow")
    if not known:
        raise FairveilError(f"None of fairveil's studies has been run in {store.folder} yet.")
    return known


def _last_run(store: "RecordStore", study: "Study[Any, Any]", preset: PresetName | None) -> "Run":
    of_study = [run for run in store.runs(study.name) if preset is None or run.preset == preset.value]
    if not of_study:
        wanted = f"{study.name} ({preset.value})" if preset else study.name
        raise FairveilError(f"{wanted} has not been run in {store.folder} yet: run it first with `fairveil study run`.")
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
        print_sentence("\n- ".join(said))


def _print_tables(tables: Sequence["Table"], format: TableFormat) -> None:
    from fairveil.report.rendering import to_csv, to_html, to_markdown

    if format is TableFormat.csv:
        typer.echo(to_csv(tables), nl=False)
        return
    for table in tables:
        if format is TableFormat.terminal:
            print_table(table)
        else:
            typer.echo(to_markdown(table) if format is TableFormat.md else to_html(table))
