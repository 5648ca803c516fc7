"""Data sets in the layouts they are published in, each read as a `FaceTable`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from fairveil.base.errors import FairveilError, shown
from fairveil.data.majority import vote
from fairveil.data.table import FaceTable, read_strings

PACKS: Mapping[str, str] = {
    "lfw": "Labeled Faces in the Wild, 250×250 with surroundings",
    "celeb18": "aligned 112×112 crops of 18 people, sampled from Glint360K",
    "lfw10": "ten photos of each of ten people, from Labeled Faces in the Wild",
    "photos": "photos of people, of all sizes, without labels",
}
"""Packs that `FAIRVEIL_DATA` may hold: NAME.tar with the photos and, but for the last two, NAME.csv with labels."""

_WITHOUT_CSV = ("lfw10", "photos")


def open_table(source: str | Path, *, level: int | None = None) -> FaceTable:
    """Read a data set from wherever it is: a CSV, a folder in any layout known here, an archive, or a pack by its name.

    An archive gets its labels from the CSV beside it that is called like it, if there is one, else from its folders.

    Args:
        source: a path, or the name of a pack.
        level: which folder names a person, where plain folders do, see `people_of`.

    Raises:
        FairveilError: there is nothing of this name, or it cannot be read.
    """
    path = Path(source)
    if path.suffix.lower() == ".csv":
        return FaceTable.from_csv(path)
    if path.suffix.lower() == ".tar":
        labels = path.with_suffix(".csv")
        return FaceTable.from_csv(labels, root=path) if labels.is_file() else FaceTable.from_archive(path, level=level)
    if path.is_dir():
        return next((read(path) for shows, read in _LAYOUTS if shows(path)), None) or FaceTable.from_folder(
            path, level=level
        )
    if str(source) in PACKS:
        return read_pack(str(source))
    raise FairveilError(
        f"There is no data set {shown(str(source))}: name a CSV, a folder, a tar archive, or one of the packs "
        f"{', '.join(PACKS)}."
    )


def pack_folder() -> Path | None:
    """The folder that `FAIRVEIL_DATA` names; None where it is not set."""
    folder = os.environ.get("FAIRVEIL_DATA")
    return Path(folder) if folder else None


def has_pack(name: str, data: Path | None = None) -> bool:
    """Whether a pack is in a folder; by default that of `FAIRVEIL_DATA`.

    >>> has_pack("no such pack")
    False
    """
    folder = data or pack_folder()
    return folder is not None and all((folder / file).is_file() for file in _files(name))


def read_pack(name: str, data: Path | None = None) -> FaceTable:
    """Read NAME.csv, and the photos from NAME.tar beside it; rows marked as near-duplicates (`dup_group`) are left out.

    Args:
        name: of the pack.
        data: the folder it is in; by default the one that `FAIRVEIL_DATA` names.

    Raises:
        FairveilError: the pack is not there.
    """
    folder = data or pack_folder()
    if folder is None or not has_pack(name, folder):
        where = "FAIRVEIL_DATA is not set" if folder is None else f"{shown(folder)} does not hold it"
        files = " and ".join(_files(name))
        raise FairveilError(f"The pack {name!r} is not here: {where}. Set FAIRVEIL_DATA to the folder with {files}.")
    if name in _WITHOUT_CSV:
        table = FaceTable.from_archive(folder / f"{name}.tar", name=name)
        # The folders of `photos` say where its photos came from, not whom they show.
        return FaceTable(table.frame.select("image"), table.root, name) if name == "photos" else table
    table = FaceTable.from_csv(folder / f"{name}.csv", root=folder / f"{name}.tar", name=name)
    if "dup_group" in table.groups:  # one photo of each group of near-duplicates stays
        first = pl.col("dup_group").is_null() | pl.struct("identity", "dup_group").is_first_distinct()
        table = table.filter(first)
    groups = tuple(group for group in table.groups if group == "gender")
    return FaceTable(table.frame.select("image", "identity", *groups), table.root, name, groups)


def read_celeba(root: Path) -> FaceTable:
    """CelebA: identity_CelebA.txt, list_attr_celeba.txt (±1), list_eval_partition.txt and img_align_celeba/.

    They are looked for in the folder itself and, as published, in its folders Anno, Eval and Img. Every attribute is
    a group of the values "yes" and "no"; `Male` also gives `gender`, and the partition is `split`. A photo that a
    file does not list has null there.

    Attributes are labeled photo by photo, and some people have photos of both values of `Male`. All their labeled
    photos get the value of most of them, which the table's notes tell; the other attributes stay as they are.

    Raises:
        FairveilError: the file of identities is missing, or a file is unlike its published form.
    """
    frame = _columns_of(_either(root, "Anno", "identity_CelebA.txt"), ["file", "identity"])
    images = _either(root, "Img", "img_align_celeba").relative_to(root).as_posix()
    frame = frame.with_columns(image=f"{images}/" + pl.col("file"))
    notes: tuple[str, ...] = ()
    attributes = _either(root, "Anno", "list_attr_celeba.txt")
    if attributes.is_file():
        header = [line.split() for line in _lines(attributes)[:2]]
        if len(header) < 2 or not header[1]:
            raise FairveilError(f"{shown(attributes)} has no names of attributes on its second line, as CelebA has.")
        values = _columns_of(attributes, ["file", *header[1]], skip=2)
        frame = frame.join(values.select("file", *_yes_or_no(values, header[1], attributes)), on="file", how="left")
        if "Male" in header[1]:
            frame, notes = vote(frame, "Male", of="CelebA")
            genders = {"yes": "male", "no": "female"}
            gender = pl.col("Male").replace_strict(genders, default=None, return_dtype=pl.String)
            frame = frame.with_columns(gender=gender)
    partition = _either(root, "Eval", "list_eval_partition.txt")
    if partition.is_file():
        parts = _columns_of(partition, ["file", "split"])
        frame = frame.join(parts, on="file", how="left").with_columns(
            pl.col("split").replace({"0": "train", "1": "validation", "2": "test"})
        )
    return replace(FaceTable.of(frame.drop("file"), root, name="CelebA"), notes=notes)


def read_lfw(root: Path) -> FaceTable:
    """Labeled Faces in the Wild: a folder a person; male_names.txt and female_names.txt give `gender` where present."""
    table = FaceTable.from_folder(root, name="LFW")
    genders: dict[str, str] = {}
    for gender in ("male", "female"):
        names = root / f"{gender}_names.txt"
        if names.is_file():
            genders |= {Path(line.strip()).name: gender for line in _lines(names) if line.strip()}
    frame = table.frame.with_columns(identity=_folder_of_image())
    if genders:
        file = pl.col("image").str.split("/").list.last()
        frame = frame.with_columns(gender=file.replace_strict(genders, default=None, return_dtype=pl.String))
    return replace(FaceTable.of(frame, root, name="LFW"), notes=table.notes)


def read_facescrub(root: Path) -> FaceTable:
    """FaceScrub: actors/NAME/*.jpg and actresses/NAME/*.jpg give `gender`; plain folders a person give none.

    It is published as lists of addresses. Downloaders put photos in NAME or images/NAME, and the faces they cut from
    them in NAME/face or faces/NAME. Of a person with both only the photos are taken: a photo and a face cut from it are
    one picture, which must not be probe and gallery at once.
    """
    table = FaceTable.from_folder(root, name="FaceScrub")
    genders = {"actors": "male", "actresses": "female"}
    first = pl.col("image").str.split("/").list.first()
    frame = table.frame.with_columns(
        gender=first.replace_strict(genders, default=None, return_dtype=pl.String),
        identity=_folder_of_image(pl.col("image").str.replace("/face/([^/]*)$", "/$1")),
    )
    cut = pl.col("image").str.contains("/face/[^/]*$|(^|/)faces/[^/]*/[^/]*$")
    frame = frame.filter(~cut | cut.all().over("gender", "identity"))
    frame = frame.drop("gender") if frame["gender"].is_null().all() else frame
    return replace(FaceTable.of(frame, root, name="FaceScrub"), notes=table.notes)


def read_umdfaces(root: Path) -> FaceTable:
    """UMDFaces: umdfaces_batch*/umdfaces_batch*_ultraface.csv with SUBJECT_ID and FILE, images below each batch.

    A person is the folder of FILE, which bears the name: numbers of people may start anew in each batch. Genders are
    not taken, as PR_MALE and PR_FEMALE are a network's guesses.

    Raises:
        FairveilError: there is no such file, or it has not these columns.
    """
    frames = []
    for table in sorted(root.glob("umdfaces_batch*/*.csv")):
        rows = read_strings(table)
        if not {"SUBJECT_ID", "FILE"} <= set(rows.columns):
            raise FairveilError(f"{shown(table)} has no columns SUBJECT_ID and FILE, as UMDFaces has.")
        image = table.parent.name + "/" + pl.col("FILE").str.strip_chars()
        frames.append(rows.select(image=image, identity=_folder_of_image(pl.col("FILE"))))
    if not frames:
        raise FairveilError(f"{shown(root)} has no umdfaces_batch*/*.csv, as UMDFaces has.")
    return FaceTable.of(pl.concat(frames).unique("image", maintain_order=True), root, name="UMDFaces")


def read_balancedface(root: Path) -> FaceTable:
    """BUPT-Balancedface (Wang and Deng, 2020): race_per_7000/RACE/PERSON/*.jpg give `race`; see `read_races`.

    The folder is race_per_7000 itself, one that holds it, or one that holds `images` with it. Copies of other sizes,
    such as race_per_7000_112x112, are found likewise; of several the first by its name is read.

    Raises:
        FairveilError: there are no such folders, or no photo in them.
    """
    return read_races(_balancedface_folder(root) or root, name="BUPT-Balancedface")


def read_rfw(root: Path) -> FaceTable:
    """Racial Faces in the Wild (Wang et al., 2019): test/data/RACE/PERSON/*.jpg give `race`; see `read_races`.

    The folder is RFW's, its folder `test`, or one that holds RFW's. Lists of pairs and of landmarks are not read.

    Raises:
        FairveilError: there are no such folders, or no photo in them.
    """
    return read_races(_rfw_folder(root) or root, name="RFW")


def read_races(folder: Path, *, name: str | None = None) -> FaceTable:
    """A folder for each race (African, Asian, Caucasian, Indian), and in it one for each person, give `race`.

    A person with photos in two of them is of the race with more photos. That, and photos that are nowhere in a folder
    RACE/PERSON, which are passed over, the table's notes tell.

    Args:
        folder: which holds those of the races.
        name: of the data set; by default the folder's.

    Raises:
        FairveilError: there are no such folders, or no photo in them.
    """
    if not _has_races(folder):
        raise FairveilError(
            f"{shown(folder)} has no folders {', '.join(RACES)} with a folder for each person in them: name the folder "
            "that has."
        )
    name = name or folder.name
    every = FaceTable.from_folder(folder, name=name)
    parts = pl.col("image").str.split("/")
    fitting = every.frame.filter(parts.list.len() == 3, parts.list.first().is_in(RACES))
    if not len(fitting):
        raise FairveilError(f"{shown(folder)} has no photos in folders RACE/PERSON, such as {RACES[0]}/m.0abc/1.jpg.")
    labeled = fitting.select("image", identity=parts.list.get(1), race=parts.list.first())
    frame, voted = vote(labeled, "race", of=name)
    notes = every.notes + voted
    if passed := len(every) - len(fitting):
        verb = "photo of {} is" if passed == 1 else "photos of {} are"
        notes += (f"{passed:,} {verb.format(name)} in no folder RACE/PERSON, and passed over.",)
    return FaceTable(frame, folder, name, ("race",), notes)


RACES = ("African", "Asian", "Caucasian", "Indian")
"""The folders of both data sets of Wang and Deng."""


def _balancedface_folder(root: Path) -> Path | None:
    """The folder of BUPT-Balancedface that holds those of the races."""
    if root.name.startswith("race_per_7000") and _has_races(root):
        return root
    return _first_with_races(root, "race_per_7000*", "*/race_per_7000*")


def _rfw_folder(root: Path) -> Path | None:
    """The folder of RFW that holds those of the races."""
    return _first_with_races(root, "data", "test*/data", "*/test*/data")


def _first_with_races(root: Path, *patterns: str) -> Path | None:
    places = (place for pattern in patterns for place in sorted(root.glob(pattern)))
    return next(filter(_has_races, places), None)


def _has_races(folder: Path) -> bool:
    """Whether two at least of the races have folders here, each with a folder in it."""
    there = [folder / race for race in RACES if (folder / race).is_dir()]
    return len(there) > 1 and all(any(inner.is_dir() for inner in race.iterdir()) for race in there)


def _files(pack: str) -> list[str]:
    return [f"{pack}.tar"] if pack in _WITHOUT_CSV else [f"{pack}.csv", f"{pack}.tar"]


def _either(root: Path, folder: str, name: str) -> Path:
    """Where a part of CelebA is: in the folder it is published in, if there, and else directly below the root."""
    published = root / folder / name
    return published if published.exists() else root / name


def _yes_or_no(values: pl.DataFrame, names: list[str], path: Path) -> list[pl.Expr]:
    """Attributes of 1 and -1 as words."""
    odd = values.select(pl.concat_list(names).explode().alias("value")).filter(~pl.col("value").is_in(["1", "-1"]))
    if len(odd):
        raise FairveilError(f"{shown(path)} has the value {odd['value'][0]!r} where CelebA has 1 or -1.")
    return [pl.col(name).replace_strict({"1": "yes", "-1": "no"}) for name in names]


def _folder_of_image(image: pl.Expr | None = None) -> pl.Expr:
    """The folder an image is directly in; null for those in none."""
    return (pl.col("image") if image is None else image).str.split("/").list.get(-2, null_on_oob=True)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise FairveilError(f"{shown(path)} cannot be read: {reason}.") from error


def _columns_of(path: Path, names: list[str], *, skip: int = 0) -> pl.DataFrame:
    """A text file of columns between spaces."""
    lines = pl.DataFrame({"line": _lines(path)[skip:]}, schema={"line": pl.String}).with_row_index("number", skip + 1)
    words = pl.col("line").str.extract_all(r"\S+")
    lines = lines.select("number", words=words).filter(pl.col("words").list.len() > 0)
    odd = lines.filter(pl.col("words").list.len() != len(names))
    if len(odd):
        number, found = odd.row(0)
        raise FairveilError(f"Line {number} of {shown(path)} has {len(found)} columns, not {len(names)}.")
    return lines.select(pl.col("words").list.get(place).alias(name) for place, name in enumerate(names))


def _is_lfw(folder: Path) -> bool:
    return (folder / "male_names.txt").is_file() or (folder / "female_names.txt").is_file()


_LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], FaceTable]], ...] = (
    (lambda folder: _either(folder, "Anno", "identity_CelebA.txt").is_file(), read_celeba),
    (lambda folder: any(folder.glob("umdfaces_batch*/*.csv")), read_umdfaces),
    (lambda folder: (folder / "actors").is_dir() or (folder / "actresses").is_dir(), read_facescrub),
    (_is_lfw, read_lfw),
    (lambda folder: _balancedface_folder(folder) is not None, read_balancedface),
    (lambda folder: _rfw_folder(folder) is not None, read_rfw),
    (_has_races, read_races),
)
"""What gives a layout away, and who reads it."""
