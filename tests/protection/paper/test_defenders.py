"""Defenders that are services, with recorded answers."""

import io

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.experiment.workbench import Workbench
from fairveil.protection.paper.defenders import AmazonRekognition, find_defender
from fairveil.protection.paper.rows import Row, run_row
from fairveil.protection.paper.setting import tiny


class RecordedRekognition:
    """Answers as the service gives them: faces are alike whose photos have a similar mean color."""

    class exceptions:  # noqa: N801
        class InvalidParameterException(Exception):  # noqa: N818
            pass

    def __init__(self):
        self.collections = {}
        self.asked = []

    def create_collection(self, CollectionId):  # noqa: N803
        self.collections[CollectionId] = {}
        return {"StatusCode": 200, "FaceModelVersion": "7.0"}

    def index_faces(self, CollectionId, Image, ExternalImageId, MaxFaces, QualityFilter):  # noqa: N803
        self.collections[CollectionId][ExternalImageId] = brightness(Image["Bytes"])
        face = {"FaceId": "f" + ExternalImageId, "ExternalImageId": ExternalImageId, "Confidence": 99.9}
        return {"FaceRecords": [{"Face": face}], "UnindexedFaces": []}

    def search_faces_by_image(self, CollectionId, Image, MaxFaces, FaceMatchThreshold, QualityFilter):  # noqa: N803
        self.asked.append((MaxFaces, FaceMatchThreshold))
        probe = brightness(Image["Bytes"])
        if probe < 1:
            raise self.exceptions.InvalidParameterException("There are no faces in the image.")
        faces = sorted(self.collections[CollectionId].items(), key=lambda item: abs(item[1] - probe))[:MaxFaces]
        return {
            "SearchedFaceConfidence": 99.9,
            "FaceMatches": [
                {"Similarity": 100 - abs(value - probe), "Face": {"ExternalImageId": name, "Confidence": 99.0}}
                for name, value in faces
            ],
        }

    def delete_collection(self, CollectionId):  # noqa: N803
        del self.collections[CollectionId]


def brightness(data):
    return np.array(Image.open(io.BytesIO(data))).mean()


class Gray(FaceTable):
    """Photos that are all of the brightness their name says."""

    def photo(self, row):
        return torch.full((3, 8, 8), int(self.frame["image"][row].split("/")[0]), dtype=torch.uint8)


def gray(root, **identities):
    rows = [(f"{value}/{who}", who) for who, values in identities.items() for value in values]
    frame = pl.DataFrame(rows, schema=["image", "identity"], orient="row")
    return Gray(frame, root, "grey")


def test_ranks_follow_from_the_order_of_the_answer(tmp_path):
    client = RecordedRekognition()
    gallery = [gray(tmp_path, ann=[100, 200]), gray(tmp_path, bob=[110], cy=[120])]
    probes = gray(tmp_path, ann=[109], bob=[118], cy=[0], dee=[100])
    assert AmazonRekognition(client).ranks(gallery, probes) == [2, 2, 0, 0]
    assert client.asked[0] == (4096, 0)
    assert client.collections == {}  # nothing of anybody stays with the service


def test_the_collection_is_deleted_when_a_call_fails(tmp_path):
    client = RecordedRekognition()
    client.index_faces = lambda **_: (_ for _ in ()).throw(RuntimeError("throttled"))
    with pytest.raises(RuntimeError, match="throttled"):
        AmazonRekognition(client).ranks([gray(tmp_path, ann=[1])], gray(tmp_path, ann=[1]))
    assert client.collections == {}


REKOGNITION = AmazonRekognition(RecordedRekognition())


def test_a_service_takes_its_place_in_a_row(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    row = Row(name="Clean", people=tiny(), attack=None, defenders=("test_defenders:REKOGNITION",))
    measured = run_row(row, Workbench(tmp_path))
    everyone = [one for one in measured if one.labels["group"] == "all"]
    assert [one.labels["metric"] for one in everyone] == ["rank-1", "rank-50", "rank-1 %", "rank-5 %"]
    assert everyone[1].value == 1  # the whole small gallery is among the nearest 50
    assert everyone[0].count == 2


def test_what_cannot_run_says_why_and_is_not_skipped(monkeypatch):
    for name, complaint in (
        ("nowhere:At", "cannot be imported"),
        ("json:dumps", "no defender"),
        ("fairveil.protection.paper.defenders:AmazonRekognition", "Amazon Rekognition"),
    ):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(FairveilError, match=complaint):
            find_defender(name)
