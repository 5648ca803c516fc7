"""Data sets of X-rays in the layouts they are published in, made up here in small."""

import numpy as np
from PIL import Image

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def picture(path, *, brightness=100, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], brightness, dtype=np.uint8)).save(path)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def chexpert(root, *, folder="CheXpert-v1.0-small"):
    """Five X-rays of three patients; gives the list's path."""
    start = "CheXpert-v1.0-small/train"
    lines = [
        # the five:                         Card,    Ed,  Cons,       At,    Ef
        f"{start}/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        f"{start}/patient00002/study2/view1_frontal.jpg,Male,39,Frontal,PA,,,-1.0,1.0,-1.0,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        f"{start}/patient00002/study2/view2_lateral.jpg,Male,40,Lateral,,,,1.0,1.0,,1.0,0.0,,0.0,,1.0,,,",
        f"{start}/patient00002/study1/view1_frontal.jpg,Unknown,0,Frontal,AP,,,,-1.0,,,,,,0.0,,,,1.0",
        f"{start}/patient00003/study1/view1_frontal.jpg,Male,90,Frontal,AP,,,,-1.0,,,,,,0.0,1.0,,,",
    ]
    for number, line in enumerate(lines):
        inner = line.partition(",")[0].partition("/")[2]
        picture(root / folder / inner, brightness=10 * number)
    return write(root / folder / "train.csv", CHEXPERT_HEADER, *lines)


def nih(root, *, places=("images_001/images", "images_002/images", "images", "")):
    """Four X-rays of three patients, in as many places; gives the list's path."""
    lines = [
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000001_001.png,No Finding,1,1,059Y,M,AP,2682,2749,0.143,0.143,",
        "00000002_000.png,Effusion|Atelectasis,0,2,414,F,PA,2682,2749,0.143,0.143,",
        "00000003_000.png,Edema,0,3,011M,F,PA,2682,2749,0.143,0.143,",
    ]
    for number, (line, place) in enumerate(zip(lines, places, strict=True)):
        picture(root / place / line.partition(",")[0], brightness=10 * number)
    return write(root / "Data_Entry_2017_v2020.csv", NIH_HEADER, *lines)


def plain(root, header="image,patient,sex,age,view,Edema,Effusion", *more):
    """Three X-rays of two patients; gives the list's path."""
    lines = more or ("a.png,p1,M,30,PA,1,0", "b.png,p1,male,61.0,L,,0", "c.png,p2,U,,AP,0.0,1.0")
    for number, line in enumerate(lines):
        picture(root / line.partition(",")[0], brightness=10 * number)
    return write(root / "list.csv", header, *lines)
