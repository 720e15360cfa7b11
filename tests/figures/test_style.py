"""Saved figures: the same input gives the same bytes, with any matplotlib settings of the user."""

import ast
import struct
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from msclnet.figures import style
from msclnet.figures.curves import cmc_figure


def curve(std: float = 0.02):
    return cmc_figure(
        {"MSCLNet": ([0.4, 0.6, 0.7], [std] * 3)}, title="CMC", caption="Synthetic data, all-search"
    )


def chunks(png: bytes) -> dict[bytes, bytes]:
    found, place = {}, 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found[png[place + 4 : place + 8]] = png[place + 8 : place + 8 + length]
        place += 12 + length
    return found


def test_same_figure_gives_same_bytes_when_built_or_saved_again(tmp_path):
    figure = curve()
    style.save(figure, tmp_path / "new" / "first.png")
    first = (tmp_path / "new" / "first.png").read_bytes()
    style.save(figure, tmp_path / "again.png")  # a layout that is solved again would move
    assert first == (tmp_path / "again.png").read_bytes()
    style.save(curve(), tmp_path / "rebuilt.png")
    assert first == (tmp_path / "rebuilt.png").read_bytes()
    style.save(curve(0.05), tmp_path / "other.png")
    assert first != (tmp_path / "other.png").read_bytes()


def test_png_holds_no_text_and_the_stated_resolution_and_user_settings_change_nothing(tmp_path):
    figure = curve()
    style.save(figure, tmp_path / "plain.png")
    found = chunks((tmp_path / "plain.png").read_bytes())
    assert set(found) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
    width, height = struct.unpack(">II", found[b"IHDR"][:8])
    assert (width, height) == tuple(np.rint(figure.get_size_inches() * style.DPI).astype(int))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "pink", "savefig.bbox": "tight"}):
        style.save(curve(), tmp_path / "loud.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "loud.png").read_bytes()


def test_colours_of_a_pair_differ_in_lightness_or_between_blue_and_yellow():
    """The commonest colour blindness leaves lightness and the blue-yellow axis."""

    def seen(colour: str) -> np.ndarray:
        red, green, blue = np.array(to_rgb(colour)) ** 2.2
        return np.array([0.21 * red + 0.72 * green + 0.07 * blue, blue - (red + green) / 2])

    pairs = [
        (style.VISIBLE, style.INFRARED),
        (style.RIGHT, style.WRONG),
        (style.SAME_IDENTITY, style.OTHER_IDENTITY),
    ]
    for one, other in pairs:
        assert np.abs(seen(one) - seen(other)).max() > 0.1, (one, other)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_only_uint8_rgb_is_an_image(bad):
    figure = style.new_figure(2, 2, title="")
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        style.show_image(figure.subplots(), bad)


def test_no_file_uses_pyplot_and_scikit_learn_is_imported_inside_functions_alone():
    files = list(Path(style.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert "pyplot" not in path.read_text(encoding="utf-8").split('"""', 2)[2], path
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("sklearn" in ast.unparse(node) for node in top), path
