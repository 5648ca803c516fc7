"""Generated people and photos of them: for tests, studies and training without anyone's photos."""

from fairveil.data.synthetic.files import write_faces
from fairveil.data.synthetic.people import GROUPS, Difficulty, SyntheticFaces

__all__ = ["GROUPS", "Difficulty", "SyntheticFaces", "write_faces"]
