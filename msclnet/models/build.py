"""Builds the network that the sections `model` and `synergy` of params.yaml describe."""

import copy
from collections.abc import Mapping
from typing import Any

from msclnet.models.backbone import Pixels, TwoStreamBackbone, slim_stem, slim_trunk
from msclnet.models.heads import BNNeck, ModalityNorm
from msclnet.models.mogrifier import MogrifierLSTMCell
from msclnet.models.network import MSCLNet
from msclnet.models.synergy import SynergyBranch

FORMER_REDUCTION = 3  # of networks that were saved before model.reduction was a parameter


def build_network(spec: Mapping[str, Any], *, pretrained: bool = True) -> MSCLNet:
    """Assemble MSCLNet.

    Args:
        spec: `identities` (number of training identities), and the sections `model` and `synergy` of
            params.yaml. `synergy` decides on parts that only training uses.
        pretrained: Whether to load `model.weights`; False where the caller loads all weights afterwards.

    Raises:
        UserError: The pretrained weights cannot be fetched or read, or do not fit.
    """
    model, synergy = spec["model"], spec["synergy"]
    backbone = _build_backbone(model, pretrained=pretrained)
    channels, identities = backbone.channels, spec["identities"]
    reduction = model.get("reduction", FORMER_REDUCTION) if model["backbone"] == "slim" else 1
    fuses = synergy["teacher"] in ("mogrifier", "parts_mean")
    return MSCLNet(
        pixels=Pixels(reduction=reduction),
        backbone=backbone,
        neck=BNNeck(channels, identities),
        normalise_visible=ModalityNorm(channels),
        normalise_infrared=ModalityNorm(channels),
        normalised_neck=BNNeck(channels, identities) if synergy["target"] == "label" else None,
        synergy=_build_synergy(synergy, channels, identities, gem_p=model["gem_p"]) if fuses else None,
        gem_p=model["gem_p"],
        parts=model["parts"],
    )


def _build_backbone(model: Mapping[str, Any], *, pretrained: bool) -> TwoStreamBackbone:
    shared = model["trunk"] == "shared"
    if model["backbone"] == "slim":
        width = model["width"]
        trunks = [
            slim_trunk(width, last_stride=model["last_stride"], non_local_inner=model["non_local_inner"])
            for _ in range(1 if shared else 2)
        ]
        return TwoStreamBackbone(
            stem_visible=slim_stem(width),
            stem_infrared=slim_stem(width),
            trunk_visible=trunks[0],
            trunk_infrared=trunks[-1],
            channels=8 * width,
        )
    from msclnet.models import resnet  # torchvision: 4 s of processor time that the slim network does without

    network = resnet.RESNETS[model["backbone"]]()
    if pretrained:
        resnet.load_pretrained(network, backbone=model["backbone"], weights=model["weights"])
    if model["last_stride"] == 1:
        resnet.keep_last_resolution(network)
    other, inner = copy.deepcopy(network), model["non_local_inner"]
    trunk_visible = resnet.trunk(network, non_local_inner=inner)
    return TwoStreamBackbone(
        stem_visible=resnet.stem(network),
        stem_infrared=resnet.stem(other),
        trunk_visible=trunk_visible,
        trunk_infrared=trunk_visible if shared else resnet.trunk(other, non_local_inner=inner),
        channels=network.fc.in_features,
    )


def _build_synergy(
    synergy: Mapping[str, Any], channels: int, identities: int, *, gem_p: float
) -> SynergyBranch:
    cell = None
    if synergy["teacher"] == "mogrifier":
        cell = MogrifierLSTMCell(
            channels, channels, rounds=synergy["rounds"], rank=synergy["rank"], bias=synergy["bias"]
        )
    return SynergyBranch(
        channels=channels,
        identities=identities,
        gem_p=gem_p,
        cell=cell,
        reading=synergy["reading"],
        residual=synergy["residual"],
        detached=synergy["inputs"] == "detached",
    )
