"""Whose faces are identified in the studies of chapters 5 and 6, and what recognizers make of them."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.files import sha256_of
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data import FaceTable, has_pack, open_table
from fairveil.data.face_crops import FaceCrops
from fairveil.data.population import Population
from fairveil.data.synthetic import Difficulty, SyntheticFaces
from fairveil.experiment.study import SYNTHETIC, Study, TrialType
from fairveil.experiment.workbench import Workbench
from fairveil.faces.cropping import cut_crops
from fairveil.faces.embedding import WhichFace, embed_faces
from fairveil.faces.recognizer_training import embed_all
from fairveil.faces.recognizers import Framing
from fairveil.faces.trained import RANDOM, random_recognizer
from fairveil.faces.vectors import Embeddings
from fairveil.faces.zoo import load_recognizer


class Subjects(BaseModel):
    """People of two groups.

    Attributes:
        data: the name of a pack, the path of a CSV, a folder or a Parquet file of embeddings, or "synthetic".
        faces: which face of a photo counts; "aligned" for ready-made crops.
        column: what the groups are of.
        focus: the group whose share rises along the tables: men, in the dissertation.
        other: the other one, whose errors the error ratio has above: women.
        people: generated people, where the data are generated.
        photos: of each of them.
        difficulty: of the generated people of the `other` group, where it is another than that of the `focus` group.
        size: side of crops, in pixels, for training and for random recognizers.
        content: a hash of names, labels and files, put in when a study is run.
        notes: what was changed when the labels were read, put in likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "lfw"
    faces: WhichFace = "central"
    column: str = "gender"
    focus: str = "M"
    other: str = "F"
    people: int = Field(440, ge=8)
    photos: int = Field(10, ge=2)
    difficulty: Difficulty | None = Field(None, exclude_if=lambda difficulty: difficulty is None)
    size: int = Field(112, ge=64, le=224)
    content: str | None = None
    notes: tuple[str, ...] = Field((), exclude_if=lambda notes: not notes)


CELEBA = Subjects(data="celeba", column="Male", focus="yes", other="no")
"""The dissertation's, in the folder that is called so."""


def generated(subjects: Subjects) -> Subjects:
    """As many generated people, whose groups are shapes of heads."""
    return subjects.model_copy(update={"data": SYNTHETIC, "column": "shape", "focus": "long", "other": "round"})


def at_hand(subjects: Subjects) -> Subjects:
    """Subjects with a hash of their data, or generated ones where a pack is not here."""
    if subjects.data in ("lfw", "celeb18") and not has_pack(subjects.data):
        return generated(subjects)
    if subjects.data == SYNTHETIC:
        return subjects
    path = Path(subjects.data)  # workers may be somewhere else
    data = str(path.absolute()) if path.exists() else subjects.data
    if path.suffix.lower() == ".parquet":
        return subjects.model_copy(update={"data": data, "content": sha256_of(path), "notes": ()})
    table = open_table(data)
    return subjects.model_copy(update={"data": data, "content": table.fingerprint(), "notes": table.notes})


class SubjectSettings(BaseModel):
    """Settings of a study of people of two groups.

    Attributes:
        subjects: who they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: Subjects = Subjects()


SubjectSettingsType = TypeVar("SubjectSettingsType", bound=SubjectSettings)


class SubjectsStudy(Study[SubjectSettingsType, TrialType]):
    """A study of people of two groups."""

    def resolve(self, settings: SubjectSettingsType) -> SubjectSettingsType:
        """Settings with a hash of their data, or with generated people where a pack is not here."""
        return settings.model_copy(update={"subjects": at_hand(settings.subjects)})

    def data(self, settings: SubjectSettingsType) -> str:
        """Whose faces they are."""
        return settings.subjects.data

    def check(self, settings: SubjectSettingsType) -> Iterator[str]:
        """What was changed when labels were read; then whether the study can be done with them.

        Faces may still be missed in some photos, so a set that can be drawn by its labels may turn out too small.

        Raises:
            FairveilError: the data have too few people or images of a group, or somebody is in both.
        """
        table = table_at_hand(settings.subjects)
        if table is not None:
            yield from table.notes
            self.check_labels(settings, FaceCrops.without_pictures(table))

    @abstractmethod
    def check_labels(self, settings: SubjectSettingsType, crops: FaceCrops) -> None:
        """Refuse labels with which the study cannot be done; crops have no pictures yet."""


def table_at_hand(subjects: Subjects) -> FaceTable | None:
    """The labels of everybody, no photo of whom has been opened.

    Returns:
        None where the people are generated, embedded already, or not here.

    Raises:
        FairveilError: the labels cannot be read.
    """
    data = subjects.data
    if data == SYNTHETIC or data.lower().endswith(".parquet") or not (Path(data).exists() or has_pack(data)):
        return None
    return open_table(data)


def embedded(subjects: Subjects, recognizer: str, bench: Workbench) -> tuple[Tensor, Population]:
    """What a recognizer makes of everybody: unit vectors (N, D), and who they are of.

    Recognizers that take crops as they are trained with (random ones) share crops that are cut once; others find and
    embed the faces, and what they made is kept.

    Raises:
        FairveilError: the data cannot be had, have no such groups, or were not embedded by this recognizer.
    """
    if subjects.data.lower().endswith(".parquet"):
        faces = Embeddings.read(Path(subjects.data))
        return faces.vectors(recognizer), Population.of(faces.frame, subjects.column)
    is_random = recognizer.startswith(RANDOM)
    network = random_recognizer(recognizer, size=subjects.size) if is_random else load_recognizer(recognizer)
    if network.framing == Framing(size=subjects.size) or subjects.data == SYNTHETIC:
        crops = crops_of(subjects, bench, size=network.framing.size)
        return embed_all(network, crops), Population.of(crops.frame, subjects.column)
    table = open_table(subjects.data)
    parts = bench.cache / "embedded" / content_key([subjects.content, subjects.faces, recognizer])
    faces = embed_faces(table, [network], which=subjects.faces, parts=parts)
    return faces.vectors(network.name), Population.of(faces.frame, subjects.column)


def crops_of(subjects: Subjects, bench: Workbench, *, size: int | None = None) -> FaceCrops:
    """Aligned crops of everybody, cut once for all studies and shared by processes.

    Args:
        subjects: whose.
        bench: where they are kept.
        size: side in pixels; by default that of the subjects.

    Raises:
        FairveilError: the data cannot be had, or have no identities.
    """
    size = size or subjects.size
    about: list[Any] = [subjects.data, subjects.content, subjects.faces, subjects.people, subjects.photos, size]
    about += [] if subjects.difficulty is None else [subjects.difficulty.model_dump()]
    name = f"{content_key(about)}.safetensors"

    def cut(target: Path) -> None:
        crops = _drawn(subjects, size) if subjects.data == SYNTHETIC else _cut(subjects, size)
        target.unlink()  # a name that was kept for it
        crops.write(target)

    return FaceCrops.read(make_files(bench.cache / "crops", {name: cut})[0])


def _cut(subjects: Subjects, size: int) -> FaceCrops:
    return cut_crops(open_table(subjects.data), size=size, which=subjects.faces)


def _drawn(subjects: Subjects, size: int) -> FaceCrops:
    """Generated crops, drawn many at once."""
    faces = SyntheticFaces.model_validate(
        {"identities": subjects.people, "per_identity": subjects.photos, "size": size, "framing": "crop", "seed": 1,
         "difficulty": {} if subjects.difficulty is None else {subjects.other: subjects.difficulty}}
    )  # fmt: skip
    labels = faces.labels
    names = labels["identity"].unique(maintain_order=True)
    return FaceCrops(
        faces.render(range(len(faces))),
        torch.arange(len(faces)) // subjects.photos,
        tuple(names),
        SYNTHETIC,
        tuple(labels["image"]),
        {column: tuple(labels[column]) for column in ("tone", "shape")},
    )
