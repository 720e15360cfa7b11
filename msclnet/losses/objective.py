"""The weighted, named sum of all losses (eq. 17 on top of the baseline's own losses)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from msclnet.features import Features, PairLabels, Synergy
from msclnet.losses.baseline import identity_loss, weighted_regularised_triplet_loss
from msclnet.losses.cascade import inter_loss, intra_loss, sub_loss
from msclnet.losses.complement import global_loss, local_loss
from msclnet.losses.synergy import divergence_loss, soft_target_loss

TERMS = (
    "identity",
    "triplet",
    "synergy_identity",
    "divergence",
    "target",
    "local",
    "global",
    "sub",
    "intra",
    "inter",
)


@dataclass(frozen=True)
class Terms:
    """The losses of one batch."""

    values: dict[str, Tensor]  # each switched-on term, unweighted
    total: Tensor  # their weighted sum


class Objective:
    """From features to losses.

    Routing (eq. 14 to 16): under `paper`, L_div and L_t never update the synergistic branch, L_local and L_global
    nothing else, the cascade whatever it is applied to. Under `joint` (Algorithm 1, step 4) L_local and L_global
    reach the extractors as well. The branch's own identity loss follows `synergy.inputs` under either. L_div with
    `reach: affine` updates the affine parameters of the instance normalisation alone, and so what the branch sees.

    Args:
        loss: Section `loss` of params.yaml: for each term `on`, `weight` and its form.
        synergy: Section `synergy`: `teacher`, `target` and `temperature`.
    """

    def __init__(self, loss: Mapping[str, Any], synergy: Mapping[str, Any]) -> None:
        self.loss = loss
        self.teacher = synergy["teacher"]
        self.target = synergy["target"]
        self.temperature = synergy["temperature"]
        self.weights = {name: float(loss[name]["weight"]) for name in TERMS if loss[name]["on"]}
        reading = {"synergy_identity", "local", "global"}  # the terms that read the synergistic branch
        if self.target == "synergy" and self.teacher in ("mogrifier", "parts_mean"):
            reading.add("target")
        if loss["cascade"]["synergistic"]:
            reading |= {"sub", "intra", "inter"}
        self.needs_synergy = bool(reading & self.weights.keys())

    def __call__(self, features: Features, labels: PairLabels) -> Terms:
        """Losses of N pairs."""
        values = {name: getattr(self, f"_{name}")(features, labels) for name in self.weights}
        total = torch.stack([weight * values[name] for name, weight in self.weights.items()]).sum()
        return Terms(values=values, total=total)

    @property
    def unstable(self) -> list[str]:
        """Settings in use that have no bound or divide by what may become 0, as `key: value`."""
        cascade, inter, local = (self.loss[name] for name in ("cascade", "inter", "local"))
        cascaded = any(name in self.weights for name in ("sub", "intra", "inter"))
        found = {
            "loss.cascade.normalised: false": cascaded and not cascade["normalised"],
            "loss.inter.form: negative": "inter" in self.weights and inter["form"] == "negative",
            "loss.local.form: printed": "local" in self.weights and local["form"] == "printed",
        }
        return [setting for setting, used in found.items() if used]

    def share_of_singletons(self, labels: PairLabels) -> float:
        """Share of the cascade's sub-classes with one row in the batch, for which L_sub is 0; in [0, 1]."""
        return share_of_singletons(self._subclasses(labels))

    def _subclasses(self, labels: PairLabels) -> Tensor:
        cascade = self.loss["cascade"]
        return subclass_numbers(
            labels, kinds=2 + cascade["synergistic"], by_camera=cascade["subclass"] == "camera"
        )

    def _identity(self, features: Features, labels: PairLabels) -> Tensor:
        logits = torch.cat([features.visible.logits, features.infrared.logits])
        return identity_loss(logits, labels.identities.repeat(2))

    def _triplet(self, features: Features, labels: PairLabels) -> Tensor:
        pooled = torch.cat([features.visible.pooled, features.infrared.pooled])
        return weighted_regularised_triplet_loss(
            pooled, labels.identities.repeat(2), form=self.loss["triplet"]["form"]
        )

    def _synergy_identity(self, features: Features, labels: PairLabels) -> Tensor:
        return identity_loss(_branch(features).logits, labels.identities)

    def _divergence(self, features: Features, _: PairLabels) -> Tensor:
        divergence, streams = self.loss["divergence"], (features.visible, features.infrared)
        visible, infrared = (
            s.isolated_normalised_parts if divergence["reach"] == "affine" else s.normalised_parts
            for s in streams
        )
        return divergence_loss(
            visible, infrared, form=divergence["form"], temperature=divergence["temperature"]
        )

    def _target(self, features: Features, labels: PairLabels) -> Tensor:
        streams = (features.visible, features.infrared)
        if self.target == "label":
            logits = [stream.normalised_logits for stream in streams]
            return sum_of(identity_loss(_present(z), labels.identities) for z in logits)
        visible, infrared = (stream.logits for stream in streams)
        if self.teacher == "mutual":
            teachers = (infrared, visible)
        elif self.teacher == "logits_mean":
            teachers = ((visible + infrared) / 2,) * 2
        else:
            teachers = (_branch(features).logits,) * 2
        return sum_of(
            soft_target_loss(student, teacher, temperature=self.temperature)
            for student, teacher in zip((visible, infrared), teachers, strict=True)
        )

    def _local(self, features: Features, _: PairLabels) -> Tensor:
        branch, visible = _branch(features), features.visible.parts
        if self._isolates:
            return local_loss(branch.isolated_parts, visible.detach(), form=self.loss["local"]["form"])
        return local_loss(branch.parts, visible, form=self.loss["local"]["form"])

    def _global(self, features: Features, labels: PairLabels) -> Tensor:
        branch, infrared = _branch(features), features.infrared
        if self.loss["global"]["feature"] == "pooled":
            synergistic = branch.isolated_pooled if self._isolates else branch.pooled
            target = infrared.pooled
        else:
            synergistic = (branch.isolated_parts if self._isolates else branch.parts).flatten(1)
            target = infrared.parts.flatten(1)
        if self._isolates:
            target = target.detach()
        if self.loss["global"]["normalised"]:
            synergistic, target = F.normalize(synergistic), F.normalize(target)
        return global_loss(synergistic, target, labels.identities)

    def _sub(self, features: Features, labels: PairLabels) -> Tensor:
        gathered, _, subclasses = self._cascade(features, labels)
        return sub_loss(gathered, subclasses)

    def _intra(self, features: Features, labels: PairLabels) -> Tensor:
        return intra_loss(*self._cascade(features, labels))

    def _inter(self, features: Features, labels: PairLabels) -> Tensor:
        inter = self.loss["inter"]
        return inter_loss(
            *self._cascade(features, labels),
            form=inter["form"],
            margin=inter["margin"],
            distinct=labels.distinct,
        )

    @property
    def _isolates(self) -> bool:
        return self.loss["routing"] == "paper"

    def _cascade(self, features: Features, labels: PairLabels) -> tuple[Tensor, Tensor, Tensor]:
        """Features, identities and sub-classes that the three cascaded losses see."""
        cascade = self.loss["cascade"]
        sources: list[Any] = [features.visible, features.infrared]
        if cascade["synergistic"]:
            sources.append(_branch(features))
        chosen = [s.pooled if cascade["feature"] == "pooled" else s.parts.flatten(1) for s in sources]
        gathered = torch.cat(chosen)
        if cascade["normalised"]:
            gathered = F.normalize(gathered)
        return gathered, labels.identities.repeat(len(sources)), self._subclasses(labels)


def subclass_numbers(labels: PairLabels, *, kinds: int, by_camera: bool) -> Tensor:
    """Number the sub-classes of N pairs: (kinds * N,), visible rows first, then infrared, then synergistic.

    `kinds` is 2, or 3 with the synergistic rows, whose camera is the pair's two. A sub-class is identity x modality x
    camera, without `by_camera` identity x modality (RegDB has no cameras); its number is its first row.
    """
    zeros = torch.zeros_like(labels.identities)
    cameras = [
        (labels.cameras_visible, zeros),
        (labels.cameras_infrared, zeros),
        (labels.cameras_visible, labels.cameras_infrared),
    ][:kinds]
    rows = [
        torch.stack([labels.identities, zeros + kind, *(pair if by_camera else (zeros, zeros))], dim=1)
        for kind, pair in enumerate(cameras)
    ]
    keys = torch.cat(rows)
    same = (keys[:, None] == keys[None, :]).all(dim=2)
    return same.to(torch.uint8).argmax(dim=1)  # torch.unique would synchronise the GPU


def share_of_singletons(subclasses: Tensor) -> float:
    """Share of sub-classes with one image in the batch; in [0, 1]."""
    counts = torch.unique(subclasses, return_counts=True)[1]
    return (counts == 1).float().mean().item()


def sum_of(values: Any) -> Tensor:
    return torch.stack(list(values)).sum()


def _branch(features: Features) -> Synergy:
    if features.synergy is None:
        raise ValueError(
            "this loss needs the synergistic feature: synergy.teacher must be mogrifier or parts_mean"
        )
    return features.synergy


def _present(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise ValueError("label targets need the head on the normalised maps: synergy.target must be 'label'")
    return logits
