from msclnet.tracking.naming import PARAM_LENGTH, fit, flatten, key


def test_flatten_nested_params() -> None:
    params = {
        "train": {"epochs": 3, "lr": 1e-3, "milestones": [40, 70], "loss": {"weight": None, "on": True}},
        "empty": {},
        "address": "http://me:secret@host",
    }
    assert flatten(params) == {
        "train.epochs": "3",
        "train.lr": "0.001",
        "train.milestones": "[40, 70]",
        "train.loss.weight": "None",
        "train.loss.on": "True",
        "empty": "{}",
        "address": "http://***@host",
    }


def test_fit_keeps_differences_behind_the_cut() -> None:
    common = "x" * PARAM_LENGTH
    one, other = fit(common + "1", PARAM_LENGTH), fit(common + "2", PARAM_LENGTH)
    assert len(one) == len(other) == PARAM_LENGTH
    assert one != other
    assert one == fit(common + "1", PARAM_LENGTH)
    assert fit(common, PARAM_LENGTH) == common


def test_keys_hold_only_what_mlflow_accepts() -> None:
    assert key("cmc@1 (all)") == "cmc_1 _all_"
    assert key("grad/id-loss.visible: x") == "grad/id-loss.visible: x"
