"""The commands `fairveil embed` and `fairveil identify`."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from filelock import ReadWriteLock, Timeout
from rich.markup import escape

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.cli.cluster import ClusterOptions, ray_cluster
from fairveil.cli.option_groups import with_option_groups
from fairveil.cli.options import (
    FACE_HELP,
    AsJson,
    Bins,
    Data,
    Face,
    FaceChoice,
    Groups,
    MinimumFace,
    Overwrite,
    PersonFolder,
    recognizer_option,
)
from fairveil.cli.outputs import check_target
from fairveil.cli.recognizers import OnnxOptions, load_recognizers
from fairveil.cli.terminal import named_path, print_sentence, print_table, progress_bar, say, stopped_by_ctrl_c

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.base.executors import Executor
    from fairveil.data.table import FaceTable
    from fairveil.faces.embedding import Embeddings
    from fairveil.faces.recognizers import Recognizer
    from fairveil.faces.searching import Search

DEFAULT_RECOGNIZER = "mobilefacenet-512"
"""Of the zoo, the one that errs least at its threshold."""

_RANKS = "1,5,50"
_FPIRS = "0.01,0.1"
_NAMED = 10  # photos that are named in a sentence


@with_option_groups
def embed(
    *,
    photos: Data,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", parser=named_path, help="Parquet file to write.", show_default=False
        ),
    ],
    recognizer: Annotated[list[str] | None, recognizer_option(default=DEFAULT_RECOGNIZER)] = None,
    face: FaceChoice = Face.central,
    minimum_face: MinimumFace = 40,
    person_folder: PersonFolder = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    cluster: ClusterOptions,
    onnx: OnnxOptions,
) -> None:
    """Find the faces in photos and embed them, for `fairveil identify`, audits and studies.

    A run that was stopped goes on where it was; several at once, with the same words, share the work.

    Example: fairveil embed lfw/ -o lfw.parquet --recognizer mobilefacenet-512 --recognizer dlib-resnet
    """
    from fairveil.base.errors import shown

    check_target(out, overwrite=overwrite)
    if out.suffix.lower() != ".parquet":  # by which `identify` tells it from photos
        raise typer.BadParameter(f"{shown(out)} does not end in .parquet: name a file that does.", param_hint="--out")
    table = photos_of(photos, person_folder)
    if table.nested:
        say(table.nested)
    recognizers = load_recognizers(recognizer or [DEFAULT_RECOGNIZER], everything=False, onnx=onnx)
    started = time.perf_counter()
    with (
        _shared_folder(out.with_name(f".{out.name}.parts")) as parts,
        ray_cluster(cluster.address) if cluster.address else nullcontext() as place,
    ):
        embeddings = embed_with_progress(table, recognizers, face, minimum_face, parts, place)
        if overwrite or not out.exists():  # another process that shared the work may have been faster
            embeddings.write(out, overwrite=overwrite)
    if as_json:
        about = {
            "file": str(out),
            "photos": len(table),
            "faces": len(embeddings),
            "recognizers": embeddings.recognizers,
            "without_face": embeddings.without_face,
            "unreadable": embeddings.unreadable,
            "seconds": round(time.perf_counter() - started, 3),
        }
        typer.echo(json.dumps(about, indent=1))
        return
    names = ", ".join(embeddings.recognizers)
    lines = [
        f"{shown(out)}: {len(embeddings):,} faces in {len(table):,} photos, by {names}.",
        *left_out_lines(embeddings),
    ]
    print_sentence("\n".join(lines))


@with_option_groups
def identify(
    *,
    gallery: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|CSV|PACK|PARQUET",
            help="Where to look: photos, or the embeddings that `fairveil embed` made of them.",
            show_default=False,
        ),
    ],
    probes: Annotated[
        str,
        typer.Option(
            metavar="PHOTO|FOLDER|CSV|PACK|PARQUET",
            help="Who to look for: a single photo, or the same as for --gallery.",
            show_default=False,
        ),
    ],
    recognizer: Annotated[
        list[str] | None,
        recognizer_option(default=f"those of the embeddings, or {DEFAULT_RECOGNIZER} where both sides are photos"),
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(
            metavar="RANKS",
            help="Ranks to report, that is, how many of the nearest faces count: by default 1,5,50, and all matches "
            "where identities are not known.",
        ),
    ] = None,
    fpir: Annotated[
        str,
        typer.Option(metavar="RATES", help="False positive identification rates at which to report the miss rate."),
    ] = _FPIRS,
    group: Groups = None,
    bins: Bins = None,
    face: Annotated[
        Face | None,
        typer.Option(help=f"{FACE_HELP.format(all='all, ')} By default central where identities are known, else all."),
    ] = None,
    minimum_face: MinimumFace = 40,
    person_folder: PersonFolder = None,
    matches: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=named_path, help="Write the nearest faces of every probe to this CSV."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    onnx: OnnxOptions,
) -> None:
    """Look for faces among others: how often the right person is found, or which photos someone may be in.

    Where both sides have identities (folder/identity/photo.jpg, or a column of a table), the share of probes that are
    found is measured. Where they have not, the nearest faces are listed for each probe. With the same photos on both
    sides every face is looked for among all the others.

    Example: fairveil identify --gallery holiday/ --probes me.jpg
    """
    from fairveil.audit.searches import (
        accuracy_table,
        error_ratio_line,
        miss_table,
        neighbor_lines,
        neighbor_record,
        search_record,
        wrong_matches_table,
    )

    if matches is not None:
        check_target(matches, overwrite=overwrite)
    ranks = ranks_of(_RANKS if k is None else k)
    fpirs = _fpirs(fpir)
    nearest = None if k is None else max(ranks)
    found, column = _searches(
        gallery, probes, recognizer, onnx, face, minimum_face, group or [], bins or [], person_folder
    )
    labeled = found[0].labeled
    if column is not None and not labeled:
        raise FairveilError("Groups are compared by how often their people are found, for which identities are needed.")
    for search in found if labeled else ():
        if search.strangers == len(search.outcome.rank):
            raise FairveilError(f"Nothing is left to measure. {search.strangers_told or ''}".strip())
    if matches is not None:
        _write_matches(matches, found, max(ranks), overwrite=overwrite)
    if as_json:
        records = [search_record(s, ranks, column, fpirs) if labeled else neighbor_record(s, nearest) for s in found]
        sides = {"gallery": gallery, "probes": probes, "leave_one_out": found[0].leave_one_out}
        typer.echo(json.dumps({**sides, "recognizers": records}, indent=1))
        return
    for search in found:
        if not labeled:
            print_sentence("\n".join(neighbor_lines(search, nearest)))
            continue
        tables = [accuracy_table(search, ranks, column), miss_table(search, fpirs, column)]
        tables += [wrong_matches_table(search, column)] if column else []
        for table in filter(None, tables):
            print_table(table)
        if column and (line := error_ratio_line(search, 1, column)):
            print_sentence(line)


def ranks_of(text: str) -> list[int]:
    """The numbers in "1,5,50", in order."""
    try:
        ranks = sorted({int(number) for number in text.split(",")})
    except ValueError:
        ranks = [0]
    if not 1 <= ranks[0] <= ranks[-1] < 1 << 31:
        raise typer.BadParameter(f"{text!r} are no ranks; write them like 1,5,50.", param_hint="--k")
    return ranks


def _fpirs(text: str) -> list[float]:
    """The numbers in "0.01,0.1", in order."""
    try:
        shares = sorted({float(number) for number in text.split(",")})
    except ValueError:
        shares = [0.0]
    if not 0 < shares[0] <= shares[-1] < 1:
        raise typer.BadParameter(
            f"{text!r} are no shares between 0 and 1; write them like 0.01,0.1.", param_hint="--fpir"
        )
    return shares


def photos_of(source: str, person_folder: int | None = None) -> "FaceTable":
    """A data set, or a single photo as one; what was passed over, and changed when its labels were read, is told."""
    from fairveil.data import FaceTable, open_table

    path = named_path(source)
    if path.is_file() and path.suffix.lower() not in (".csv", ".tar"):
        return FaceTable.of_images([path.name], path.absolute().parent, name=path.name)
    table = open_table(source, level=person_folder)
    for note in table.notes:
        say(f"{source}: {note}")
    return table


@contextmanager
def _shared_folder(folder: Path) -> Iterator[Path]:
    """A folder for the parts of a result: the last process that is done removes it, one that was stopped finds it."""
    from fairveil.base.errors import shown

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FairveilError(f"{shown(folder)} cannot be made: {error.strerror or error}.") from error
    users = ReadWriteLock(folder / "users.db", is_singleton=False)
    with users.read_lock():
        yield folder
    with suppress(Timeout), users.write_lock(blocking=False):
        shutil.rmtree(folder, ignore_errors=True)


def embed_with_progress(
    table: "FaceTable",
    recognizers: Sequence["Recognizer"],
    face: Face,
    minimum_face: float,
    parts: Path | None,
    cluster: "Executor | None" = None,
) -> "Embeddings":
    """`embed_faces` with a progress bar."""
    from fairveil.base.errors import shown
    from fairveil.faces.detection import Detector
    from fairveil.faces.embedding import embed_faces

    detector = None if face is Face.aligned else Detector.pretrained(minimum_face=minimum_face)
    with stopped_by_ctrl_c("The same command goes on from here." if parts else ""), progress_bar() as progress:
        task = progress.add_task(escape(shown(table.name)), total=len(table))
        return embed_faces(
            table,
            recognizers,
            detector=detector,
            which=face.value,
            parts=parts,
            executor=cluster,
            on_photo=lambda count: progress.update(task, completed=count),
        )


def left_out_lines(embeddings: "Embeddings") -> list[str]:
    """In sentences: which photos have no face, and which could not be read."""
    from fairveil.base.errors import shown

    lines = []
    if images := embeddings.without_face:
        lines.append(f"No face was found in {len(images):,}: {_some([shown(image) for image in images])}.")
    if embeddings.unreadable:
        reasons = [reason.rstrip(".") for reason in embeddings.unreadable.values()]
        lines.append(f"{len(reasons):,} could not be used: {_some(reasons)}.")
    return lines


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _searches(
    gallery: str,
    probes: str,
    names: list[str] | None,
    onnx: OnnxOptions,
    face: Face | None,
    minimum_face: float,
    wanted_groups: list[str],
    bins: list[str],
    person_folder: int | None,
) -> tuple[list["Search"], str | None]:
    """What is to be compared, with embeddings read or made once it is known that all sides have the groups.

    Returns:
        The searches, and the column of the groups, if any were asked for.
    """
    from fairveil.base.errors import shown
    from fairveil.data.grouping import column_names
    from fairveil.faces.embedding import Embeddings
    from fairveil.faces.searching import searches

    paths = {source: named_path(source) for source in (gallery, probes)}
    sides = {source: Embeddings.read(path) for source, path in paths.items() if path.suffix.lower() == ".parquet"}
    for source, side in sides.items():
        for note in side.notes:
            say(f"{shown(source)}: {note}")
    tables = {source: photos_of(source, person_folder) for source in paths if source not in sides}
    sides = _ask_who_is_a_person(sides, tables, person_folder)
    groups = {source: side.groups for source, side in sides.items()}
    groups |= {source: table.groups for source, table in tables.items()}
    for source, there in groups.items():
        for group in column_names(there, wanted_groups):
            if group not in there:
                hint = did_you_mean(group, there)
                names_there = ", ".join(there) or "none"
                raise FairveilError(f"{shown(source)} has no groups {group!r}.{hint} It has {names_there}.")
    if not tables:
        onnx.refuse_without([], "both sides are embedded already")
    else:
        recognizers = _like(sides, names, onnx)
        for source, table in tables.items():
            known = any(identity is not None for identity in table.identities)
            chosen = face or (Face.central if known else Face.all)
            sides[source] = embed_with_progress(table, recognizers, chosen, minimum_face, None)
            for line in left_out_lines(sides[source]):
                say(f"{shown(source)}: {line}")
    sides, column = _crossed(sides, wanted_groups, bins)
    same = paths[gallery].resolve() == paths[probes].resolve()
    found = searches(sides[probes], sides[gallery], leave_one_out=same)
    wanted = {Path(name).stem if name.endswith((".onnx", ".safetensors")) else name for name in names or ()}
    if unknown := wanted - {search.recognizer for search in found}:
        raise FairveilError(
            f"There are no embeddings of {', '.join(sorted(unknown))} on both sides, but of "
            f"{', '.join(search.recognizer for search in found)}."
        )
    return [search for search in found if not wanted or search.recognizer in wanted], column


def _ask_who_is_a_person(
    sides: dict[str, "Embeddings"], tables: dict[str, "FaceTable"], person_folder: int | None
) -> dict[str, "Embeddings"]:
    """Stop where people are compared, and folders lie in folders, so that either could be a person.

    Returns:
        The sides that are embedded already, with the people that the option means.
    """
    known = [any(name is not None for name in table.identities) for table in tables.values()]
    known += ["identity" in side.frame.columns for side in sides.values()]
    if not all(known):
        return sides
    for table in tables.values():
        table.check_people()
    return {source: side.of_people(person_folder) for source, side in sides.items()}


def _crossed(
    sides: dict[str, "Embeddings"], wanted: list[str], bins: list[str]
) -> tuple[dict[str, "Embeddings"], str | None]:
    """Both sides with the one column to compare by, and its name; as they are where no groups are asked for."""
    from fairveil.data.grouping import bins_of, grouped

    if not wanted:
        return sides, None
    groups = grouped([side.frame for side in sides.values()], wanted, bins_of(bins))
    for note in groups.notes:
        say(note)
    pairs = zip(sides.items(), groups.frames, strict=True)
    return {source: replace(side, frame=frame) for (source, side), frame in pairs}, groups.column


def _like(sides: dict[str, "Embeddings"], names: list[str] | None, onnx: OnnxOptions) -> list["Recognizer"]:
    """The recognizers asked for, or else those of the side that is embedded already, or else the default."""
    from fairveil.base.errors import shown
    from fairveil.faces.zoo import ZOO

    for source, side in sides.items():
        if not names and not set(side.recognizers) <= set(ZOO):
            others = ", ".join(name for name in side.recognizers if name not in ZOO)
            raise FairveilError(f"{shown(source)} was embedded by {others}: give that recognizer's ONNX file as well.")
        names = names or list(side.recognizers)
    return load_recognizers(names or [DEFAULT_RECOGNIZER], everything=False, onnx=onnx)


def _write_matches(path: Path, found: Sequence["Search"], k: int, *, overwrite: bool) -> None:
    import polars as pl

    from fairveil.base.errors import shown
    from fairveil.base.files import atomic_path

    try:
        with atomic_path(path, overwrite=overwrite) as temporary:
            pl.concat(search.neighbors(k) for search in found).write_csv(temporary)
    except OSError as error:
        raise FairveilError(f"{shown(path)} cannot be written: {error.strerror or error}.") from error
