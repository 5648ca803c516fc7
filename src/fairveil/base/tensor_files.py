"""Tensors and what is to be said of them in one file (safetensors): nothing in it is run, and reading maps memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fairveil.base.errors import AlreadyExistsError, FairveilError, UnreadableFileError, shown
from fairveil.base.files import atomic_path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, format: str) -> None:
    """Write a new file, whole or not at all.

    Args:
        path: in a folder that is there.
        tensors: by name, on any device and in any memory layout.
        metadata: what else is to be known.
        format: what kind of file this is, and in which version; `read_tensors` asks for it.

    Raises:
        FairveilError: the file already exists or cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_path(path) as temporary:
            mode = temporary.stat().st_mode
            save_file(plain, temporary, {"format": format, **metadata})
            temporary.chmod(mode)  # safetensors leaves it to be read by nobody else
    except FileExistsError as error:
        raise AlreadyExistsError(f"{shown(path)} already exists: choose another name.") from error
    except (OSError, SafetensorError) as error:
        raise FairveilError(f"{shown(path)} cannot be written: {error}.") from error


@contextmanager
def read_tensors(
    path: Path, *, format: str, what: str, maker: str
) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """Read a file's tensors and metadata; what goes wrong inside the block counts as damage of the file.

    The tensors lie in the file's own memory map: processes that read one file share it, what is not looked at is not
    read, and changing a tensor leaves the file as it is.

    Args:
        path: the file.
        format: as it was written with.
        what: such a file holds, for complaints: "network".
        maker: what makes such files, for complaints: "fairveil sanitize train".

    Raises:
        FairveilError: there is no such file, it is damaged, or it is of another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("format") != format:
                raise FairveilError(f"{shown(path)} holds no {what} that this version of fairveil reads.")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        yield tensors, metadata
    except FairveilError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UnreadableFileError(f"{shown(path)} is not there or is damaged: give a file of {maker}.") from error


def load_copies(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put copies of a file's tensors into a network that may have no memory yet: the file may then be changed.

    Raises:
        RuntimeError: they are not those of the network.
    """
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
