"""Which parameters receive a gradient from which term (eq. 14 to 16 against Algorithm 1, step 4).

Batch norm runs on its stored statistics here: those of the batch let each image reach every other one's feature, and
with a shared trunk each modality the other's stem, which would hide where a loss takes hold. One test shows that.
"""

import pytest
from synthetic_settings import TERMS, pair_batch, settings, small_network
from torch import nn

from msclnet.losses.objective import Objective
from msclnet.models.network import MSCLNet

EXTRACTORS = frozenset({"visible stem", "infrared stem", "trunk"})
VISIBLE = frozenset({"visible stem", "trunk"})
INFRARED = frozenset({"infrared stem", "trunk"})
NECK = frozenset({"neck"})
NORM = frozenset({"instance norm"})
NORMALISED_NECK = frozenset({"normalised neck"})
FUSION = frozenset({"lstm", "residual"})
SYNERGY_NECK = frozenset({"synergy neck"})
NOTHING: frozenset[str] = frozenset()


def groups_of(network: MSCLNet) -> dict[str, list[nn.Parameter]]:
    branch = network.synergy
    modules: dict[str, list[nn.Module | None]] = {
        "visible stem": [network.backbone.stem_visible],
        "infrared stem": [network.backbone.stem_infrared],
        "trunk": [network.backbone.trunk_visible, network.backbone.trunk_infrared],
        "neck": [network.neck],
        "instance norm": [network.normalise_visible, network.normalise_infrared],
        "normalised neck": [network.normalised_neck],
        "lstm": [branch.lstm if branch is not None else None],
        "residual": [branch.residual if branch is not None else None],
        "synergy neck": [branch.neck if branch is not None else None],
    }
    groups = {
        name: [p for m in members if m is not None for p in m.parameters() if p.requires_grad]
        for name, members in modules.items()
    }
    trained = {id(p) for p in network.parameters() if p.requires_grad}
    assert {id(p) for group in groups.values() for p in group} == trained
    return groups


def reached(term: str, *, training: bool = False, **changes) -> frozenset[str]:
    """Groups with a gradient other than zero from one term alone."""
    values = settings(on=(term,), **changes)
    network = small_network(values).train(training)
    visible, infrared, labels = pair_batch()
    loss = Objective(values["loss"], values["synergy"])(network(visible, infrared), labels).total
    if not loss.requires_grad:
        return NOTHING
    loss.backward()
    return frozenset(
        name
        for name, parameters in groups_of(network).items()
        if any(p.grad is not None and p.grad.any() for p in parameters)
    )


# The synergistic feature is in L_com alone, in its own identity loss, and in the cascade where it is asked for.
PAPER = {
    "identity": EXTRACTORS | NECK,
    "triplet": EXTRACTORS,
    "divergence": EXTRACTORS | NORM,
    "local": FUSION,
    "global": FUSION,
    "sub": EXTRACTORS,
    "intra": EXTRACTORS,
    "inter": EXTRACTORS,
}
# (routing, inputs) -> term -> groups
TABLE = {
    ("paper", "detached"): PAPER | {"synergy_identity": FUSION | SYNERGY_NECK},
    ("paper", "joint"): PAPER | {"synergy_identity": FUSION | SYNERGY_NECK | EXTRACTORS | NORM},
    ("joint", "detached"): PAPER
    | {
        "synergy_identity": FUSION | SYNERGY_NECK,
        "local": FUSION | VISIBLE,  # the target is the visible parts
        "global": FUSION | INFRARED,  # the target is the infrared centres
    },
    ("joint", "joint"): PAPER
    | {
        "synergy_identity": FUSION | SYNERGY_NECK | EXTRACTORS | NORM,
        "local": FUSION | EXTRACTORS | NORM,
        "global": FUSION | EXTRACTORS | NORM,
    },
}
TARGETS = {"label": EXTRACTORS | NORM | NORMALISED_NECK, "synergy": EXTRACTORS | NECK}


@pytest.mark.parametrize(("routing", "inputs"), list(TABLE))
@pytest.mark.parametrize(
    ("term", "target"), [*((term, "synergy") for term in TERMS), ("target", "label"), ("local", "label")]
)
def test_what_each_term_reaches(routing, inputs, target, term):
    expected = (TABLE[routing, inputs] | {"target": TARGETS[target]})[term]
    changes = {"loss__routing": routing, "synergy__inputs": inputs, "synergy__target": target}
    assert reached(term, **changes) == expected


@pytest.mark.parametrize("routing", ["paper", "joint"])
@pytest.mark.parametrize("teacher", ["mogrifier", "parts_mean", "mutual", "logits_mean"])
def test_every_teacher_leaves_the_soft_target_to_the_extractors_and_their_neck(teacher, routing):
    assert reached("target", synergy__teacher=teacher, loss__routing=routing) == EXTRACTORS | NECK


@pytest.mark.parametrize(
    ("routing", "inputs", "term", "expected"),
    [
        ("paper", "detached", "synergy_identity", SYNERGY_NECK),
        ("paper", "joint", "synergy_identity", SYNERGY_NECK | EXTRACTORS),
        ("paper", "detached", "local", NOTHING),
        ("paper", "joint", "global", NOTHING),
        ("joint", "detached", "local", VISIBLE),
        ("joint", "detached", "global", INFRARED),
        ("joint", "joint", "local", EXTRACTORS),
        ("joint", "joint", "global", EXTRACTORS),
    ],
)
def test_the_teacher_without_an_lstm_has_nothing_but_its_neck_to_learn(routing, inputs, term, expected):
    changes = {"loss__routing": routing, "synergy__inputs": inputs}
    assert reached(term, synergy__teacher="parts_mean", **changes) == expected


@pytest.mark.parametrize(("term", "feature"), [("sub", "pooled"), ("intra", "parts"), ("inter", "pooled")])
@pytest.mark.parametrize(
    ("inputs", "expected"), [("detached", EXTRACTORS | FUSION), ("joint", EXTRACTORS | FUSION | NORM)]
)
def test_the_cascade_updates_everything_where_it_acts_on_the_synergistic_feature_too(
    inputs, expected, feature, term
):
    changes = {
        "loss__cascade__synergistic": True,
        "loss__cascade__feature": feature,
        "loss__cascade__subclass": "modality",  # sub-classes of three images
        "loss__inter__margin": 4.0,  # beyond every distance of unit vectors
        "synergy__inputs": inputs,
    }
    assert reached(term, **changes) == expected


@pytest.mark.parametrize(("feature", "normalised"), [("pooled", False), ("parts", True)])
def test_the_form_of_the_global_loss_does_not_change_its_routing(feature, normalised):
    changes = {"loss__global__feature": feature, "loss__global__normalised": normalised}
    assert reached("global", **changes) == FUSION
    assert reached("global", loss__routing="joint", **changes) == FUSION | INFRARED


@pytest.mark.parametrize("reading", ["interleaved", "two_chains"])
def test_without_a_residual_the_hidden_state_itself_learns(reading):
    changes = {"synergy__residual": "none", "synergy__reading": reading}
    for term in ("local", "global"):
        assert reached(term, **changes) == {"lstm"}
    assert reached("synergy_identity", **changes) == {"lstm"} | SYNERGY_NECK
    assert reached("synergy_identity", synergy__inputs="joint", **changes) == (
        {"lstm"} | SYNERGY_NECK | EXTRACTORS | NORM
    )


@pytest.mark.parametrize("term", ["local", "global"])
def test_batch_statistics_of_a_shared_trunk_tie_the_modalities_together(term):
    own = {"local": VISIBLE, "global": INFRARED}[term] | FUSION
    for trunk, training, expected in (
        ("shared", True, EXTRACTORS | FUSION),
        ("shared", False, own),
        ("separate", True, own),
    ):
        changes = {"model__trunk": trunk, "loss__routing": "joint"}
        assert reached(term, training=training, **changes) == expected


def test_divergence_that_reaches_the_affine_parameters_alone():
    """And with it the branch in the forward direction; with reach `extractors` the stems learn from it too."""
    assert reached("divergence", loss__divergence__reach="affine") == {"instance norm"}
    assert reached("divergence", loss__divergence__reach="extractors") > {"instance norm"}


def test_each_modality_has_its_own_instance_norm():
    for modality in ("visible", "infrared"):
        values = settings(on=("divergence",))
        network = small_network(values)
        visible, infrared, _ = pair_batch()
        features = network(visible, infrared)
        getattr(features, modality).normalised_parts.square().mean().backward()
        for name, norm in (("visible", network.normalise_visible), ("infrared", network.normalise_infrared)):
            reaches = norm.weight.grad is not None and norm.weight.grad.any().item()
            assert reaches is (name == modality)


def test_at_its_start_the_residual_alone_learns_and_the_lstm_waits():
    values = settings(on=("synergy_identity",))
    network = small_network(values)
    assert network.synergy is not None
    assert network.synergy.residual is not None
    assert network.synergy.lstm is not None
    nn.init.zeros_(network.synergy.residual.project.weight)
    visible, infrared, labels = pair_batch()
    Objective(values["loss"], values["synergy"])(network(visible, infrared), labels).total.backward()
    gradient = network.synergy.residual.project.weight.grad
    assert gradient is not None
    assert gradient.any()
    assert not any(p.grad is not None and p.grad.any() for p in network.synergy.lstm.parameters())


def test_the_frozen_biases_of_the_necks_are_no_parameters_to_train():
    network = small_network(settings(synergy__target="label"))
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"neck.norm.bias", "normalised_neck.norm.bias", "synergy.neck.norm.bias"}
