"""The layout of the code: who may import whom."""

import ast
from pathlib import Path

import pytest

import fairveil

SOURCE = Path(fairveil.__file__).parent
CHAPTERS = ("protection", "sanitize", "audit", "fair")
FLOORS = (
    ("base",),
    ("images", "assets"),
    ("data", "training"),
    ("faces",),
    ("report",),
    ("experiment",),
    CHAPTERS,
    ("web",),
    ("cli",),
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}


def imported_by(file):
    """The packages of fairveil that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "fairveil":
            modules += [f"fairveil.{alias.name}" for alias in node.names]
        yield from (module.split(".")[1] for module in modules if module.startswith("fairveil."))


def test_every_package_has_its_floor():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(FLOOR)


@pytest.mark.parametrize("package", FLOOR)
def test_imports_point_down(package):
    upwards = {
        f"{file.relative_to(SOURCE)} imports {other}"
        for file in (SOURCE / package).rglob("*.py")
        for other in imported_by(file)
        if other in FLOOR and other != package and FLOOR[other] >= FLOOR[package]
    }
    assert not upwards
