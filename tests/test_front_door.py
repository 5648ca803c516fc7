"""What `import fairveil` opens: the public names, and photos with nothing installed but what photos need."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import fairveil

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "fairveil": """
        AlreadyExistsError DEFAULT_ENSEMBLE Detector Faces FairveilError Framing LowKey MatchThreshold MissingExtraError
        NoFaceError PRESETS ProtectionRecord Receipt Recognizer UnreadableFileError ZOO __version__ audit faces fair
        load_recognizer protect protection sanitize verify""",
    "fairveil.protection": "FaceRecord LowKey PRESETS ProtectionRecord Receipt protect verify",
    "fairveil.faces": """
        DEFAULT_ENSEMBLE Detector Embeddings Faces Framing MatchThreshold Recognizer Search ZOO embed_faces identify
        load_recognizer load_trained nearest searches train_recognizer""",
    "fairveil.sanitize": """
        BackdoorAttack Compose CutMix Cutout DEFENSES Defense FlipAndCrop GradientMatching MaxUp Mixup PrivateSGD
        Rehearsal Rehearsed Verdict as_collate build_network defense in_place_maxup load_network noise_multiplier_for
        read_image_folder""",
    "fairveil.audit": "Audit Embeddings Shares audit audit_embeddings identities_needed ratio_visible",
    "fairveil.fair": """
        Comparison FaceExperiment FaceSettings FaceSplits KINDS Removal SyntheticXrays XrayExperiment XraySettings
        XraySplits angles compare disparate_impact equal_loss equalized_odds everything flip_identities flip_labels
        intervention load_xray_classifier read_xrays remove_sensitive split_faces split_xrays worst_group_loss""",
}
LAZY = (*PUBLIC, "fairveil.data", "fairveil.data.synthetic", "fairveil.data.xrays", "fairveil.training")


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these_and_all_can_be_had(package):
    module = import_module(package)
    assert dir(module) == sorted(module.__all__) == PUBLIC[package].split()
    assert all(getattr(module, name) is not None for name in dir(module))


@pytest.mark.parametrize("package", LAZY)
def test_tools_that_do_not_run_the_code_read_the_same_names(package):
    module = import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    read = {alias.asname: (node.module, alias.name) for node in block.body for alias in node.names}
    told = {node.names[0].asname: (node.module, node.names[0].name) for node in tree.body if is_exported(node)}
    assert (read | told).keys() == set(module.__all__)
    assert all(getattr(module, name) is found(*place) for name, place in (read | told).items())


def is_exported(node):
    return isinstance(node, ast.ImportFrom) and node.names[0].asname is not None


def found(module, name):
    return getattr(import_module(module), name)


def test_a_name_that_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError, match=r"module 'fairveil\.fair' has no attribute 'equal_los'"):
        fairveil.fair.equal_los  # noqa: B018


def test_importing_fairveil_alone_imports_no_torch():
    code = "import sys, fairveil; dir(fairveil); assert not {'torch', 'numpy', 'typer', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=with_source(), check=True)


PHOTOS_ALONE = """
import json, sys

absent = set(json.loads(sys.argv[1]))

class Without:
    "A finder that does not find what photos do not need, as if it were not installed."

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in absent else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)

import fairveil
import fairveil.protection.folders, fairveil.protection.report, fairveil.protection.spreading
from fairveil.data.synthetic import SyntheticFaces

assert fairveil.verify
assert SyntheticFaces(identities=1, per_identity=1, size=64).render([0]).any()  # such people are the goals of --apart
photo, record = fairveil.protect("portrait.png", fairveil.PRESETS["low"].model_copy(update={"steps": 1}))
print(len(record.faces), record.recognizers == fairveil.DEFAULT_ENSEMBLE, record._repr_html_()[:4])
for chapter in ("audit", "fair", "sanitize"):
    try:
        for name in dir(getattr(fairveil, chapter)):
            getattr(getattr(fairveil, chapter), name)
    except fairveil.MissingExtraError as error:
        print(chapter, error)
sys.argv = ["fairveil", "audit", "faces.parquet", "--group", "gender"]
from fairveil.cli import main
main()
"""


@pytest.mark.slow
def test_photos_need_only_what_is_installed_without_extras(tmp_path, portrait, needs_models):
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", *fairveil.DEFAULT_ENSEMBLE)
    Image.fromarray(portrait).resize((240, 240)).save(tmp_path / "portrait.png")
    command = [sys.executable, "-c", PHOTOS_ALONE, json.dumps(sorted(modules_of_extras()))]
    done = subprocess.run(command, cwd=tmp_path, env=with_source(), capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "1 True <div", done.stderr
    remedies = [re.search(r"[\w-]+ .*pip install \"fairveil\[\w+\]\"", line) for line in done.stdout.splitlines()[1:]]
    assert len(remedies) == 3 and all(remedies)
    assert done.returncode == 1 and done.stderr.startswith("Error: polars is not installed")


def modules_of_extras():
    """Modules that are installed here, and would not be by fairveil without extras."""
    core = {"fairveil"}
    waiting = [Requirement(line) for line in pyproject()["dependencies"]]
    while waiting:
        one = waiting.pop()
        if canonicalize_name(one.name) not in core:
            core.add(canonicalize_name(one.name))
            requires = [Requirement(line) for line in distribution(one.name).requires or ()]
            waiting += [other for other in requires if not other.marker or other.marker.evaluate({"extra": ""})]
    return {
        module for module, names in packages_distributions().items() if not core & set(map(canonicalize_name, names))
    }


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_each_package_of_an_extra_says_how_to_install_it():
    from fairveil.base.errors import missing_extra

    extras = pyproject()["optional-dependencies"]
    for extra in ("audit", "train", "private", "web", "cluster", "zoo"):
        for line in extras[extra]:
            name = Requirement(line).name
            if name != "fairveil":
                told = missing_extra(ModuleNotFoundError(f"No module named {name!r}", name=name))
                assert isinstance(told, fairveil.MissingExtraError) and f"fairveil[{extra}]" in str(told)


def with_source():
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
