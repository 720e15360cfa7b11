from msclnet.tracking.naming import OF_THE_MACHINE, PARAM_LENGTH, fit, flatten, key, metric


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


def test_speed_and_memory_are_system_metrics_and_all_else_is_not() -> None:
    assert {metric(name) for name in OF_THE_MACHINE} == {
        "system/images_per_second",
        "system/share_waiting_for_input",
        "system/gpu_memory_gib",
        "system/seconds_left",
    }
    assert metric("cmc@1 (all)") == "cmc_1 _all_"
