"""Pretrained weights: files of every kind are read, all others are refused before a weight changes."""

import os
import pickle
from http.client import IncompleteRead
from pathlib import Path
from unittest.mock import Mock
from urllib.error import HTTPError, URLError

import pytest
import torch
from model_specs import spec
from safetensors.torch import save_file
from torchvision.models import ResNet, resnet18, resnet50

from msclnet.errors import UserError
from msclnet.models.build import build_network
from msclnet.models.resnet import IMAGENET, load_pretrained, read_state


@pytest.fixture(scope="module")
def untouched() -> ResNet:
    """For what is refused before a weight is written."""
    return resnet18()


def fresh(seed: int) -> ResNet:
    torch.manual_seed(seed)
    return resnet18()


@pytest.fixture(scope="module")
def donor() -> dict[str, torch.Tensor]:
    return fresh(1).state_dict()


def holds(network: ResNet, state: dict[str, torch.Tensor]) -> bool:
    """Whether all weights but the classifier's are those of `state`."""
    return all(
        torch.equal(value, state[key])
        for key, value in network.state_dict().items()
        if not key.startswith("fc.")
    )


@pytest.mark.parametrize("kind", ["safetensors", "nested", "parallel", "old, without classifier"])
def test_files_of_every_kind_are_read(kind, donor, folder):
    path = folder / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    match kind:
        case "safetensors":
            save_file(donor, path)
        case "nested":
            torch.save({"epoch": 3, "state_dict": donor}, path)
        case "parallel":
            torch.save({f"module.{key}": value for key, value in donor.items()}, path)
        case _:
            left_out = ("num_batches_tracked", "fc.weight", "fc.bias")
            torch.save({key: value for key, value in donor.items() if not key.endswith(left_out)}, path)
    network = fresh(0)
    classifier = network.fc.weight.clone()
    load_pretrained(network, backbone="resnet18", weights="none")
    assert not holds(network, donor)
    load_pretrained(network, backbone="resnet18", weights=str(path))
    assert holds(network, donor)
    assert torch.equal(network.fc.weight, classifier)


def refused(path: Path | str, *, backbone: str = "resnet18") -> str:
    network = {"resnet18": resnet18, "resnet50": resnet50}[backbone]()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_pretrained(network, backbone=backbone, weights=str(path))
    assert holds(network, before), "a refused file has changed the network"
    message = str(caught.value)
    assert "model.weights" in message
    assert str(path) in message
    return message


def unreadable(path: Path) -> str:
    """The message for a file that is refused while it is read."""
    with pytest.raises(UserError) as caught:
        read_state(path)
    message = str(caught.value)
    assert "model.weights" in message
    assert str(path) in message
    return message


def test_weights_of_another_network_are_refused(donor, folder):
    path = folder / "resnet18.pth"
    torch.save(donor, path)
    message = refused(path, backbone="resnet50")
    assert "torchvision resnet50" in message
    assert "model.backbone" in message


NEARLY = {
    "missing": ({"layer3.1.conv2.weight": None}, "layer3.1.conv2.weight"),
    "unknown": ({"layer5.0.conv1.weight": torch.zeros(1)}, "layer5.0.conv1.weight"),
    "shape": ({"layer3.1.conv2.weight": torch.zeros(256, 256, 1, 1)}, "layer3.1.conv2.weight"),
}


@pytest.mark.parametrize("change", NEARLY)
def test_a_file_that_nearly_fits_is_refused(change, donor, folder):
    changes, key = NEARLY[change]
    torch.save(
        {k: value for k, value in {**donor, **changes}.items() if value is not None}, folder / "nearly.pth"
    )
    message = refused(folder / "nearly.pth")
    assert key in message
    assert "'none'" in message


def test_a_missing_file_is_named_with_what_could_stand_there(folder):
    message = unreadable(folder / "nowhere.pth")
    assert "there is no file" in message
    assert "'imagenet' or 'none'" in message
    assert "there is no file" in unreadable(folder)  # a folder


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("fault", ["torn", "empty", "text"])
def test_a_torn_file_is_refused(suffix, fault, folder):
    path, state = folder / f"weights.{suffix}", {"conv1.weight": torch.ones(64, 3, 7, 7)}
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    if fault == "torn":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    else:
        path.write_bytes(b"" if fault == "empty" else b"<html>404: not found</html>\n" * 20)
    message = unreadable(path)
    assert "cannot be read" in message
    assert "state_dict" in message


class Payload:
    """What a hostile file would do: it makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_file_is_never_run(writer, folder):
    path, mark = folder / "hostile.pth", folder / "mark"
    content = {"conv1.weight": Payload(mark)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    message = unreadable(path)
    assert "save a plain state_dict" in message
    assert not mark.exists()
    pickle.loads(pickle.dumps(content, protocol=2))
    assert mark.exists(), "the payload does nothing: the test shows nothing"


OTHER_CONTENT = {
    "list": [torch.zeros(1)],
    "tensor": torch.zeros(3),
    "optimizer": {"state": {}, "param_groups": []},
    "numbered": {1: torch.zeros(1)},
    "nested text": {"state_dict": {"a": "b"}},
}


@pytest.mark.parametrize("content", OTHER_CONTENT.values(), ids=OTHER_CONTENT)
def test_files_that_hold_something_else_are_refused(content, folder):
    path = folder / "other.pth"
    torch.save(content, path)
    assert "state_dict" in unreadable(path)


@pytest.fixture
def cache(folder, monkeypatch) -> Path:
    """torch's cache folder, empty, and no internet."""
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None, raising=False)

    monkeypatch.setattr(torch.hub, "urlopen", Mock(side_effect=URLError("Name or service not known")))
    folder = folder / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_without_internet_the_message_says_where_to_put_which_file(backbone, cache, untouched):
    with pytest.raises(UserError) as caught:
        load_pretrained(untouched, backbone=backbone, weights="imagenet")
    message = str(caught.value)
    assert "Name or service not known" in message
    assert IMAGENET[backbone].url in message
    assert str(cache) in message
    assert "'none'" in message


@pytest.mark.parametrize(
    "error",
    [
        HTTPError("https://example.org", 403, "Forbidden", None, None),  # type: ignore[arg-type]
        ConnectionResetError("reset"),
        RuntimeError('invalid hash value (expected "0676ba61", got "e3b0c442")'),
        OSError(28, "No space left on device"),
        IncompleteRead(b"half"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_a_download_fails_is_the_users_to_repair(error, cache, monkeypatch, untouched):
    monkeypatch.setattr(torch.hub, "download_url_to_file", Mock(side_effect=error))
    with pytest.raises(UserError, match=r"model\.weights: 'imagenet' could not be fetched"):
        load_pretrained(untouched, backbone="resnet18", weights="imagenet")


def test_a_file_in_the_cache_folder_is_used_without_internet(cache, donor):
    name = IMAGENET["resnet18"].url.rsplit("/", 1)[1]
    torch.save(donor, cache / name)
    network = fresh(0)
    load_pretrained(network, backbone="resnet18", weights="imagenet")
    assert holds(network, donor)


def test_a_torn_or_hostile_file_in_the_cache_folder_is_refused(cache, folder, untouched):
    path, mark = cache / IMAGENET["resnet18"].url.rsplit("/", 1)[1], folder / "mark"
    torch.save({"conv1.weight": Payload(mark)}, path)
    for content in (path.read_bytes(), b"", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.weights"):
            load_pretrained(untouched, backbone="resnet18", weights="imagenet")
    assert not mark.exists()


def test_both_stems_start_from_the_file_and_the_caller_may_decline_it(donor, folder):
    path = folder / "weights.pth"
    torch.save(donor, path)
    settings = spec(backbone="resnet18", weights=str(path), synergy={"teacher": "mutual"})
    backbone = build_network(settings).backbone
    for stem in (backbone.stem_visible, backbone.stem_infrared):
        assert torch.equal(stem.state_dict()["0.weight"], donor["conv1.weight"])
    path.unlink()
    build_network(settings, pretrained=False)
    with pytest.raises(UserError, match="there is no file"):
        build_network(settings)
