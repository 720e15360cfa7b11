"""Rendered people in the folders that a user's own images lie in."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from msclnet.synthetic.render import render_person

CAMERAS = {"visible": (1, 4), "infrared": (3, 6)}


def write_people(root: Path, names: Sequence[str], *, images: int = 4, seed: int = 7, scale: int = 2) -> None:
    """`<modality>/<name>/<camera>/<n>.jpg`: `images` of each modality, by two cameras, at a fraction of their size."""
    for number, name in enumerate(names, start=1):
        for modality, cameras in CAMERAS.items():
            for image in range(images):
                camera = cameras[image % 2]
                drawn = render_person(seed=seed, identity=number, camera=camera, image=image)
                picture = Image.fromarray(drawn).reduce(scale)
                path = root / modality / name / f"cam{camera}" / f"{image:02d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path, quality=90)
