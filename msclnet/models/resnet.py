"""torchvision's ResNets as stems and trunks, with pretrained weights: torchvision's, a local file, or none."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50
from torchvision.models.resnet import BasicBlock, ResNet

from msclnet.errors import UserError
from msclnet.models.backbone import join_layers

RESNETS = {"resnet18": resnet18, "resnet50": resnet50}
IMAGENET = {"resnet18": ResNet18_Weights.IMAGENET1K_V1, "resnet50": ResNet50_Weights.IMAGENET1K_V1}


def load_pretrained(resnet: ResNet, *, backbone: str, weights: str) -> None:
    """Fill a torchvision ResNet, in place.

    `weights` is `none`, `imagenet` (torchvision's, kept in its cache folder after the first time), or the path of a
    file of torchvision's keys (.safetensors, or .pth as written by torch.save). UserError where they cannot be had or
    do not fit.
    """
    if weights == "none":
        return
    state = _imagenet(backbone) if weights == "imagenet" else read_state(Path(weights))
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    expected = {key: value.shape for key, value in resnet.state_dict().items() if not key.startswith("fc.")}
    # Files from before torch 1.0 lack the counters of batch norm.
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in state if expected.get(key) != state[key].shape]
    if missing or wrong:
        raise UserError(
            f"model.weights: {weights} does not hold a torchvision {backbone}: {len(missing)} keys are missing "
            f"{missing[:3]}, {len(wrong)} unknown or of another shape {wrong[:3]}; "
            "give a file that fits model.backbone, or 'imagenet', or 'none'"
        )
    resnet.load_state_dict(state, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file or of a .pth file; no code in the file is ever run."""
    if not path.is_file():
        raise UserError(
            f"model.weights: there is no file {path}; give the path of a .pth or .safetensors file, "
            "'imagenet' or 'none'"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"model.weights: {path} cannot be read as a file of tensors ({type(error).__name__}: {error}); "
            "save a plain state_dict again with torch.save or safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(f"model.weights: {path} holds no state_dict; save model.state_dict() alone")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _imagenet(backbone: str) -> dict[str, Tensor]:
    weights = IMAGENET[backbone]
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except Exception as error:
        raise UserError(
            f"model.weights: 'imagenet' could not be fetched from {weights.url} ({error}); download that file on a "
            f"machine with internet access and put it into {torch.hub.get_dir()}/checkpoints (a broken copy that "
            "lies there already must go), or set model.weights to its path, or to 'none' for random weights"
        ) from error


def stem(resnet: ResNet) -> nn.Module:
    """conv1 to maxpool of a torchvision ResNet."""
    return nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)


def trunk(resnet: ResNet, *, non_local_inner: int) -> nn.Module:
    """layer1 to layer4 of a torchvision ResNet (taken, not copied), with AGW's non-local blocks."""
    layers = [list(layer) for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)]
    return join_layers(layers, non_local_inner=non_local_inner)


def keep_last_resolution(resnet: ResNet) -> None:
    """Set the stride of layer4 to 1, in place: maps of 1/16 instead of 1/32 of the image."""
    block = resnet.layer4[0]
    main = block.conv1 if isinstance(block, BasicBlock) else block.conv2
    shortcut = block.get_submodule("downsample.0")
    for convolution in (main, shortcut):
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (1, 1)
