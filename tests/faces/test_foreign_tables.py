"""Embeddings in Parquet files as insightface, deepface and pandas users write them."""

import json

import numpy as np
import polars as pl
import pytest

from fairveil.base.errors import FairveilError
from fairveil.faces.vectors import Embeddings

VECTORS = np.random.default_rng(0).normal(size=(6, 128)).astype(np.float32)
PEOPLE = {"image": [f"{row}.jpg" for row in range(6)], "identity": [1.0, 1.0, 2.0, 2.0, float("nan"), 10.0]}


def read(tmp_path, frame, metadata=None):
    frame.write_parquet(tmp_path / "faces.parquet", metadata=metadata)
    return Embeddings.read(tmp_path / "faces.parquet")


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_where_a_face_is_and_how_it_is_turned_is_no_recognizer(tmp_path):
    frame = pl.DataFrame(PEOPLE).with_columns(
        pl.Series("embedding", VECTORS.tolist()),
        pl.Series("bbox", np.ones((6, 4)).tolist()),
        pl.Series("pose", np.ones((6, 3)).tolist()),
        pl.Series("kps", np.ones((6, 5, 2)).tolist()),
        pl.Series("landmark_3d_68", np.ones((6, 204)).tolist()),
        pl.Series("facial_area", [{"x": 1, "y": 2}] * 6),
        pl.Series("angles", np.ones((6, 3)).tolist()),
        det_score=pl.lit(0.9),
        region=pl.lit("north"),
    )
    faces = read(tmp_path, frame)
    assert faces.recognizers == ("embedding",)
    assert faces.groups == ("region",)
    told = " ".join(faces.notes)
    assert all(name in told for name in ("bbox", "kps", "pose", "landmark_3d_68", "facial_area", "angles"))
    assert faces.frame["identity"].to_list() == ["1", "1", "2", "2", None, "10"]


def test_vectors_of_half_precision_and_short_ones_alone_are_read(tmp_path):
    half = pl.DataFrame(PEOPLE).with_columns(pl.Series("net", VECTORS.tolist(), dtype=pl.List(pl.Float16)))
    assert read(tmp_path, half).vectors().numpy() == pytest.approx(unit(VECTORS), abs=1e-3)
    tiny = pl.DataFrame(PEOPLE).with_columns(pl.Series("net", VECTORS[:, :4].tolist()))
    assert read(tmp_path, tiny).vectors().shape == (6, 4)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("f{}", "f"),
        ("emb_{}", "emb"),
        ("{}", "embedding"),
        ("emb[{}]", "emb"),
        ("('emb', {})", "emb"),
        ("{}.0", "embedding"),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_vectors_spread_over_columns_are_put_together_in_the_order_of_their_numbers(tmp_path, pattern, name, first):
    columns = {pattern.format(first + place): VECTORS[:, place] for place in (*range(64, 128), *range(64))}
    faces = read(tmp_path, pl.DataFrame(PEOPLE | columns))
    assert faces.recognizers == (name,)
    assert faces.vectors().numpy() == pytest.approx(unit(VECTORS), abs=1e-6)
    assert faces.groups == ()


@pytest.mark.parametrize(
    ("index", "metadata"),
    [
        ("__index_level_0__", None),
        ("Unnamed: 0", None),
        ("index", None),
        ("level_0", None),
        ("row", {"pandas": json.dumps({"index_columns": ["row"]})}),
    ],
)
def test_the_index_of_pandas_is_no_group(tmp_path, index, metadata):
    frame = pl.DataFrame(PEOPLE | {"sex": [*"FMFMFM"]}).with_columns(pl.Series("net", VECTORS.tolist()))
    faces = read(tmp_path, frame.with_columns(pl.Series(index, range(6))), metadata)
    assert faces.groups == ("sex",)
    assert index in faces.notes[0]


def test_an_index_of_images_is_kept(tmp_path):
    frame = pl.DataFrame(PEOPLE).with_columns(pl.Series("net", VECTORS.tolist()))
    faces = read(tmp_path, frame, {"pandas": json.dumps({"index_columns": ["image"]})})
    assert faces.frame["image"].to_list() == PEOPLE["image"]


@pytest.mark.parametrize("place", [0, 60, 127])
def test_zeros_that_were_written_as_whole_numbers_stay_in_the_vector(tmp_path, place):
    vectors = VECTORS.copy()
    vectors[:, place] = 0
    columns = {f"f{n}": vectors[:, n].astype(int) if n == place else vectors[:, n] for n in range(128)}
    faces = read(tmp_path, pl.DataFrame(PEOPLE | columns))
    assert faces.vectors().numpy() == pytest.approx(unit(vectors), abs=1e-6)
    assert faces.groups == ()


def test_vectors_of_a_batch_of_one_are_read_and_meshes_and_scores_left_out(tmp_path):
    frame = pl.DataFrame(PEOPLE).with_columns(
        pl.Series("net", VECTORS[:, None].tolist()),
        pl.Series("mesh", np.ones((6, 1434)).tolist()),
        pl.Series("lmk_106", np.ones((6, 212)).tolist()),
        face_confidence=pl.lit(0),
    )
    faces = read(tmp_path, frame)
    assert (faces.recognizers, faces.groups) == (("net",), ())
    assert faces.vectors().numpy() == pytest.approx(unit(VECTORS), abs=1e-6)


def test_a_group_of_whole_numbers_called_index_stays(tmp_path):
    frame = pl.DataFrame(PEOPLE | {"index": [1, 1, 1, 2, 2, 2]})
    assert read(tmp_path, frame.with_columns(pl.Series("net", VECTORS.tolist()))).groups == ("index",)


def test_numbers_that_are_no_vectors_stay_groups_and_a_single_number_is_refused(tmp_path):
    frame = pl.DataFrame(PEOPLE | {"year_2019": [1.0] * 6, "year_2020": [2.0] * 6})
    faces = read(tmp_path, frame.with_columns(pl.Series("net", VECTORS.tolist())))
    assert faces.groups == ("year_2019", "year_2020")
    with pytest.raises(FairveilError, match="has one number, which has no direction"):
        read(tmp_path, pl.DataFrame(PEOPLE).with_columns(pl.Series("norm", VECTORS[:, :1].tolist())))
