"""`fairveil models`: results on stdout, talk on stderr, exit codes."""

import json
from dataclasses import dataclass

import pytest

from fairveil import assets
from fairveil.assets import clients, store
from fairveil.base.errors import FairveilError


@dataclass
class Said:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, run_fairveil):
    monkeypatch.delenv("FAIRVEIL_ASSETS", raising=False)
    monkeypatch.setattr(store, "_cache_folder", lambda: tmp_path / "cache")
    return lambda *words: Said(*run_fairveil("models", *words))


@pytest.fixture
def one_model_here(tmp_path, monkeypatch):
    """The smallest file of the catalogue, as far as the commands can see."""
    here = tmp_path / "pnet.pt"
    here.write_bytes(b"")
    monkeypatch.setattr(assets, "locate", lambda a: here if a.name == "mtcnn-pnet" else None)
    return here


def test_list_shows_license_origin_and_the_caveat(run, one_model_here):
    result = run("list")
    assert result.exit_code == 0
    for name, artifact in assets.CATALOGUE.items():
        assert name in result.stdout
        assert artifact.provenance in " ".join(result.stdout.split())
    assert "not examined" in result.stderr


def test_list_for_machines_is_one_json_list(run, one_model_here):
    records = json.loads(run("list", "--json").stdout)
    assert [record["name"] for record in records] == list(assets.CATALOGUE)
    assert records[0]["path"] == str(one_model_here) and records[1]["path"] is None
    assert {"licence", "provenance", "sha256", "size", "package", "version"} <= records[0].keys()


def test_where_without_a_name_is_the_folder(run, tmp_path):
    assert run("where").stdout.strip() == str(tmp_path / "cache")


def test_where_prints_paths_and_exits_1_for_what_is_not_here(run, one_model_here):
    assert (run("where", "mtcnn-pnet").stdout.strip(), run("where", "mtcnn-pnet").exit_code) == (
        str(one_model_here),
        0,
    )
    result = run("where", "mtcnn-pnet", "mtcnn-onet")
    assert result.exit_code == 1
    assert result.stdout.strip() == str(one_model_here)
    assert "mtcnn-onet" in result.stderr and "fairveil models fetch" in result.stderr


@pytest.mark.parametrize("words", [["fetch", ""], ["where", ""], ["fetch", "mtcnn-pnet", "--to", ""]])
def test_an_empty_name_is_a_usage_error(run, words):
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no model file called ''" in result.stderr or "the name is empty" in result.stderr


def test_what_is_not_in_an_own_folder_is_fetched_into_that_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRVEIL_ASSETS", str(tmp_path))
    said = run("where", "mtcnn-pnet").stderr
    assert f"fairveil models fetch mtcnn-pnet --to {tmp_path}" in said


@pytest.mark.parametrize("command", ["fetch", "where"])
def test_unknown_name_is_a_usage_error_with_the_nearest(run, command):
    result = run(command, "lpips-alexnt")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "'lpips-alexnet'" in result.stderr


def test_failed_fetch_exits_1_with_one_sentence(run, monkeypatch):
    def no_network(*_):
        raise FairveilError("There is no network here.")

    monkeypatch.setattr(clients, "run_client", no_network)
    result = run("fetch", "mtcnn-pnet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: There is no network here." in result.stderr


def test_fetch_takes_all_when_none_is_named_and_prints_paths(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        assets, "fetch", lambda wanted: {a.name: asked.append(a) or tmp_path / a.filename for a in wanted}
    )
    result = run("fetch")
    assert asked == list(assets.CATALOGUE.values())
    assert result.stdout.split() == [str(tmp_path / a.filename) for a in asked]


def test_fetch_to_a_folder_copies_there(run, tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "copy_to", lambda wanted, folder, overwrite: [folder / a.filename for a in wanted])
    assert run("fetch", "mtcnn-pnet", "--to", str(tmp_path)).stdout.strip() == str(tmp_path / "pnet.pt")
