"""Lists of X-rays in the layouts they are published in: where images are, whose, and with which findings."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean, shown
from fairveil.data.labels import MISSING
from fairveil.data.table import FaceTable, read_strings
from fairveil.data.xrays.cells import MEANINGS, Uncertain, age_bands, choose, read_labels, sexes, stack_labels, years
from fairveil.data.xrays.images import FINDINGS

Views = Literal["all", "frontal", "lateral"]

_CHEXPERT = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_NIH = ("Image Index", "Finding Labels", "Patient ID")
_NIH_FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
_SPELLINGS = {"Pleural Effusion": "Effusion"}  # of ChestX-ray14, where they are not CheXpert's
_LATERAL, _FRONTAL = r"^(?i)(l|ll|rl|lat|lateral)\b", r"^(?i)(pa|ap|frontal)\b"


@dataclass(frozen=True, eq=False)
class Listing:
    """The X-rays of a list, none of which has been opened.

    Attributes:
        table: where images are, and as identities whose; with the group columns.
        names: what the list calls each image.
        labels: float32 (N, K): 1 where a finding is present, 0 where absent, NaN where unknown.
        classes: the K findings.
        left_out: why rows were left out, and how many each.
        remarks: how many findings are present, absent, unknown and uncertain, in sentences.
    """

    table: FaceTable
    names: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    left_out: dict[str, int]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a list as they stand: one of `names` and `places` each, the latter below a root.

    Attributes:
        kinds: "frontal" or "lateral", null where unknown.
        groups: all columns that can be groups.
        usual: which are unless others are asked for.
        labels: float32 (N, K).
    """

    name: str
    root: Path
    names: pl.Series
    places: pl.Series
    patients: pl.Series
    kinds: pl.Series
    groups: pl.DataFrame
    usual: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Tensor


def list_xrays(
    path: Path,
    *,
    findings: Sequence[str] | None = None,
    uncertain: Uncertain | None = None,
    views: Views = "all",
    groups: Sequence[str] | None = None,
) -> Listing:
    """Read a list of X-rays; see `read_xrays`, whose arguments these are.

    Raises:
        FairveilError: as `read_xrays`, for all that can be known without opening an image.
    """
    for what, given, known in (("uncertain", uncertain or "mixed", Uncertain), ("views", views, Views)):
        if given not in get_args(known):
            raise FairveilError(f"{what} is {given!r}: choose from {', '.join(get_args(known))}.")
    if findings is not None and not findings:
        raise FairveilError("No finding is asked for: name one or more, or leave findings out for the usual five.")
    path = _list_at(path)
    frame = read_strings(path).with_columns(pl.all().str.strip_chars().replace(list(MISSING), None))
    if not len(frame):
        raise FairveilError(f"{shown(path)} has no rows.")
    reader = next((reader for shows, reader in _LAYOUTS if shows(frame.columns)), None)
    if reader is None:
        raise FairveilError(
            f"{shown(path)} is no list of X-rays: it needs the columns of CheXpert ({', '.join(_CHEXPERT)} and "
            f"findings), of ChestX-ray14 ({', '.join(_NIH)}), or image, patient, and a column a finding; it has "
            f"{', '.join(frame.columns[:20])}."
        )
    asked = None if findings is None else tuple(dict.fromkeys(findings))
    rule: Uncertain = uncertain or ("ignore" if reader is _plain else "mixed")
    rows = reader(path, frame, asked, rule)
    listing = _listing(rows, views, groups)
    return replace(listing, remarks=tuple(_counted(listing, frame, rule)))


def _counted(listing: Listing, frame: pl.DataFrame, rule: Uncertain) -> Iterator[str]:
    """How often each finding is present, absent and unknown, and what became of -1."""
    counts = []
    for finding, column in zip(listing.classes, listing.labels.T, strict=True):
        present, absent = int((column == 1).sum()), int((column == 0).sum())
        counts.append(f"{finding} {present:,} / {absent:,} / {len(column) - present - absent:,}")
    yield f"Present / absent / unknown: {'; '.join(counts)}."
    columns = [frame[finding].cast(pl.Float32, strict=False) for finding in listing.classes if finding in frame.columns]
    if doubtful := sum(int((column == -1).sum()) for column in columns):
        yield f"-1 (uncertain) stands {doubtful:,} times and counts as {MEANINGS[rule]} (uncertain: {rule})."


def _list_at(path: Path) -> Path:
    """The CSV that a path means: itself, the one beside an archive, or that of a folder."""
    if path.suffix.lower() == ".tar":
        if not path.with_suffix(".csv").is_file():
            raise FairveilError(
                f"Beside {shown(path)} there is no {shown(path.with_suffix('.csv').name)} with findings."
            )
        return path.with_suffix(".csv").absolute()
    if not path.is_dir():
        return path.absolute()  # so that its folder has a folder it is in
    if (path / "train.csv").is_file():
        return (path / "train.csv").absolute()
    lists = sorted(path.glob("Data_Entry_2017*.csv")) or sorted(path.glob("*.csv"))
    if len(lists) != 1:
        has = f"{len(lists)} CSV files" if lists else "no CSV file"
        raise FairveilError(
            f"{shown(path)} has {has}: name the CSV of the X-rays, or a folder with train.csv, Data_Entry_2017*.csv, "
            "or one CSV."
        )
    return lists[0].absolute()


def _chexpert(path: Path, frame: pl.DataFrame, findings: tuple[str, ...] | None, uncertain: Uncertain) -> _Rows:
    """CheXpert (Irvin et al. 2019): what a report does not mention counts as absent."""
    names = frame["Path"]
    classes = _known_findings(path, findings or FINDINGS, [name for name in frame.columns if name not in _CHEXPERT])
    root, places = _chexpert_places(path, names)
    kinds = frame["Frontal/Lateral"].str.to_lowercase()
    ages = years(frame["Age"]).replace(0, None)  # which stands for none
    groups = pl.DataFrame(
        {
            "sex": sexes(frame["Sex"]),
            "age": age_bands(ages),
            "view": choose(kinds == "lateral", "lateral", frame["AP/PA"]),
        }
    )
    return _Rows(
        name=f"CheXpert {path.stem}",
        root=root,
        names=names,
        places=places,
        patients=names.str.extract(r"(patient\d+)"),
        kinds=kinds,
        groups=groups,
        usual=tuple(groups.columns),
        classes=classes,
        labels=read_labels(path, frame, classes, uncertain, empty=0),
    )


def _chexpert_places(path: Path, names: pl.Series) -> tuple[Path, pl.Series]:
    """The folder below which images are, and where: names begin with that of the data set's folder, or of a former."""
    archive = path.with_suffix(".tar")
    if archive.is_file():
        return archive, names
    inner = names.str.replace(r"^[^/]*/", "")
    sample = slice(0, 100)
    for root, places in ((path.parent, names), (path.parent.parent, names), (path.parent, inner)):
        if any((root / place).is_file() for place in places.drop_nulls()[sample]):
            return root, places
    return path.parent, inner


def _nih(path: Path, frame: pl.DataFrame, findings: tuple[str, ...] | None, uncertain: Uncertain) -> _Rows:
    """NIH ChestX-ray14 (Wang et al. 2017): frontal X-rays, whose list names the findings that are present."""
    names = frame["Image Index"]
    words = frame["Finding Labels"].str.split("|").list.eval(pl.element().str.strip_chars())
    known = sorted({*_NIH_FINDINGS, *words.explode().drop_nulls()} - {"No Finding"})
    usual = tuple(_SPELLINGS.get(finding, finding) for finding in FINDINGS)
    classes = _known_findings(path, findings or usual, known)
    present = [words.list.contains(finding).cast(pl.Float32) for finding in classes]
    archive = path.with_suffix(".tar")
    root = archive if archive.is_file() else path.parent
    sex = next((frame[column] for column in ("Patient Sex", "Patient Gender") if column in frame.columns), None)
    groups = pl.DataFrame(
        {
            "sex": _unknown(frame) if sex is None else sexes(sex),
            "age": age_bands(years(frame["Patient Age"] if "Patient Age" in frame.columns else _unknown(frame))),
            "view": frame["View Position"] if "View Position" in frame.columns else _unknown(frame),
        }
    )
    return _Rows(
        name="ChestX-ray14",
        root=root,
        names=names,
        places=names if archive.is_file() else _nih_places(root, names),
        patients=frame["Patient ID"],
        kinds=pl.Series(["frontal"]).new_from_index(0, len(frame)),
        groups=groups,
        usual=tuple(groups.columns),
        classes=classes,
        labels=stack_labels(present),
    )


def _nih_places(root: Path, names: pl.Series) -> pl.Series:
    """Where images are: beside the list, in images/, or in the folders the archives unpack to; else as they stand."""
    places: dict[str, str] = {}
    for folder in (root, root / "images", *sorted(root.glob("images_*/images"))):
        if folder.is_dir():
            below = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
            with os.scandir(folder) as entries:
                places |= {entry.name: below + entry.name for entry in entries}
    return pl.Series([places.get(name, name) for name in names], dtype=pl.String)


def _plain(path: Path, frame: pl.DataFrame, findings: tuple[str, ...] | None, uncertain: Uncertain) -> _Rows:
    """A list with the columns image (or file), patient, and any findings, of which empty ones are unknown."""
    image = "image" if "image" in frame.columns else "file"
    others = [column for column in frame.columns if column not in (image, "patient", "identity")]
    if findings is None:
        spelled = [(name, _SPELLINGS.get(name, name)) for name in FINDINGS]
        findings = tuple(name for pair in spelled for name in dict.fromkeys(pair) if name in others)
        if not findings:
            raise FairveilError(
                f"{shown(path)} has none of the usual findings ({', '.join(FINDINGS)}): name those it has; its columns "
                f"are {', '.join(frame.columns)}."
            )
    classes = _known_findings(path, findings, others)
    archive = path.with_suffix(".tar")
    view = frame["view"] if "view" in others else _unknown(frame)
    groups = frame.select(column for column in others if column not in classes)
    if "sex" in groups.columns:
        groups = groups.with_columns(sex=sexes(frame["sex"]))
    if "age" in groups.columns and (ages := years(frame["age"])).null_count() == frame["age"].null_count():
        groups = groups.with_columns(age=age_bands(ages))  # and not words, such as young
    if "view" in groups.columns:
        groups = groups.with_columns(view=choose(view.str.contains(_LATERAL), "lateral", view))
    frontal = choose(view.str.contains(_FRONTAL), "frontal", _unknown(frame))
    return _Rows(
        name=path.stem,
        root=archive if archive.is_file() else path.parent,
        names=frame[image],
        places=frame[image],
        patients=frame["patient"],
        kinds=choose(view.str.contains(_LATERAL), "lateral", frontal),
        groups=groups,
        usual=tuple(column for column in ("sex", "age") if column in groups.columns),
        classes=classes,
        labels=read_labels(path, frame, classes, uncertain, empty=float("nan")),
    )


_LAYOUTS: tuple[tuple[Callable[[list[str]], bool], Callable[..., _Rows]], ...] = (
    (lambda columns: {*_CHEXPERT} <= {*columns}, _chexpert),
    (lambda columns: {*_NIH} <= {*columns}, _nih),
    (lambda columns: "patient" in columns and bool({"image", "file"} & {*columns}), _plain),
)
"""What columns give a layout away, and who reads it."""


def _listing(rows: _Rows, views: Views, groups: Sequence[str] | None) -> Listing:
    """Choose groups and rows."""
    for group in groups or ():
        if group not in rows.groups.columns:
            hint = did_you_mean(group, rows.groups.columns)
            has = ", ".join(rows.groups.columns) or "none"
            raise FairveilError(f"{rows.name} has no groups by {group!r}.{hint} It has {has}.")
    if views != "all" and rows.kinds.null_count() == len(rows.kinds):
        raise FairveilError(
            f"{rows.name} does not say which X-rays are frontal and which lateral: add a column view, or read all "
            "views."
        )
    chosen = rows.usual if groups is None else tuple(dict.fromkeys(groups))
    columns = {"image": rows.places, "identity": rows.patients, **{group: rows.groups[group] for group in chosen}}
    table = FaceTable.of(pl.DataFrame(columns), rows.root, name=rows.name)
    reasons = {
        "no patient": rows.patients.is_null(),
        "no finding known": pl.Series(rows.labels.isnan().all(1).numpy()),
    }
    if views != "all":
        other = (rows.kinds != views).fill_null(False)
        reasons = {"view not known": rows.kinds.is_null(), "another view": other} | reasons
    kept = pl.Series([True]).new_from_index(0, len(table))
    left_out: dict[str, int] = {}
    for reason, holds in reasons.items():
        if count := int((kept & holds).sum()):
            left_out[reason] = count
        kept = kept & ~holds
    if not kept.any():
        why = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise FairveilError(f"None of the {len(table)} X-rays of {rows.name} is left ({why}).")
    return Listing(
        replace(table, frame=table.frame.filter(kept)),
        tuple(rows.names.filter(kept)),
        rows.labels[torch.from_numpy(kept.to_numpy(writable=True))],
        rows.classes,
        left_out,
    )


def _known_findings(path: Path, findings: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    for finding in findings:
        if finding not in known:
            raise FairveilError(
                f"{shown(path)} has no finding {finding!r}.{did_you_mean(finding, known)} It has {', '.join(known)}."
            )
    return tuple(findings)


def _unknown(frame: pl.DataFrame) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, len(frame))
