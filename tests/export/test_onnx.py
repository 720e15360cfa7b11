"""ONNX graphs, run by ONNX Runtime, against the network that they were made from."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_specs import random_images
from small_networks import HEIGHT, IMAGES, SPECS, STREAMS, WIDTH, assert_same, expected, graph

from msclnet.export.onnx import FloatPixels, onnx_function
from msclnet.models.backbone import MEAN, STD, Pixels


@pytest.mark.parametrize(("name", "infrared"), STREAMS)
def test_any_number_of_images_gives_the_networks_features(name: str, infrared: bool) -> None:
    session = onnxruntime.InferenceSession(graph(name, infrared).SerializeToString())
    whole = expected(name, infrared)
    for count in (1, 2, 7):
        pooled, bnneck = session.run(["pooled", "bnneck"], {"images": IMAGES[:count]})
        assert_same((np.asarray(pooled), np.asarray(bnneck)), (whole[0][:count], whole[1][:count]))


@pytest.mark.parametrize(("name", "infrared"), STREAMS)
def test_a_graph_says_what_goes_in_and_comes_out(name: str, infrared: bool) -> None:
    model = graph(name, infrared)
    onnx.checker.check_model(model, full_check=True)
    width = expected(name, infrared)[0].shape[1]
    shapes = {
        value.name: (
            value.type.tensor_type.elem_type,
            [part.dim_param or part.dim_value for part in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "images": (onnx.TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3]),
        "pooled": (onnx.TensorProto.FLOAT, ["batch", width]),
        "bnneck": (onnx.TensorProto.FLOAT, ["batch", width]),
    }
    assert ("Infrared" if infrared else "Visible") in model.doc_string


def test_a_graph_tells_nothing_of_the_machine_that_made_it() -> None:
    stored = graph("slim", False).SerializeToString()
    assert str(Path(__file__).parents[2]).encode() not in stored
    assert b".py" not in stored


def test_a_file_gives_what_the_graph_gives(tmp_path: Path) -> None:
    onnx.save(graph("slim", True), tmp_path / "infrared.onnx")
    every_other = IMAGES[::2]  # not contiguous
    assert_same(
        onnx_function(tmp_path / "infrared.onnx", threads=1)(every_other),
        expected("slim", True, np.ascontiguousarray(every_other)),
    )


@pytest.mark.parametrize(("reduction", "height", "width"), [(1, 11, 11), (3, 25, 23), (11, 25, 23)])
def test_pixels_in_floating_point(reduction: int, height: int, width: int) -> None:
    images = random_images(3, height, width)
    images[0] = 255  # the largest sums
    found = FloatPixels(Pixels(reduction=reduction))(images).numpy()
    rows, columns = height // reduction, width // reduction
    for y, x in np.ndindex(rows, columns):
        square = images[:, y * reduction : (y + 1) * reduction, x * reduction : (x + 1) * reduction]
        mean = square.double().mean(dim=(1, 2)).numpy() / 255
        np.testing.assert_allclose(found[:, :, y, x], (mean - MEAN) / STD, rtol=0, atol=1e-5)
    assert found.shape == (3, 3, rows, columns)
    torch.testing.assert_close(
        torch.from_numpy(found), Pixels(reduction=reduction)(images), rtol=1e-5, atol=1e-5
    )


def test_both_kinds_of_networks_are_among_them() -> None:
    """Guards the tests above: a reduction of the pixels, non-local blocks, shared and separate trunks."""
    assert SPECS["slim"]["model"]["trunk"] == "shared"
    assert [node.op_type for node in graph("slim", False).graph.node].count("AveragePool") == 1
    assert SPECS["separate"]["model"]["trunk"] == "separate"
    assert "Einsum" in {node.op_type for node in graph("separate", False).graph.node}
