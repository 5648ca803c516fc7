"""The commands `fairveil audit`, `fairveil audit power` and `fairveil audit questions`."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from fairveil.base.errors import FairveilError
from fairveil.cli.faces import DEFAULT_RECOGNIZER, embed_with_progress, left_out_lines, photos_of, ranks_of
from fairveil.cli.option_groups import with_option_groups
from fairveil.cli.options import (
    AsJson,
    Bins,
    Face,
    FaceChoice,
    Groups,
    MinimumFace,
    Overwrite,
    PersonFolder,
    Report,
    recognizer_option,
)
from fairveil.cli.outputs import json_beside, write_json
from fairveil.cli.recognizers import OnnxOptions, load_recognizers
from fairveil.cli.subcommands import CommandWithSubcommands
from fairveil.cli.terminal import named_path, print_sentence, print_table, progress_bar, results, say

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    import polars as pl

    from fairveil.audit.auditing import Audit
    from fairveil.audit.imbalance import Shares
    from fairveil.data.grouping import Grouping
    from fairveil.faces.vectors import Embeddings


audit_app = typer.Typer(cls=CommandWithSubcommands, invoke_without_command=True)


@audit_app.callback()
@with_option_groups
def audit(
    *,
    embeddings: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Embeddings: a Parquet file, or .npy with --labels.", show_default=False),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|CSV|PACK", help="Photos to embed first, instead of a file of embeddings."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", parser=named_path, help="Labels of the images: columns image, identity, and groups."
        ),
    ] = None,
    recognizer: Annotated[
        list[str] | None, recognizer_option(default=f"all that a file holds, or {DEFAULT_RECOGNIZER} for photos")
    ] = None,
    group: Groups = None,
    bins: Bins = None,
    k: Annotated[
        str, typer.Option(metavar="RANKS", help="Ranks to report, that is, how many of the nearest faces count.")
    ] = "1,5,20",
    train_set: Annotated[
        str | None,
        typer.Option(
            metavar="CSV|SHARES", help="Make-up of the train set: its labels, or the shares of its people as F=30,M=70."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="Number of galleries drawn of each make-up.")] = 5,
    face: FaceChoice = Face.central,
    minimum_face: MinimumFace = 40,
    person_folder: PersonFolder = None,
    report: Report = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    onnx: OnnxOptions,
) -> None:
    """Audit a face identification system: who is missed how often, and what the make-up of gallery and test set does.

    Every face is looked for among all the others. Galleries of other make-ups are drawn to see what imbalance does, and
    whether a test set made up like the train set would have hidden bias. Where labels have a single column of groups,
    it need not be named.

    Example: fairveil audit faces.parquet --group gender --report audit.html
    """
    from fairveil.audit.auditing import audit_embeddings
    from fairveil.audit.report import audit_record, write_audit

    if (embeddings is None) == (images is None):
        raise typer.BadParameter("Give either a file of embeddings or --images.", param_hint="FILE")
    machines = None if report is None else json_beside(report, overwrite=overwrite)
    ranks = ranks_of(k)
    without_face: dict[str, int] | None = None
    if images is not None:
        faces, groups, without_face = _embedded(
            images, labels, recognizer, onnx, group, bins, face, minimum_face, person_folder
        )
    else:
        onnx.refuse_without([], "these faces are embedded already")
        faces = _read(Path(str(embeddings)), labels).of_people(person_folder)
        groups = _grouped(faces.frame, faces.groups, group, bins)
        faces = replace(faces, frame=groups.frames[0])
    column = groups.column
    for note in groups.notes:
        say(note)
    names = _chosen(faces, recognizer)
    shares = {name: _train_shares(train_set, name, recognizer, groups) for name in names}
    audits: list[Audit] = []
    with progress_bar() as progress:
        task = progress.add_task("auditing", total=len(names))
        for name in names:
            progress.update(task, description=escape(name))
            audits.append(
                audit_embeddings(
                    faces, column, recognizer=name, ranks=ranks, seeds=draws, train=shares[name],
                    without_face=without_face,
                )
            )  # fmt: skip
            progress.advance(task)
    about = {name: _about(name, faces, recognizer) for name in names}
    source = images or embeddings
    records = {"data": source, "recognizers": [{"about": about[one.recognizer], **audit_record(one)} for one in audits]}
    if report is not None and machines is not None:
        today = datetime.now().astimezone().date().isoformat()
        title = f"Audit of face identification by {column}"
        write_audit(report, audits, title=title, date=today, about=about, overwrite=overwrite)
        write_json(machines, records, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(records, indent=1))
        return
    for one in audits:
        _print(one)
    if report is not None:
        print_sentence(f"{report}, {machines}")


@audit_app.command("power")
def audit_power(
    ratio: Annotated[
        float, typer.Option(help="Error ratio to detect, the error rate of one group over the other's.")
    ] = 1.5,
    error: Annotated[float, typer.Option(help="Error rate of the other group.")] = 0.05,
    images: Annotated[float, typer.Option(help="Number of images of each person.")] = 10,
    correlation: Annotated[
        float | None,
        typer.Option(
            help="Correlation between the errors on images of one person, 0 to 1, as an audit measures it; by default "
            "0.5."
        ),
    ] = None,
    power: Annotated[float, typer.Option(help="Statistical power: the probability of detecting it.")] = 0.8,
    confidence: Annotated[float, typer.Option(help="Confidence level of the interval of the error ratio.")] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Compute how many people of each group an audit needs to detect that one group is missed more often.

    Example: fairveil audit power --ratio 1.5 --error 0.04 --images 17
    """
    from fairveil.audit.power import CORRELATION, identities_needed

    within = CORRELATION if correlation is None else correlation
    needed = identities_needed(ratio, error, images=images, correlation=within, power=power, confidence=confidence)
    if as_json:
        asked = {"ratio": ratio, "error": error, "images": images, "correlation": within, "power": power}
        typer.echo(json.dumps({"identities": needed, **asked, "confidence": confidence}))
        return
    print_sentence(
        f"{needed:,} people of each group, with {images:g} images each, show with a probability of {power:.0%} that "
        f"one group is missed {ratio:g} times as often as another whose error rate is {error:.1%}, if the errors on "
        f"images of one person have a correlation of {within:g}."
    )


@audit_app.command("questions")
def audit_questions(
    questions: Annotated[
        Path,
        typer.Argument(
            metavar="CSV",
            parser=named_path,
            help="Questions: columns question, probe, true, false (several with ; between them), human_accuracy, and "
            "groups.",
            show_default=False,
        ),
    ],
    embeddings: Annotated[
        Path,
        typer.Argument(
            metavar="PARQUET", parser=named_path, help="Embeddings of the images in the questions.", show_default=False
        ),
    ],
    recognizer: Annotated[list[str] | None, recognizer_option(default="all that the file of embeddings holds")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what is hard for a recognizer with what is hard for people.

    The recognizer's L2 ratio of each question is set beside the share of people who answered it correctly.

    Example: fairveil audit questions survey.csv faces.parquet
    """
    from fairveil.audit.human import agreement, read_questions
    from fairveil.audit.report import agreement_table
    from fairveil.base.estimate import recorded

    asked, faces = read_questions(questions), _read(embeddings, None)
    found = [agreement(faces, asked, recognizer=name) for name in _chosen(faces, recognizer)]
    if as_json:
        records = [
            recorded(one, n="people", count="questions") | {"by_question": one.by_question.to_dicts()} for one in found
        ]
        typer.echo(json.dumps(records, indent=1))
        return
    for one in found:
        print_table(agreement_table(one))


def _print(audit: "Audit") -> None:
    from fairveil.audit.report import (
        accuracy_table,
        copies_told,
        curves_missing,
        open_set_table,
        reading,
        sensitivity_reading,
    )

    for table in filter(None, (accuracy_table(audit), open_set_table(audit))):
        print_table(table)
    before = (*audit.left_out, *copies_told(audit))
    for sentence in (*before, *reading(audit), *sensitivity_reading(audit), *curves_missing(audit)):
        print_sentence(f"- {sentence}")
    if audit.masked is not None and audit.masked.warning:
        results.print(Text("Warning: ", "bold red"), Text(audit.masked.warning), sep="", soft_wrap=True)


def _read(file: Path, labels: Path | None) -> "Embeddings":
    """Embeddings from a file, with labels from another where they are apart."""
    from fairveil.base.errors import shown
    from fairveil.data.table import read_strings
    from fairveil.faces.vectors import Embeddings

    if file.suffix.lower() == ".npy":
        if labels is None:
            raise FairveilError(f"{shown(file)} holds vectors only: give their labels with --labels, a row for each.")
        return Embeddings.from_array(file, read_strings(labels))
    if file.suffix.lower() != ".parquet":
        raise FairveilError(
            f"{shown(file)} is no file of embeddings (.parquet, .npy): give photos with --images, or embed them first."
        )
    faces = Embeddings.read(file)
    for note in faces.notes:
        say(note)
    return faces if labels is None else faces.with_labels(read_strings(labels), shown(labels))


def _embedded(
    images: str,
    labels: Path | None,
    names: list[str] | None,
    onnx: OnnxOptions,
    group: list[str] | None,
    bins: list[str] | None,
    face: Face,
    minimum_face: float,
    person_folder: int | None,
) -> "tuple[Embeddings, Grouping, dict[str, int]]":
    """Photos embedded, what to compare them by, and how many photos of each group have no face that was embedded."""
    from fairveil.data.table import FaceTable

    table = photos_of(images, person_folder) if labels is None else FaceTable.from_csv(labels, root=named_path(images))
    table.check_people()
    groups = _grouped(table.frame, table.groups, group, bins)
    column = groups.column
    table = replace(table, frame=groups.frames[0], groups=tuple(dict.fromkeys([*table.groups, column])))
    recognizers = load_recognizers(names or [DEFAULT_RECOGNIZER], everything=False, onnx=onnx)
    faces = embed_with_progress(table, recognizers, face, minimum_face, None)
    for line in left_out_lines(faces):
        say(line)
    lost = {*faces.without_face, *faces.unreadable}
    values = table.frame.filter(table.frame["image"].is_in(list(lost)))[column].drop_nulls()
    return faces, groups, {str(value): int((values == value).sum()) for value in values.unique()}


def _grouped(
    frame: "pl.DataFrame", there: tuple[str, ...], asked: list[str] | None, bins: list[str] | None
) -> "Grouping":
    """Labels with the one column to compare by."""
    from fairveil.data.grouping import bins_of, grouped

    if not asked and len(there) != 1:
        columns = f"the columns {', '.join(there)}" if there else "no column of groups"
        raise FairveilError(f"The labels have {columns}: say with --group what is to be compared.")
    return grouped([frame], asked or there, bins_of(bins or ()))


def _chosen(faces: "Embeddings", names: list[str] | None) -> list[str]:
    """Names of the recognizers to audit: those asked for, or all that there are."""
    wanted = [Path(name).stem if name.endswith((".onnx", ".safetensors")) else name for name in names or ()]
    for name in wanted:
        faces.vectors(name)  # says which there are
    return wanted or list(faces.recognizers)


def _train_shares(text: str | None, name: str, names: list[str] | None, groups: "Grouping") -> "Shares | None":
    """Shares of the train set: as stated, or as a model of `fairveil train` says of itself; None where unknown."""
    from fairveil.audit.auditing import in_percent, shares_of
    from fairveil.audit.imbalance import Shares
    from fairveil.data.grouping import BOTH, grouped
    from fairveil.data.population import Population
    from fairveil.data.table import read_strings

    if text is not None and text.lower().endswith(".csv"):
        like = grouped([read_strings(named_path(text))], groups.column.split(BOTH), groups.bins)
        return shares_of(Population.of(like.frames[0], groups.column))
    if text is not None:
        try:
            pairs = [part.split("=") for part in text.split(",")]
            parts = {key.strip(): float(value) for key, value in pairs}
            if len(parts) < len(pairs) or not all(0 <= value < 1e9 for value in parts.values()):
                raise ValueError(text)
            return Shares.of("identities", in_percent(parts))
        except FairveilError:
            raise
        except (ValueError, ZeroDivisionError):
            raise typer.BadParameter(
                f"{text!r} are no shares: write them like F=30,M=70.", param_hint="--train-set"
            ) from None
    file = next((one for one in names or () if one.endswith(".safetensors") and Path(one).stem == name), None)
    if file is None:
        return None
    from fairveil.faces.trained import read_model_card

    counts = read_model_card(Path(file)).make_up.get(groups.column)
    if not counts or len(counts) < 2:
        return None
    return Shares(*(in_percent({value: of[what] for value, of in counts.items()}) for what in ("identities", "images")))


def _about(name: str, faces: "Embeddings", names: list[str] | None) -> str:
    """What is known of a recognizer, in a sentence."""
    from fairveil import assets

    files = [artifact for artifact in assets.CATALOGUE.values() if artifact.name.rpartition(".")[0] == name
             or artifact.name == name]  # fmt: skip
    told = f"{name}: {faces.vectors(name).shape[1]} dimensions"
    if faces.provenance and name in faces.provenance.recognizers:
        told += f", network and crop {faces.provenance.recognizers[name][:12]}"
        if name in faces.provenance.thresholds:
            told += f", a match from a similarity of {faces.provenance.thresholds[name]:.2f}"
    file = next((one for one in names or () if Path(one).stem == name and one != name), None)
    if file is not None:
        return f"{told}; from the file {Path(file).name}."
    if not files:
        return f"{told}; nothing else is known of it."
    first = files[0]
    return f"{told}; {first.package} ({first.package.licence}). {first.provenance}"
