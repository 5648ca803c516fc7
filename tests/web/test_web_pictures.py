import io

import torch
from PIL import Image

from fairveil.images import read_photo
from fairveil.web.pictures import picture_of, picture_of_face


def test_what_an_owner_made_invisible_is_white_on_the_page():
    image = Image.new("RGBA", (60, 40), (200, 0, 0, 255))
    image.paste((0, 0, 200, 0), (0, 0, 30, 40))
    file = io.BytesIO()
    image.save(file, "PNG")
    photo = read_photo(file.getvalue())
    for picture in (picture_of(photo), picture_of_face(photo, torch.tensor([20.0, 10.0, 40.0, 30.0]))):
        shown = Image.open(io.BytesIO(picture)).convert("RGB")
        left, right = shown.getpixel((2, 20)), shown.getpixel((shown.width - 3, 20))
        assert min(left) > 245 and right[0] > 180 and right[2] < 20
