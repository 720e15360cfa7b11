"""The whole objective: which features each term gets, its weights, forms and sub-classes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from synthetic_settings import IDENTITIES, TERMS, pair_batch, settings, small_network

from msclnet.features import Features, PairLabels, Stream, Synergy
from msclnet.losses.baseline import identity_loss, weighted_regularised_triplet_loss
from msclnet.losses.cascade import inter_loss, intra_loss, sub_loss
from msclnet.losses.complement import global_loss, local_loss
from msclnet.losses.objective import Objective, share_of_singletons, subclass_numbers
from msclnet.losses.synergy import divergence_loss, soft_target_loss


def random_features(*, branch: bool = True, heads: bool = True, seed: int = 0) -> tuple[Features, PairLabels]:
    """Twelve pairs with free features, so that each term's arguments are known."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    streams = [
        Stream(
            pooled=draw(12, 5),
            logits=draw(12, IDENTITIES),
            parts=draw(12, 3, 5),
            normalised_parts=draw(12, 3, 5),
            isolated_normalised_parts=draw(12, 3, 5),
            normalised_logits=draw(12, IDENTITIES) if heads else None,
        )
        for _ in range(2)
    ]
    parts, pooled = draw(12, 3, 5), draw(12, 5)
    synergy = Synergy(
        parts=parts,
        pooled=pooled,
        logits=draw(12, IDENTITIES),
        isolated_parts=parts.clone(),
        isolated_pooled=pooled.clone(),
    )
    features = Features(
        maps=draw(24, 5, 2, 2), visible=streams[0], infrared=streams[1], synergy=synergy if branch else None
    )
    return features, pair_batch()[2]


def objective(**changes) -> Objective:
    values = settings(**changes)
    return Objective(values["loss"], values["synergy"])


def naive_subclasses(labels: PairLabels, *, kinds: int, by_camera: bool) -> list[tuple]:
    keys: list[tuple] = []
    for kind in range(kinds):
        for identity, visible, infrared in zip(
            labels.identities.tolist(),
            labels.cameras_visible.tolist(),
            labels.cameras_infrared.tolist(),
            strict=True,
        ):
            camera = [(visible,), (infrared,), (visible, infrared)][kind] if by_camera else ()
            keys.append((kind, identity, camera))
    return keys


def numbered(keys: list[tuple]) -> torch.Tensor:
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([order[key] for key in keys])


@pytest.mark.parametrize("terms", [TERMS, ("identity", "triplet"), ("target",), ("sub", "intra", "inter")])
def test_the_total_is_the_weighted_sum_of_what_is_on(terms):
    weights = {term: 0.25 * (place + 1) for place, term in enumerate(TERMS)}
    features, labels = random_features()
    result = objective(on=terms, **{f"loss__{t}__weight": w for t, w in weights.items()})(features, labels)
    assert set(result.values) == set(terms)
    expected = sum(weights[term] * value.item() for term, value in result.values.items())
    assert result.total.item() == pytest.approx(expected, rel=1e-5)


def test_a_term_has_the_same_value_whatever_else_is_on_and_a_weight_of_zero_shows_it():
    features, labels = random_features()
    together = objective(on=TERMS)(features, labels).values
    for term in TERMS:
        assert objective(on=(term,))(features, labels).values[term].item() == together[term].item()
    with_term = objective(on=("identity", "inter"), loss__inter__weight=0.0)(features, labels)
    assert with_term.values["inter"].item() == together["inter"].item() > 0
    assert with_term.total.item() == objective(on=("identity",))(features, labels).total.item()


@pytest.mark.parametrize("routing", ["paper", "joint"])
def test_each_term_gets_the_features_that_the_method_names(routing):
    features, labels = random_features()
    v, r, s = features.visible, features.infrared, features.synergy
    assert s is not None
    both = labels.identities.repeat(2)
    normalised_parts = F.normalize(torch.cat([v.parts.flatten(1), r.parts.flatten(1)]))
    subclasses = numbered(naive_subclasses(labels, kinds=2, by_camera=True))
    expected = {
        "identity": identity_loss(torch.cat([v.logits, r.logits]), both),
        "triplet": weighted_regularised_triplet_loss(torch.cat([v.pooled, r.pooled]), both, form="agw"),
        "synergy_identity": identity_loss(s.logits, labels.identities),
        "divergence": divergence_loss(v.normalised_parts, r.normalised_parts, form="js", temperature=1.0),
        "target": soft_target_loss(v.logits, s.logits, temperature=4.0)
        + soft_target_loss(r.logits, s.logits, temperature=4.0),
        "local": local_loss(s.parts, v.parts, form="cosine"),
        "global": global_loss(F.normalize(s.pooled), F.normalize(r.pooled), labels.identities),
        "sub": sub_loss(normalised_parts, subclasses),
        "intra": intra_loss(normalised_parts, both, subclasses),
        "inter": inter_loss(normalised_parts, both, subclasses, form="hinge", margin=1.0),
    }
    result = objective(on=TERMS, loss__routing=routing)(features, labels).values
    for term in TERMS:
        torch.testing.assert_close(
            result[term], expected[term], msg=lambda text, term=term: f"{term}: {text}"
        )


def test_forms_margins_and_temperatures_arrive():
    features, labels = random_features()
    v, r, s = features.visible, features.infrared, features.synergy
    assert s is not None
    both = labels.identities.repeat(2)
    pooled = torch.cat([v.pooled, r.pooled])
    subclasses = numbered(naive_subclasses(labels, kinds=2, by_camera=True))

    def check(term: str, expected: torch.Tensor, **changes) -> None:
        torch.testing.assert_close(objective(on=(term,), **changes)(features, labels).values[term], expected)

    check(
        "triplet", weighted_regularised_triplet_loss(pooled, both, form="clean"), loss__triplet__form="clean"
    )
    check(
        "divergence",
        divergence_loss(v.normalised_parts, r.normalised_parts, form="kl", temperature=0.3),
        loss__divergence__form="kl",
        loss__divergence__temperature=0.3,
    )
    taught = [soft_target_loss(x.logits, s.logits, temperature=1.7) for x in (v, r)]
    check("target", taught[0] + taught[1], synergy__temperature=1.7)
    check("local", local_loss(s.parts, v.parts, form="printed"), loss__local__form="printed")
    check(
        "global",
        global_loss(s.parts.flatten(1), r.parts.flatten(1), labels.identities),
        loss__global__feature="parts",
        loss__global__normalised=False,
    )
    raw = {"loss__cascade__feature": "pooled", "loss__cascade__normalised": False}
    inter = inter_loss(pooled, both, subclasses, form="negative")
    check("inter", inter, loss__inter__form="negative", **raw)
    wide, narrow = (objective(on=("inter",), loss__inter__margin=m)(features, labels).total for m in (1.9, 1))
    assert wide > narrow


def test_labels_as_targets_are_the_sum_over_both_modalities():
    features, labels = random_features()
    heads = [features.visible.normalised_logits, features.infrared.normalised_logits]
    expected = sum(identity_loss(z, labels.identities).item() for z in heads if z is not None)
    for teacher in ("mogrifier", "mutual"):
        result = objective(on=("target",), synergy__target="label", synergy__teacher=teacher)(
            features, labels
        )
        assert result.total.item() == pytest.approx(1.25 * expected, rel=1e-5)


@pytest.mark.parametrize("teacher", ["mogrifier", "parts_mean", "logits_mean", "mutual"])
def test_who_teaches_whom(teacher):
    features, labels = random_features()
    v, r, s = features.visible.logits, features.infrared.logits, features.synergy
    assert s is not None
    of_visible, of_infrared = {
        "mogrifier": (s.logits, s.logits),
        "parts_mean": (s.logits, s.logits),
        "logits_mean": ((v + r) / 2, (v + r) / 2),
        "mutual": (r, v),
    }[teacher]
    expected = soft_target_loss(v, of_visible, temperature=4.0) + soft_target_loss(
        r, of_infrared, temperature=4.0
    )
    result = objective(on=("target",), synergy__teacher=teacher)(features, labels)
    torch.testing.assert_close(result.values["target"], expected)


@pytest.mark.parametrize(
    ("terms", "changes", "needed"),
    [
        (("identity", "triplet", "divergence"), {}, False),
        (("sub", "intra", "inter"), {}, False),
        (("sub",), {"loss__cascade__synergistic": True}, True),
        (("inter",), {"loss__cascade__synergistic": True}, True),
        (("identity",), {"loss__cascade__synergistic": True}, False),
        (("synergy_identity",), {}, True),
        (("local",), {}, True),
        (("global",), {}, True),
        (("target",), {}, True),
        (("target",), {"synergy__teacher": "parts_mean"}, True),
        (("target",), {"synergy__teacher": "mutual"}, False),
        (("target",), {"synergy__teacher": "logits_mean"}, False),
        (("target",), {"synergy__target": "label"}, False),
    ],
)
def test_the_branch_is_asked_for_exactly_where_a_term_looks_at_it(terms, changes, needed):
    goal = objective(on=terms, **changes)
    assert goal.needs_synergy is needed
    features, labels = random_features(branch=False)
    if needed:
        with pytest.raises(ValueError, match="synergistic feature"):
            goal(features, labels)
    else:
        assert torch.isfinite(goal(features, labels).total)


def test_label_targets_without_their_head_are_refused():
    features, labels = random_features(heads=False)
    with pytest.raises(ValueError, match=r"synergy\.target"):
        objective(on=("target",), synergy__target="label")(features, labels)


def same_grouping(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first[:, None] == first[None, :], second[:, None] == second[None, :])


@pytest.mark.parametrize("kinds", [2, 3])
@pytest.mark.parametrize("by_camera", [True, False])
def test_subclasses_equal_a_dictionary_of_tuples(kinds, by_camera):
    generator = np.random.default_rng(0)
    for _ in range(5):
        identities, *cameras = (torch.tensor(generator.integers(low, 6, 20)) for low in (0, 1, 1))
        labels = PairLabels(identities, cameras[0], cameras[1])
        keys = naive_subclasses(labels, kinds=kinds, by_camera=by_camera)
        numbers = subclass_numbers(labels, kinds=kinds, by_camera=by_camera)
        assert same_grouping(numbers, numbered(keys))
        assert numbers.tolist() == [keys.index(key) for key in keys]
        alone = sum(keys.count(key) == 1 for key in set(keys)) / len(set(keys))
        assert share_of_singletons(numbers) == pytest.approx(alone)


@pytest.mark.parametrize("subclass", ["camera", "modality"])
@pytest.mark.parametrize("synergistic", [True, False])
def test_the_cascade_sees_the_subclasses_of_its_setting(subclass, synergistic):
    features, labels = random_features()
    v, r, s = features.visible, features.infrared, features.synergy
    assert s is not None
    sources = [v.pooled, r.pooled, s.pooled][: 3 if synergistic else 2]
    keys = naive_subclasses(labels, kinds=len(sources), by_camera=subclass == "camera")
    rows = F.normalize(torch.cat(sources)).numpy()
    expected = 0.0
    for row, key in zip(rows, keys, strict=True):
        centre = np.mean([other for other, k in zip(rows, keys, strict=True) if k == key], axis=0)
        expected += ((row - centre) ** 2).sum() / len(rows)
    result = objective(
        on=("sub",),
        loss__cascade__feature="pooled",
        loss__cascade__subclass=subclass,
        loss__cascade__synergistic=synergistic,
    )(features, labels)
    assert result.values["sub"].item() == pytest.approx(expected, rel=1e-5)


def test_the_whole_objective_of_a_network_is_finite_and_lets_every_term_fall():
    """Ten steps on one batch: the sum of all default terms falls and no term leaves its range."""
    values = settings(on=TERMS)
    network = small_network(values)
    goal = Objective(values["loss"], values["synergy"])
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.02, momentum=0.9)
    visible, infrared, labels = pair_batch()
    totals = []
    for _ in range(10):
        terms = goal(network(visible, infrared), labels)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        totals.append(terms.total.item())
        values_now = {name: value.item() for name, value in terms.values.items()}
        assert -np.log(2) <= values_now["divergence"] <= 0
        assert all(value >= 0 for name, value in values_now.items() if name != "divergence")
        assert values_now["inter"] <= 1
    assert np.isfinite(totals).all()
    assert totals[-1] < totals[0]
