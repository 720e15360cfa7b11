"""The rehearsal's data set has SYSU-MM01's counts, with and without the official split files: no image is drawn."""

from collections import Counter
from pathlib import Path

import pytest
from rehearsal_files import write_permutations
from scipy.io import savemat

from benchmarks.sysu_mm01 import SYSU_MM01, Listing, full_listing, read_test_cells
from msclnet.errors import UserError
from msclnet.retrieval.protocols import Images, sysu_mm01_protocol


def infrared(camera: int) -> bool:
    return camera in (3, 6)


def check_counts(listing: Listing) -> None:
    """Against the published numbers, which the rehearsal expects."""
    sizes = {split: len(members) for split, members in listing.identities.items()}
    assert sizes == {"train": 296, "val": 99, "test": 96}
    listed = [identity for members in listing.identities.values() for identity in members]
    assert len(set(listed)) == 491
    assert len({identity for identity, _ in listing.cells}) == 513
    assert {identity for identity, _ in listing.cells} > set(listed)
    assert set(listed) <= set(range(1, 534))
    assert all(count > 0 for count in listing.cells.values())

    part = dict.fromkeys(listed, "train") | dict.fromkeys(listing.identities["test"], "test")
    images: Counter[tuple[str, str]] = Counter()
    by_camera: dict[int, list[int]] = {}
    for (identity, camera), count in listing.cells.items():
        modality = "infrared" if infrared(camera) else "visible"
        images[part.get(identity, "unlisted"), modality] += count
        if part.get(identity) == "test":
            by_camera.setdefault(camera, []).append(count)
    assert {kind: count for kind, count in images.items() if kind[0] != "unlisted"} == SYSU_MM01.images
    assert sum(count for (_, modality), count in images.items() if modality == "visible") == 30_071
    assert sum(count for (_, modality), count in images.items() if modality == "infrared") == 15_792
    found = {camera: (len(counts), sum(counts)) for camera, counts in by_camera.items()}
    assert found == SYSU_MM01.test_cameras


def check_protocols(listing: Listing, *, sampler: str, permutations: Path | None) -> None:
    """Galleries and valid queries, counted image by image."""
    test = set(listing.identities["test"])
    rows = [
        (identity, camera, infrared(camera), f"cam{camera}/{identity:04d}/{number:04d}.jpg")
        for (identity, camera), count in listing.cells.items()
        if identity in test
        for number in range(1, count + 1)
    ]
    names = ("identities", "cameras", "infrared", "paths")
    images = Images.of(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    for (mode, shots), gallery in SYSU_MM01.gallery.items():
        protocol = sysu_mm01_protocol(
            images, mode=mode, shots=shots, sampler=sampler, permutations_path=permutations, trials=1
        )
        assert len(protocol.queries) == SYSU_MM01.queries
        for drawn in protocol.galleries:
            assert len(set(drawn.tolist())) == gallery
            seen = {rows[place][:2] for place in drawn}
            valid = 0
            for place in protocol.queries:
                identity, camera = rows[place][:2]
                valid += any((identity, other) in seen for other in (1, 2, 4, 5) if (camera, other) != (3, 2))
            assert valid == SYSU_MM01.valid_queries[mode]


def test_a_made_up_data_set_has_the_published_counts() -> None:
    listing = full_listing()
    check_counts(listing)
    check_protocols(listing, sampler="agw", permutations=None)
    assert full_listing() == listing


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Listing]:
    """A permutation file with people of all lists, its test list next to it, and the listing they are from."""
    folder = tmp_path_factory.mktemp("splits")
    source = full_listing()
    # Other numbers than the made-up data set has, so that it cannot be taken for the answer.
    turned = Listing(
        {split: [534 - i for i in members] for split, members in source.identities.items()},
        {(534 - identity, camera): count for (identity, camera), count in source.cells.items()},
    )
    write_permutations(folder / "rand_perm_cam.mat", turned.cells)
    savemat(folder / "test_id.mat", {"id": [turned.identities["test"]]})
    return folder / "rand_perm_cam.mat", turned


def test_the_test_part_comes_from_the_permutation_file(splits: tuple[Path, Listing]) -> None:
    path, source = splits
    members = set(source.identities["test"])
    expected = {cell: count for cell, count in source.cells.items() if cell[0] in members}
    assert read_test_cells(path) == expected
    listing = full_listing(test=expected)
    check_counts(listing)
    assert set(listing.identities["test"]) == members
    assert {cell: listing.cells[cell] for cell in expected} == expected
    check_protocols(listing, sampler="official", permutations=path)


def test_the_test_list_stands_next_to_the_permutations(splits: tuple[Path, Listing], tmp_path: Path) -> None:
    path, source = splits
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"no readable test_id\.mat or test_id\.txt"):
        read_test_cells(copy)
    numbers = list(map(str, source.identities["test"]))
    (tmp_path / "test_id.txt").write_text(",".join(numbers[1:]))
    with pytest.raises(UserError, match=r"95 people .* not 96 and 10,578"):
        read_test_cells(copy)
    (tmp_path / "test_id.txt").write_text(", ".join(numbers) + "\r\n")  # the data set's own
    assert read_test_cells(copy) == read_test_cells(path)
    (tmp_path / "test_id.mat").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"test_id\.mat"):
        read_test_cells(copy)
    with pytest.raises(UserError, match="is missing"):
        read_test_cells(tmp_path / "other.mat")
