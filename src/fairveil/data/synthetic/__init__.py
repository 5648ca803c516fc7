"""Generated people and photos of them: for tests, studies and training without anyone's photos."""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.data.synthetic.files import write_faces as write_faces
    from fairveil.data.synthetic.people import GROUPS as GROUPS
    from fairveil.data.synthetic.people import Difficulty as Difficulty
    from fairveil.data.synthetic.people import SyntheticFaces as SyntheticFaces

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "files": "write_faces",
        "people": "GROUPS Difficulty SyntheticFaces",
    },
)
