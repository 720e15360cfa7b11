"""The presets for the real data sets follow the recipes that they are named after."""

from pathlib import Path

import pytest

from msclnet.training.optimizer import Schedule
from pipelines.stages.config import Params
from pipelines.stages.presets import preset_params

ROOT = Path(__file__).resolve().parents[2]
PAPER = ("sysu-mm01", "regdb", "llcm")
AGW = ("agw-sysu-mm01", "agw-star-sysu-mm01")


def preset(name: str) -> Params:
    return preset_params(name, ROOT)


def paper_rate(epoch: int) -> float:
    """Section 4.2 of the paper, epochs from 1."""
    return 0.1 if epoch <= 20 else 0.05 if epoch <= 50 else 0.01 if epoch <= 100 else 0.001


def agw_rate(epoch: int) -> float:
    """AGW's published training, epochs from 1."""
    return 0.1 if epoch <= 20 else 0.01 if epoch <= 50 else 0.001


@pytest.mark.parametrize("name", PAPER + AGW)
def test_learning_rate_of_every_epoch_after_the_warm_up(name: str) -> None:
    train = preset(name).train
    epochs, expected = (200, paper_rate) if name in PAPER else (81, agw_rate)
    assert train.epochs == epochs
    points = [(point.from_epoch, point.rate) for point in train.optimizer.schedule]
    schedule = Schedule(points, warmup_epochs=train.optimizer.warmup_epochs, steps_per_epoch=1)
    after = range(int(train.optimizer.warmup_epochs) + 1, epochs + 1)
    assert [schedule.rate(epoch - 1) for epoch in after] == [expected(epoch) for epoch in after]
    assert schedule.rate(0) == pytest.approx(0.01)  # a straight line over ten epochs


@pytest.mark.parametrize("name", PAPER + AGW)
def test_network_batch_and_optimiser(name: str) -> None:
    params = preset(name)
    model, train = params.model, params.train
    assert (model.backbone, model.weights, model.last_stride) == ("resnet50", "imagenet", 1)
    assert (model.non_local_inner, model.gem_p, model.trunk) == (1, 3.0, "shared")
    assert (params.preprocess.height, params.preprocess.width) == (288, 144)
    assert (train.batch.identities, train.batch.images, train.steps_per_epoch) == (8, 4, 0)
    sampling = ("random", "step", "auto") if name in PAPER else ("replacement", "epoch", "fp32")
    assert (train.batch.sampling, train.optimizer.warmup, train.precision) == sampling
    optimizer = train.optimizer
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, True, 5e-4)
    assert optimizer.pretrained_factor == 0.1
    assert (params.augment.padding, params.augment.flip) == (10, 0.5)


@pytest.mark.parametrize(
    ("name", "probability", "area"),
    [
        *((name, 0.8, [0.2, 0.8]) for name in PAPER),
        ("agw-star-sysu-mm01", 0.5, [0.02, 0.4]),
        ("agw-sysu-mm01", 0.0, [0.02, 0.4]),
    ],
)
def test_erasing(name: str, probability: float, area: list[float]) -> None:
    erasing = preset(name).augment.erasing
    assert (erasing.probability, list(erasing.area)) == (probability, area)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_weights(name: str) -> None:
    loss = preset(name).loss
    weights = (loss.divergence.weight, loss.target.weight, loss.local.weight, loss.global_.weight)
    assert weights == (0.5, 1.25, 0.8, 1.5)
    assert (loss.sub.weight, loss.intra.weight, loss.inter.weight) == (1.0, 1.0, 1.0)
    assert all(
        values["on"]
        for values in preset(name).section("loss").values()
        if isinstance(values, dict) and "on" in values
    )
    assert loss.cascade.subclass == ("modality" if name == "regdb" else "camera")


@pytest.mark.parametrize("name", AGW)
def test_agw_is_identity_and_its_own_triplet_loss_alone(name: str) -> None:
    loss = preset(name).section("loss")
    on = {term for term, values in loss.items() if isinstance(values, dict) and values.get("on")}
    assert on == {"identity", "triplet"}
    assert loss["triplet"]["form"] == "agw"


@pytest.mark.parametrize("name", PAPER + AGW)
def test_nothing_is_chosen_on_the_test_identities_and_nothing_is_polished(name: str) -> None:
    params = preset(name)
    assert (params.preprocess.validation, params.train.keep) == ("none", "last")
    assert not params.embed.flip
    assert not params.evaluate.re_ranking.on
    assert (params.evaluate.trials, params.evaluate.samplers) == (10, ["agw"])
    assert params.download.differences == "error"
