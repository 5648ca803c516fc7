"""Who is protected, among whom, and what recognizers make of their photos as they were (section 3.4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data import FaceTable, drop_near_duplicates, has_pack, open_table, perceptual_hashes, split_probes
from fairveil.data.splits import draws
from fairveil.data.synthetic import SyntheticFaces
from fairveil.experiment.study import SYNTHETIC
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, Embeddings, WhichFace, embed_faces
from fairveil.faces.recognizers import Recognizer
from fairveil.protection.paper.aligners import Aligner, OtherAligner
from fairveil.protection.paper.alterations import ALTERATIONS, HANDLING

PHOTOS_OF_CANDIDATE = 5
"""How many photos of a person stand for somebody whom Fawkes may imitate; its program fetches ten."""


class People(BaseModel):
    """A few users of LowKey among a larger population of non-users (section 3.4).

    Attributes:
        data: a data set: the name of a pack, the path of a CSV or folder, or "synthetic".
        faces: which face of a photo counts, see `embed_faces`; "aligned" for ready-made crops.
        protected: how many identities have their gallery photos protected.
        gallery_photos: how many photos of each of them the gallery holds; None for all that are no probes.
        probe_photos: how many others of each are probes; None for one tenth.
        strangers: how many other identities there are; None for all.
        photos_of_stranger: how many photos of each are in the gallery at the most; None for all.
        synthetic_size: side of generated pictures in pixels.
        content: a hash of the data set's names, labels and files, put in when a study is run.
        drop_duplicates: whether of near-duplicates (see `fairveil.data`) only the first photo counts (section 3.4).
        person_folder: which folder names a person where folders lie in folders, see `fairveil.data.folders.people_of`.
        seed: of the choice of people and photos.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "lfw"
    faces: WhichFace = "central"
    protected: int = Field(6, ge=1)
    gallery_photos: int | None = Field(12, ge=1)
    probe_photos: int | None = Field(8, ge=1)
    strangers: int | None = Field(None, ge=0)
    photos_of_stranger: int | None = Field(3, ge=1)
    synthetic_size: int = Field(160, ge=96, le=512)
    # Settings that came later are written only where they are not the default, so that older records stay valid.
    content: str | None = Field(None, exclude_if=lambda content: content is None)
    drop_duplicates: bool = Field(False, exclude_if=lambda dropped: not dropped)
    person_folder: int | None = Field(None, exclude_if=lambda level: level is None)
    seed: int = 0


def at_hand(people: People) -> People:
    """The same people with a hash of what their data set holds, or generated ones where it is not here."""
    if people.data in ("lfw", "celeb18") and not has_pack(people.data):
        generated = {"data": SYNTHETIC, "faces": "central", "strangers": None, "synthetic_size": 250}
        return people.model_copy(update=generated | {"drop_duplicates": False})
    if people.data == SYNTHETIC:
        return people
    path = Path(people.data)  # workers may be somewhere else
    data = str(path.absolute()) if path.exists() else people.data
    people = people.model_copy(update={"data": data})
    return people.model_copy(update={"content": _source(people).fingerprint()})


@dataclass(frozen=True)
class Cast:
    """The photos of a study, by the part they play; every table has the column identity.

    Attributes:
        protected: gallery photos of the users.
        probes: other photos of the users.
        strangers: the rest of the gallery.
    """

    protected: FaceTable
    probes: FaceTable
    strangers: FaceTable


@lru_cache(maxsize=4)
def cast(people: People, cache: Path | None = None) -> Cast:
    """Choose the users, their photos and the strangers; the same for the same settings.

    Args:
        people: what to choose.
        cache: where the hashes that tell near-duplicates are kept; without it they are made anew.

    Raises:
        FairveilError: the data set cannot be had, or has too few people with enough photos.
    """
    table = _population(people, cache)
    order = _shuffled(table, people.seed)
    if people.probe_photos is None:
        _, probes = split_probes(table, seed=people.seed)
        is_probe = order["image"].is_in(probes.frame["image"].implode())
    else:
        is_probe = order["place"] < people.probe_photos
    order = order.with_columns(probe=is_probe)
    counts = order.group_by("identity").agg(
        probes=pl.col("probe").sum(), gallery=(~pl.col("probe")).sum(), lot=pl.col("lot").first()
    )
    able = counts.filter(
        (pl.col("probes") >= (people.probe_photos or 1)) & (pl.col("gallery") >= (people.gallery_photos or 1))
    ).sort("lot")
    if len(able) < people.protected:
        raise FairveilError(
            f"{table.name} has {len(able)} people with enough photos for {people.gallery_photos or 'some'} in the "
            f"gallery and {people.probe_photos or 'some'} as probes, and {people.protected} are to be protected: "
            "ask for fewer people or photos."
        )
    users = able["identity"].head(people.protected)
    others = counts.filter(~pl.col("identity").is_in(users.implode())).sort("lot")["identity"]
    if people.strangers is not None:
        others = others.head(people.strangers)
    of_users = order.filter(pl.col("identity").is_in(users.implode()))
    shown = of_users.filter(~pl.col("probe"))
    if people.gallery_photos is not None:
        shown = shown.filter(pl.int_range(pl.len()).over("identity") < people.gallery_photos)
    rest = order.filter(pl.col("identity").is_in(others.implode()))
    if people.photos_of_stranger is not None:
        rest = rest.filter(pl.col("place") < people.photos_of_stranger)
    return Cast(*(table.take(sorted(part["row"].to_list())) for part in (shown, of_users.filter("probe"), rest)))


def candidates(people: People, count: int, cache: Path | None = None) -> FaceTable:
    """Strangers whose faces Fawkes may move the users' photos toward, with a few photos each.

    They are strangers who are not in the gallery, as far as there are any with enough photos: where the gallery holds
    everybody (`strangers` None), its last strangers by lot. For generated people, others are generated.

    Args:
        people: the users and the gallery.
        count: how many candidates, at the most.
        cache: as for `cast`.

    Raises:
        FairveilError: as `cast`, or nobody but the users has photos.
    """
    if people.data == SYNTHETIC:
        return _generated(people, count, PHOTOS_OF_CANDIDATE, people.seed + 1)
    chosen = cast(people, cache)
    users = chosen.protected.frame["identity"].implode()
    table = _population(people, cache)
    others = _shuffled(table, people.seed).filter(~pl.col("identity").is_in(users))
    if not len(others):
        raise FairveilError(f"{table.name} has nobody but the users: Fawkes needs others to move their photos toward.")
    in_gallery = pl.col("identity").is_in(chosen.strangers.frame["identity"].implode())
    by_preference = (
        others.group_by("identity")
        .agg(enough=pl.len() >= PHOTOS_OF_CANDIDATE, lot=pl.col("lot").first(), known=in_gallery.first())
        .sort(["enough", "known", "lot"], descending=[True, False, True])
    )
    names = by_preference["identity"].head(count).implode()
    rows = others.filter(pl.col("identity").is_in(names) & (pl.col("place") < PHOTOS_OF_CANDIDATE))["row"]
    return table.take(sorted(rows.to_list()))


def altered(table: FaceTable, alterations: Sequence[str]) -> FaceTable:
    """The same photos, each altered when it is read: by names of alterations, one after the other."""
    chosen = tuple(name for name in alterations if name != "none")
    if not chosen:
        return table
    return Altered(table.frame, table.root, table.name, table.groups, source=table, alterations=chosen)


def embedded(
    table: FaceTable, recognizers: Sequence[Recognizer], people: People, cache: Path, aligner: Aligner = "landmarks"
) -> Embeddings:
    """The embeddings of photos, kept for other trials.

    Args:
        table: the photos.
        recognizers: who embeds.
        people: says which face of a photo counts.
        cache: where finished parts are kept.
        aligner: how whoever embeds aligns faces.

    Raises:
        FairveilError: ready-made crops are to be aligned in another way.
    """
    done = table.alterations if isinstance(table, Altered) else ()
    if aligner == "landmarks":
        parts = cache / "embeddings" / "-".join([table.name, *done]).replace(" ", "-")
        return embed_faces(table, recognizers, which=people.faces, parts=parts)
    if people.faces == "aligned":
        raise FairveilError(f"{table.name} holds aligned crops, which nobody can align by {aligner!r}: take photos.")
    parts = cache / "embeddings" / "-".join([table.name, *done, "by", aligner]).replace(" ", "-")
    detector = OtherAligner(Detector.pretrained(minimum_face=MINIMUM_FACE), aligner)
    return embed_faces(table, recognizers, detector=detector, which=people.faces, parts=parts)


@dataclass(frozen=True)
class Altered(FaceTable):
    """A table whose photos are altered as they are read.

    Attributes:
        source: the table itself.
        alterations: names out of `ALTERATIONS`, done one after the other.
    """

    source: FaceTable = field(kw_only=True)
    alterations: tuple[str, ...] = field(kw_only=True)

    def photo(self, row: int) -> Tensor:
        """The photo of a row, altered: uint8, (3, H, W); `HANDLING` may change its size."""
        photo = replace(self.source, frame=self.frame).photo(row)
        for name in self.alterations:
            photo = _EVERY[name](photo)
        return photo


_EVERY = {**ALTERATIONS, **HANDLING}


def _population(people: People, cache: Path | None) -> FaceTable:
    """The photos that count."""
    table = _source(people)
    return drop_near_duplicates(table, hashes=_hashes(table, cache))[0] if people.drop_duplicates else table


def _source(people: People) -> FaceTable:
    if people.data != SYNTHETIC:
        table = open_table(people.data, level=people.person_folder)
        table.check_people("--set people.person_folder=")
        return table
    return _generated(
        people,
        people.protected + (20 if people.strangers is None else people.strangers),
        (people.gallery_photos or 4) + (people.probe_photos or 2),
        people.seed,
    )


def _generated(people: People, identities: int, photos: int, seed: int) -> FaceTable:
    faces = SyntheticFaces(identities=identities, per_identity=photos, size=people.synthetic_size, seed=seed)
    return replace(faces.table(), name=f"{SYNTHETIC}-{content_key(faces.model_dump_json(), digits=12)}")


def _hashes(table: FaceTable, cache: Path | None) -> NDArray[np.bool_]:
    """The hashes by which near-duplicates are known, (N, bits); kept, since they take minutes of a large data set."""
    if cache is None:
        return perceptual_hashes(table)

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.save(file, perceptual_hashes(table))

    key = content_key("\n".join([table.name, *table.frame["image"]]))
    return np.asarray(np.load(make_files(cache / "hashes", {f"{key}.npy": write})[0]))


def _shuffled(table: FaceTable, seed: int) -> pl.DataFrame:
    """Rows with their identity's lot and their place among its photos, both drawn by hash: more people change none.

    The lot is uniform, however many photos there are: the least of n uniform draws, by its distribution 1 − (1 − x)ⁿ.
    """
    least = pl.col("draw").min().over("identity") / 2**56
    frame = table.frame.select("image", "identity").with_row_index("row").with_columns(draw=draws(table, seed))
    return (
        frame.filter(pl.col("identity").is_not_null())
        .with_columns(lot=1 - (1 - least) ** pl.len().over("identity"))
        .sort("lot", "draw")
        .with_columns(place=pl.int_range(pl.len()).over("identity"))
    )
