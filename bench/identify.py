"""How long an exact search takes, beside the bare matrix product and beside faiss, and how much memory it needs.

Every way answers the same questions in the same run, in turn, best of some repetitions; `identify` is timed with
embeddings that tell people apart and with ones that do not, which costs it more. Each size has a process of its own,
whose peak memory is compared before and after.

    python bench/identify.py
    python bench/identify.py --sizes 20000x20000 --repeat 5
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable

import faiss
import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.faces.identification import identify, nearest
from timing import best_in_turns

DIMENSIONS = 512
RANKS = (1, 10, 50)
PHOTOS_OF_ONE = 10


def bare_product(probes: Tensor, gallery: Tensor) -> None:
    """All similarities, none of them looked at."""
    space = torch.empty(1024, 1024)
    for row in range(0, len(probes), 1024):
        rows = probes[row : row + 1024]
        for start in range(0, len(gallery), 1024):
            part = gallery[start : start + 1024]
            torch.mm(rows, part.T, out=space[: len(rows), : len(part)])


def people(count: int, *, first: int, spread: float) -> tuple[Tensor, Tensor]:
    """Embeddings of so many photos, `PHOTOS_OF_ONE` a person, and who they are; photos of one differ by a spread."""
    who = torch.arange(count) // PHOTOS_OF_ONE
    centers = torch.randn(int(who.max()) + 1, DIMENSIONS, generator=torch.Generator().manual_seed(0))
    photos = torch.randn(count, DIMENSIONS, generator=torch.Generator().manual_seed(first))
    return F.normalize(photos.mul_(spread).add_(centers[who]), dim=1), who


def peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def search(probe_count: int, gallery_count: int, repeat: int, threads: int) -> None:
    """Print the figures of one size."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    gallery, who = people(gallery_count, first=1, spread=1.0)
    probes, asked = people(probe_count, first=2, spread=1.0)
    print(f"{probe_count:,} probes, gallery of {gallery_count:,}, {DIMENSIONS} dimensions, {threads} threads")
    nearest(probes[:64], gallery[:4096], 1)  # the first product of a process is slower
    before = peak()
    nearest(probes, gallery, max(RANKS))
    after_nearest = peak()
    identify(probes, gallery, asked, who)
    after_identify = peak()
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(gallery.numpy())
    strangers = F.normalize(torch.randn(probe_count, DIMENSIONS, generator=torch.Generator().manual_seed(3)), dim=1)
    ways: dict[str, Callable[[], object]] = {"bare product": lambda: bare_product(probes, gallery)}
    for k in RANKS:
        ways[f"nearest, k {k}"] = lambda k=k: nearest(probes, gallery, k)  # type: ignore[misc]
        ways[f"faiss, k {k}"] = lambda k=k: index.search(probes.numpy(), k)  # type: ignore[misc]
    ways["identify"] = lambda: identify(probes, gallery, asked, who)
    ways["identify, people not told apart"] = lambda: identify(strangers, gallery, asked, who)
    seconds = best_in_turns(ways, repeat)
    for name, taken in seconds.items():
        rival = seconds[name.replace("nearest", "faiss")]
        beside = f", faiss takes {rival / taken:.2f} times as long" if name.startswith("nearest") else ""
        print(f"  {name:32} {taken:7.2f} s, {seconds['bare product'] / taken:4.0%} of the bare product{beside}")
    print(
        f"  memory beyond the embeddings ({before:,.0f} MB): nearest {after_nearest - before:,.0f} MB, identify "
        f"{after_identify - before:,.0f} MB; all similarities: {probe_count * gallery_count * 4 / 2**20:,.0f} MB"
    )


def sweep(photos: int, galleries: int, repeat: int, threads: int) -> None:
    """Print how long many galleries made of the same photos take, each photo looked for among the others."""
    torch.set_num_threads(threads)
    embeddings, who = people(photos, first=1, spread=1.0)
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(photos, generator=generator) < 0.5 for _ in range(galleries)]
    itself = torch.arange(photos)
    ways: dict[str, Callable[[], object]] = {
        "bare product": lambda: bare_product(embeddings, embeddings),
        "all": lambda: identify(embeddings, embeddings, who, who, exclude=itself, galleries=masks),
    }
    seconds = best_in_turns(ways, repeat)
    print(
        f"{galleries} galleries of half of {photos:,} photos, leave-one-out: {seconds['all']:.1f} s; "
        f"one bare product {seconds['bare product']:.2f} s"
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="20000x20000,1024x1000000", help="probes x gallery")
    parser.add_argument("--galleries", type=int, default=90, help="18 compositions, 5 seeds of each")
    parser.add_argument("--photos", type=int, default=14_000, help="of the sweep over galleries")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    runs: list[tuple[Callable[..., None], tuple[int, ...]]] = [
        (search, tuple(int(number) for number in size.split("x"))) for size in options.sizes.split(",")
    ]
    runs.append((sweep, (options.photos, options.galleries)))
    for run, sizes in runs:
        process = multiprocessing.get_context("spawn").Process(
            target=run, args=(*sizes, options.repeat, options.threads)
        )
        process.start()
        process.join()


if __name__ == "__main__":
    main()
