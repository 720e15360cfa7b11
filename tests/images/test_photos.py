"""Finding and reading a user's own files, and doubting their modality."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msclnet.images.decode import UnreadableImageError
from msclnet.images.user_files import contradiction, find_images, read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
GREYS = np.repeat(COLOURS[:, :, :1], 3, axis=2)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_images_at_any_depth_with_any_case_of_their_ending(tmp_path: Path) -> None:
    names = ["b.JPG", "a.jpeg", "c/d/e.PnG", "c/f.bmp", "c/g.tif", "z.TIFF", "h.webp", "i.ppm", "j.pgm"]
    wanted = [touch(tmp_path / name) for name in names]
    for name in ("notes.txt", "jpg", "c/k.jpg.txt", "l.mp4"):
        touch(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == (sorted(wanted), [])
    assert find_images(tmp_path / "folder.png") == ([], [])


def test_one_folder_is_left_out(tmp_path: Path) -> None:
    inside = touch(tmp_path / "photos/a.png")
    touch(tmp_path / "photos/found/ranking_1.png")
    found, _ = find_images(tmp_path / "photos", exclude=tmp_path / "elsewhere/../photos/found")
    assert found == [inside]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "far/away.png")
    near = touch(tmp_path / "photos/near.png")
    (tmp_path / "photos/link").symlink_to(tmp_path / "far")
    (tmp_path / "photos/round").symlink_to(tmp_path / "photos")
    found, _ = find_images(tmp_path / "photos")
    assert found == [tmp_path / "photos/link/away.png", near]


def test_folders_that_cannot_be_opened_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is longer than the system takes: closed to everybody, root included."""
    inside = touch(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    touch(Path("too_deep.png"))
    found, unreadable = find_images(tmp_path)
    assert found == [inside]
    assert len(unreadable) == 1
    assert unreadable[0].path.name == "d" * 250
    assert "too long" in unreadable[0].reason


def test_reading_is_decoding_and_lanczos(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", height=30, width=17)
    expected = np.asarray(Image.fromarray(COLOURS).resize((17, 30), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["missing.png", "folder.png", "empty.png", "text.png"])
def test_whatever_keeps_a_file_from_being_an_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"."):
        read_image(tmp_path / name, height=30, width=17)


def test_the_look_of_the_other_modality_is_doubtful(tmp_path: Path) -> None:
    tinted = np.clip(GREYS.astype(int) // 2 + [60, 58, 56], 0, 255).astype(np.uint8)
    Image.fromarray(GREYS).save(tmp_path / "grey.jpg", quality=30)
    saved = read_image(tmp_path / "grey.jpg", height=40, width=20)
    looks = {"colour": COLOURS, "grey": GREYS, "a slight tint": tinted, "grey as a colour JPEG": saved}
    doubtful = {
        (name, infrared)
        for name in looks
        for infrared in (True, False)
        if contradiction(looks[name], infrared=infrared)
    }
    assert doubtful == {("colour", True), ("grey", False), ("grey as a colour JPEG", False)}
