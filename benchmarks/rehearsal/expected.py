"""The numbers that must come out: SYSU-MM01's, as published with the data set and its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Numbers of a whole evaluation.

    Attributes:
        published: Whether download must find no difference from the published numbers.
        images: By split and modality, as in the manifest.
        test_cameras: Test identities and test images of each camera.
        queries: Test images that ask, in every mode.
        valid_queries: By mode, those with a match in the gallery.
        gallery: By mode and shots, the images of each trial's gallery.
        trials: Galleries drawn.
    """

    published: bool
    images: Mapping[tuple[str, str], int]
    test_cameras: Mapping[int, tuple[int, int]]
    queries: int
    valid_queries: Mapping[str, int]
    gallery: Mapping[tuple[str, int], int]
    trials: int


SYSU_MM01 = Expected(
    published=True,
    images={
        ("train", "visible"): 22_258,
        ("train", "infrared"): 11_909,
        ("test", "visible"): 6_775,
        ("test", "infrared"): 3_803,
    },
    test_cameras={
        1: (56, 1374),
        2: (56, 1565),
        3: (93, 1883),
        4: (94, 1918),
        5: (95, 1918),
        6: (96, 1920),
    },
    queries=3_803,
    valid_queries={"all": 3_803, "indoor": 2_208},
    gallery={("all", 1): 301, ("all", 10): 3_010, ("indoor", 1): 112, ("indoor", 10): 1_120},
    trials=10,
)
