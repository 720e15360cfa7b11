"""What the committed presets say about the losses, and that each of them trains."""

import copy
from typing import Any

import pytest
import torch
from synthetic_settings import IDENTITIES, PRESETS, TERMS, pair_batch

from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from pipelines.stages.config import flatten
from pipelines.stages.presets import load_preset

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))

# Key -> value by preset, for the choices that make a preset what it is called.
WHOLE = {
    "synergy.teacher": "mogrifier",
    "synergy.target": "synergy",
    "synergy.inputs": "detached",
    "synergy.residual": "mean",
    "synergy.rounds": 5,
    "synergy.temperature": 4.0,
    "loss.routing": "paper",
    "loss.triplet.form": "agw",
    "loss.synergy_identity.weight": 1.0,
    "loss.divergence.on": False,
    "loss.target.weight": 1.25,
    "loss.local.form": "cosine",
    "loss.local.weight": 0.1,
    "loss.global.weight": 1.5,
    "loss.global.normalised": True,
    "loss.cascade.feature": "parts",
    "loss.cascade.normalised": True,
    "loss.cascade.synergistic": False,
    "loss.sub.weight": 1.0,
    "loss.intra.weight": 1.0,
    "loss.inter.weight": 1.0,
    "loss.inter.form": "hinge",
    "loss.inter.margin": 1.0,
}
PRINTED = {
    "synergy.teacher": "mogrifier",
    "synergy.target": "label",
    "synergy.residual": "none",
    "loss.divergence.form": "kl",
    "loss.divergence.weight": 0.5,
    "loss.target.weight": 1.25,
    "loss.local.form": "printed",
    "loss.local.weight": 0.8,
    "loss.global.weight": 1.5,
    "loss.global.normalised": False,
    "loss.cascade.normalised": False,
    "loss.sub.weight": 1.0,
    "loss.intra.weight": 1.0,
    "loss.inter.weight": 1.0,
    "loss.inter.form": "negative",
}
EXPECTED: dict[str, dict[str, Any]] = {"synthetic": WHOLE, "smoke": WHOLE, "paper-printed": PRINTED}
ON = {
    "synthetic": set(TERMS) - {"divergence"},
    "smoke": set(TERMS) - {"divergence"},
    "baseline": {"identity", "triplet"},
    "paper-printed": set(TERMS) - {"synergy_identity"},
}


def preset(name: str) -> dict[str, Any]:
    return load_preset(name, PRESETS.parent)


@pytest.mark.parametrize("name", EXPECTED)
def test_settings_that_define_the_preset(name):
    given = flatten(preset(name))
    assert {key: given[key] for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", ON)
def test_terms_that_are_on(name):
    assert {term for term in TERMS if preset(name)["loss"][term]["on"]} == ON[name]


@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_each_preset_is_finite(name):
    values = copy.deepcopy(preset(name))
    # the backbone is not what is tested here, and its weights may not be at hand
    values["model"] |= {"backbone": "slim", "weights": "none", "width": 8, "parts": 3, "non_local_inner": 0}
    torch.manual_seed(0)
    network = build_network(
        {"identities": IDENTITIES, "model": values["model"], "synergy": values["synergy"]}
    )
    objective = Objective(values["loss"], values["synergy"])
    visible, infrared, labels = pair_batch()
    terms = objective(network(visible, infrared, with_synergy=objective.needs_synergy), labels)
    terms.total.backward()
    assert torch.isfinite(terms.total)
    gradients = [p.grad for p in network.backbone.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
