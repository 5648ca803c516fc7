"""What weights fairveil knows: the package that ships each, its license, its origin and its fingerprint."""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

from fairveil.base.errors import FairveilError


@dataclass(frozen=True)
class Package:
    """A published archive that holds model weights.

    Attributes:
        name: the package's name in its registry.
        version: the exact version.
        kind: form of the archive; a wheel and an sdist are pip's, a tarball is npm's.
        sha256: fingerprint of the archive, so that nothing unknown is ever unpacked or built.
        size: bytes of the archive, which is what a fetch transfers.
        licence: as the package itself declares it.
    """

    name: str
    version: str
    kind: Literal["wheel", "sdist", "tarball"]
    sha256: str
    size: int
    licence: str

    @property
    def registry(self) -> Literal["pypi", "npm"]:
        """The registry that publishes the package."""
        return "npm" if self.kind == "tarball" else "pypi"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Artifact:
    """One file of weights (or the description of their graph) inside a package.

    Attributes:
        name: what the rest of fairveil calls it. Files of one model share the part before the last dot.
        package: the archive that holds it.
        member: its path inside the archive.
        sha256: fingerprint of the file.
        size: bytes of the file.
        used_for: its part in fairveil.
        provenance: where the weights come from, in one sentence.
    """

    name: str
    package: Package
    member: str
    sha256: str
    size: int
    used_for: str
    provenance: str

    @property
    def filename(self) -> str:
        """Name of the file, in the archive as in every folder that fairveil keeps it in."""
        return PurePosixPath(self.member).name


def _listed() -> Iterator[Artifact]:
    """The files that `catalogue.toml` lists."""
    for entry in tomllib.loads(files("fairveil.assets").joinpath("catalogue.toml").read_text("utf-8"))["package"]:
        models = entry.pop("model")
        package = Package(**entry)
        for model in models:
            provenance = f"{model['origin']}, as shipped in {package}; the training data were not examined."
            for file in model["files"]:
                yield Artifact(package=package, used_for=model["used_for"], provenance=provenance, **file)


CATALOGUE: Mapping[str, Artifact] = MappingProxyType({artifact.name: artifact for artifact in _listed()})
"""Every artifact that fairveil can fetch, by name."""


def select(names: Iterable[str]) -> list[Artifact]:
    """The artifacts that the given names mean, each once, in the order of the catalogue.

    A name is an artifact's (`faceres.bin`), a model's (`faceres`: both its graph and its weights), or `all`.

    Raises:
        FairveilError: a name is not known; the nearest one that is known is said.

    >>> [artifact.name for artifact in select(["faceres"])]
    ['faceres.json', 'faceres.bin']
    """
    chosen: set[str] = set()
    for name in names:
        found = {known for known in CATALOGUE if name and name in (known, known.rpartition(".")[0], "all")}
        if not found:
            near = difflib.get_close_matches(name, _all_names(), n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else "`fairveil models list` shows those there are."
            raise FairveilError(f"There is no model file called {name!r}: {hint}")
        chosen |= found
    return [artifact for artifact in CATALOGUE.values() if artifact.name in chosen]


def _all_names() -> list[str]:
    together = (known.rpartition(".")[0] for known in CATALOGUE)
    return sorted({"all", *CATALOGUE, *together} - {""})
