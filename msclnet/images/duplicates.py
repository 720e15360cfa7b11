"""What is measured of each image for the data report, and the images that show the same picture.

N images, P pairs.
"""

from collections.abc import Sequence

import cv2
import imagehash
import numpy as np
from PIL import Image

from msclnet.images.table import Measures

HASHED = 32  # side of the image that the perceptual hash looks at
SIDE = 16  # of the thumbnail
DISTANCE = 4  # bits of 64 in which the hashes of one picture's copies may differ
BANDS = DISTANCE + 1  # of that many parts of the hash, one is equal in both
MOST_NEIGHBOURS = 32  # of an image that are compared with it, among those with an equal band
PAIRS_AT_ONCE = 8192  # whose thumbnails are compared, which bounds the memory
CORRELATION = 0.98  # of the thumbnails; copies that were compressed or scaled again have 0.999


def measure(resized: np.ndarray, *, height: int, width: int) -> Measures:
    """Measure an image of the training size, uint8 RGB (H, W, 3); `height` and `width` are its file's."""
    gray = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)
    hashed = cv2.resize(gray, (HASHED, HASHED), interpolation=cv2.INTER_AREA)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S))
    bits = imagehash.phash(Image.fromarray(hashed)).hash
    return Measures(
        height=height,
        width=width,
        brightness=round(cv2.mean(gray)[0], 2),
        sharpness=round(float(deviation[0, 0]) ** 2, 2),
        fingerprint=int.from_bytes(np.packbits(bits).tobytes(), "big"),
        thumbnail=cv2.resize(hashed, (SIDE, SIDE), interpolation=cv2.INTER_AREA).tobytes(),
    )


def near_pairs(measures: Sequence[Measures]) -> np.ndarray:
    """Pairs of images that show the same picture: int64 (P, 2), the smaller position first, sorted.

    Their hashes differ in at most DISTANCE bits, and their thumbnails correlate with at least CORRELATION. Of images
    with equal hashes and thumbnails, the first one stands for all and makes a pair with each. The time is linear in N:
    images are sorted by each band of the hash, and an image is compared with at most MOST_NEIGHBOURS that have an equal
    band. Where more than that share one (thousands of nearly black images), a pair may be missed.
    """
    first: dict[tuple[int, bytes], int] = {}
    stands = [first.setdefault((one.fingerprint, one.thumbnail), i) for i, one in enumerate(measures)]
    chosen = np.array(list(first.values()), np.int64)
    hashes = np.array([measures[i].fingerprint for i in chosen], np.uint64)
    found = [np.empty((0, 2), np.int64)]
    for band in range(BANDS):
        # The band comes first, so that equal ones are neighbours; the nearer, the more of the rest is equal.
        shift = np.uint64(64 // BANDS * band)
        turned = (hashes << shift) | (hashes >> (np.uint64(64) - shift) if band else np.uint64(0))
        order = np.argsort(turned, kind="stable")
        keys, ordered = turned[order] >> np.uint64(64 - 64 // BANDS), hashes[order]
        for step in range(1, min(MOST_NEIGHBOURS, len(order) - 1) + 1):
            equal = np.flatnonzero(keys[step:] == keys[:-step])
            near = equal[np.bitwise_count(ordered[equal] ^ ordered[equal + step]) <= DISTANCE]
            found.append(np.sort(np.stack([order[near], order[near + step]], axis=1), axis=1))
    pairs = np.unique(np.concatenate(found), axis=0)
    thumbnails = np.array([np.frombuffer(measures[i].thumbnail, np.uint8) for i in chosen], np.float32)
    if len(pairs):
        thumbnails -= thumbnails.mean(axis=1, keepdims=True)
        thumbnails /= np.maximum(np.linalg.norm(thumbnails, axis=1, keepdims=True), 1e-6)
        alike = [
            np.einsum("ij,ij->i", thumbnails[block[:, 0]], thumbnails[block[:, 1]])
            for block in np.array_split(pairs, len(pairs) // PAIRS_AT_ONCE + 1)
        ]
        pairs = chosen[pairs[np.concatenate(alike) >= CORRELATION]]
    copies = [(one, i) for i, one in enumerate(stands) if one != i]
    return np.unique(np.concatenate([pairs, np.array(copies, np.int64).reshape(-1, 2)]), axis=0)


def groups(pairs: np.ndarray, count: int) -> list[list[int]]:
    """Images that pairs connect, directly or through others: sorted positions below `count`, in order of the first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    members: dict[int, list[int]] = {}
    for position in np.unique(pairs).tolist():
        members.setdefault(int(labels[position]), []).append(position)
    return list(members.values())
