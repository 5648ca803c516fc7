"""Faces with labels, from wherever they come."""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.data.duplicates import drop_near_duplicates as drop_near_duplicates
    from fairveil.data.duplicates import near_duplicates as near_duplicates
    from fairveil.data.duplicates import perceptual_hashes as perceptual_hashes
    from fairveil.data.images import LabeledImages as LabeledImages
    from fairveil.data.images import read_image_folder as read_image_folder
    from fairveil.data.layouts import has_pack as has_pack
    from fairveil.data.layouts import open_table as open_table
    from fairveil.data.layouts import read_balancedface as read_balancedface
    from fairveil.data.layouts import read_celeba as read_celeba
    from fairveil.data.layouts import read_facescrub as read_facescrub
    from fairveil.data.layouts import read_lfw as read_lfw
    from fairveil.data.layouts import read_pack as read_pack
    from fairveil.data.layouts import read_races as read_races
    from fairveil.data.layouts import read_rfw as read_rfw
    from fairveil.data.layouts import read_umdfaces as read_umdfaces
    from fairveil.data.splits import split_probes as split_probes
    from fairveil.data.table import FaceTable as FaceTable

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "duplicates": "drop_near_duplicates near_duplicates perceptual_hashes",
        "images": "LabeledImages read_image_folder",
        "layouts": "has_pack open_table read_balancedface read_celeba read_facescrub read_lfw "
        "read_pack read_races read_rfw read_umdfaces",
        "splits": "split_probes",
        "table": "FaceTable",
    },
)
