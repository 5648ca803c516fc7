"""Defenders that are no recognizer of ours: services that are given photos and say whom they take them for.

Wherever a study names a recognizer as a defender it may name one of these instead, as `package.module:NAME`, NAME being
a class without required arguments or a ready object. It takes its place in the table; where it cannot run, the trial
fails and says why, and is never skipped in silence.

    fairveil study run lowkey-transfer --set "defenders=faceres, fairveil.protection.paper.defenders:AmazonRekognition"
"""

import io
import uuid
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.experiment.plugins import imported
from fairveil.images import as_image


@runtime_checkable
class Defender(Protocol):
    """Somebody who looks for people among photos."""

    def ranks(self, gallery: Sequence[FaceTable], probes: FaceTable) -> list[int]:
        """Search a gallery for every probe.

        Args:
            gallery: photos with identities, in several tables.
            probes: photos whose identities are to be found.

        Returns:
            For each probe the place of the first gallery photo of its identity, 1 for the nearest; 0 where it is not
            among those that the defender names.
        """


def find_defender(name: str) -> Defender:
    """A defender by where it can be imported from, `package.module:NAME`.

    Raises:
        FairveilError: there is none.
    """
    found = imported(name, "defender")
    defender = found() if isinstance(found, type) else found
    if not isinstance(defender, Defender):
        raise FairveilError(f"{name} has no method ranks(gallery, probes), so it is no defender.")
    return defender


class AmazonRekognition:
    """Amazon Rekognition's search of a collection of faces (section 3.5), with an account and at a price of your own.

    A collection of its own is made for each search and deleted after it. Photos leave your machine.

    Args:
        client: a `boto3` client of "rekognition"; by default one is made with the credentials that boto3 finds.
        candidates: how many of the nearest the service is asked for, by default as many as it ever gives. Whoever is
            further off counts as not found.
    """

    def __init__(self, client: Any = None, *, candidates: int = 4096) -> None:
        self.client = client or self._client()
        self.candidates = candidates

    def ranks(self, gallery: Sequence[FaceTable], probes: FaceTable) -> list[int]:
        """See `Defender`; at most `candidates` are looked at, so ranks beyond that are 0."""
        collection = f"fairveil-{uuid.uuid4().hex}"
        self.client.create_collection(CollectionId=collection)
        try:
            identities: list[str | None] = []
            for table in gallery:
                for row, identity in enumerate(table.identities):
                    self.client.index_faces(
                        CollectionId=collection,
                        Image={"Bytes": _png(table.photo(row))},
                        ExternalImageId=str(len(identities)),
                        MaxFaces=1,
                        QualityFilter="NONE",
                    )
                    identities.append(identity)
            return [
                self._rank(collection, probes.photo(row), identity, identities)
                for row, identity in enumerate(probes.identities)
            ]
        finally:
            self.client.delete_collection(CollectionId=collection)

    def _rank(self, collection: str, photo: Tensor, identity: str | None, identities: Sequence[str | None]) -> int:
        try:
            answer = self.client.search_faces_by_image(
                CollectionId=collection,
                Image={"Bytes": _png(photo)},
                MaxFaces=self.candidates,
                FaceMatchThreshold=0,
                QualityFilter="NONE",
            )
        except self.client.exceptions.InvalidParameterException:  # so it says that it sees no face
            return 0
        matches = [identities[int(match["Face"]["ExternalImageId"])] for match in answer["FaceMatches"]]
        return matches.index(identity) + 1 if identity in matches else 0

    @staticmethod
    def _client() -> Any:
        try:
            boto3 = import_module("boto3")
            return boto3.client("rekognition")
        except ImportError:
            raise FairveilError(
                "Amazon Rekognition needs the package boto3 and an account: install boto3 and give it credentials, "
                "or take AmazonRekognition out of the defenders."
            ) from None
        except Exception as error:  # boto3 has dozens of its own
            raise FairveilError(
                f"Amazon Rekognition cannot be used: {error}. Give boto3 credentials and a region, or take "
                "AmazonRekognition out of the defenders."
            ) from error


def _png(photo: Tensor) -> bytes:
    stream = io.BytesIO()
    as_image(photo).save(stream, "PNG")
    return stream.getvalue()
