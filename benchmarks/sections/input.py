"""How fast one core makes training images: from the memory map, beside decoding the file again."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from msclnet.data.arrays import open_array
from msclnet.data.decode import decode, resize
from msclnet.data.synthetic.render import render_person
from msclnet.data.transforms import build_augmentation

HEIGHT, WIDTH = 288, 144
COUNT = 512
REPEATS = 5
AUGMENT = {
    "padding": 10,
    "flip": 0.5,
    "erasing": {"probability": 0.5, "area": (0.02, 0.4), "ratio": (0.3, 3.3)},
}


def run() -> list[tuple[str, float]]:
    """Images a second, medians of interleaved turns.

    Returns:
        (way, images a second): reading alone, reading and augmenting, decoding the JPEG file and augmenting.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    files = [_jpeg(identity) for identity in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, np.stack([_load(files[i % len(files)]) for i in range(COUNT)]))
        images = open_array(path)
        augment = build_augmentation(AUGMENT, height=HEIGHT, width=WIDTH)
        out = np.empty((HEIGHT, WIDTH, 3), np.uint8)

        def read(row: int) -> None:
            np.copyto(out, images[row])

        def augmented(row: int) -> None:
            np.copyto(out, augment(image=images[row])["image"])

        def from_file(row: int) -> None:
            np.copyto(out, augment(image=_load(files[row % len(files)]))["image"])

        ways: dict[str, Callable[[int], None]] = {
            "memory map, read": read,
            "memory map, augmented": augmented,
            "JPEG file, augmented": from_file,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            rows = rng.permutation(COUNT)
            for name, way in ways.items():
                start = time.perf_counter()
                for row in rows:
                    way(int(row))
                seconds[name].append(time.perf_counter() - start)
    return [(name, COUNT / float(np.median(taken))) for name, taken in seconds.items()]


def _jpeg(identity: int) -> bytes:
    picture = render_person(seed=1, identity=identity, camera=1, image=0)
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _load(data: bytes) -> np.ndarray:
    return resize(decode(data).pixels, height=HEIGHT, width=WIDTH)


def main() -> None:
    """Print a table."""
    rows = run()
    slowest = min(rate for _, rate in rows)
    for name, rate in rows:
        print(f"{name:26}{rate:10.0f} images/s{rate / slowest:8.1f}x")


if __name__ == "__main__":
    main()
