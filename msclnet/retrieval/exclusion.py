"""Which gallery images a query must ignore: the rules of the data sets, each a function that gives a mask.

An exclusion takes the queries' and the gallery's identities and cameras and returns a bool matrix, true
where the gallery image is out of that query's list. Axes: B queries of a block, G gallery images.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

Exclusion = Callable[[IntArray, IntArray, IntArray, IntArray], BoolArray]
"""(query_identities_B, query_cameras_B, gallery_identities_G, gallery_cameras_G) -> excluded_BG"""


def same_room(*cameras: int) -> Exclusion:
    """A query of one of these cameras ignores every gallery image of any of them, whatever its identity.

    `same_room(2, 3)` is SYSU-MM01's rule: infrared camera 3 stands in the room of visible camera 2.
    """

    def exclude(
        query_identities_B: IntArray,
        query_cameras_B: IntArray,
        gallery_identities_G: IntArray,
        gallery_cameras_G: IntArray,
    ) -> BoolArray:
        return np.isin(query_cameras_B, cameras)[:, None] & np.isin(gallery_cameras_G, cameras)

    return exclude


def same_identity_and_camera(
    query_identities_B: IntArray,
    query_cameras_B: IntArray,
    gallery_identities_G: IntArray,
    gallery_cameras_G: IntArray,
) -> BoolArray:
    """A query ignores the images of its own identity by its own camera: LLCM's rule, and Market-1501's."""
    same_identity_BG = query_identities_B[:, None] == gallery_identities_G
    return same_identity_BG & (query_cameras_B[:, None] == gallery_cameras_G)
