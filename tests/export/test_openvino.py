"""OpenVINO's models, in memory and as files, against the network that they were made from."""

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import IMAGES, STREAMS, assert_same, expected, graph

from msclnet.errors import UserError
from msclnet.export import openvino as openvino_runtime
from msclnet.export.openvino import (
    check_openvino,
    openvino_function,
    openvino_model,
    save_openvino,
    signal_stack_kept,
)
from msclnet.export.stream import optional

OPENVINO = optional("openvino", purpose="the tests")  # never imported by itself: see the last test
with signal_stack_kept():
    HAS_BF16 = "BF16" in OPENVINO.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(("name", "infrared"), STREAMS)
def test_any_number_of_images_gives_the_networks_features(name: str, infrared: bool) -> None:
    run = openvino_function(openvino_model(graph(name, infrared)), precision="fp32", threads=1)
    whole = expected(name, infrared)
    for count in (1, 2, 7, 3):
        assert_same(run(IMAGES[:count]), (whole[0][:count], whole[1][:count]))


def test_features_of_one_call_stay_when_the_next_one_comes() -> None:
    run = openvino_function(openvino_model(graph("slim", False)), precision="fp32", threads=1)
    first = run(IMAGES[:3])
    run(IMAGES[3:6])
    assert_same(first, tuple(part[:3] for part in expected("slim", False)))  # pyright: ignore[reportArgumentType]


def test_a_file_gives_what_the_graph_gives(tmp_path: Path) -> None:
    path = tmp_path / "infrared.xml"
    save_openvino(openvino_model(graph("separate", True)), path)
    assert {file.name for file in tmp_path.iterdir()} == {"infrared.xml", "infrared.bin"}
    run = openvino_function(openvino_model(path), precision="fp32", threads=1)
    assert_same(run(IMAGES[::2]), expected("separate", True, np.ascontiguousarray(IMAGES[::2])))


@pytest.mark.parametrize(("name", "infrared"), STREAMS)
def test_low_precision_is_near_or_refused(name: str, infrared: bool) -> None:
    model = openvino_model(graph(name, infrared))
    if not HAS_BF16:
        with pytest.raises(UserError, match=r"embed\.precision.*no bf16 instructions"):
            openvino_function(model, precision="bf16", threads=1)
        return
    found = openvino_function(model, precision="bf16", threads=1)(IMAGES)
    for ours, theirs in zip(found, expected(name, infrared), strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() > 1e-4 * np.abs(theirs).max()  # it is bf16 indeed
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * float(np.abs(theirs).max()))


def test_a_processor_without_bf16_is_no_silent_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldProcessor:
        def Core(self) -> Any:  # noqa: N802
            return self

        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_runtime, "optional", lambda name, purpose: OldProcessor())
    check_openvino("fp32")
    with pytest.raises(
        UserError, match=r"embed\.precision.*set embed\.precision to fp32, or embed\.backend to torch"
    ):
        check_openvino("bf16")


def test_files_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    model = openvino_model(graph("slim", False))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written by OpenVINO"):
        save_openvino(model, tmp_path / "file" / "visible.xml")
    save_openvino(model, tmp_path / "visible.xml")
    (tmp_path / "visible.xml").write_text("<no model>")
    with pytest.raises(UserError, match=r"visible\.xml cannot be read by OpenVINO"):
        openvino_model(tmp_path / "visible.xml")


def signal_stack_size() -> int:
    """Bytes of the stack set apart for this thread's signal handlers; 0 without one (SS_DISABLE, 2)."""
    stack = (ctypes.c_size_t * 3)()  # stack_t on 64 bits: address, flags with padding, size
    ctypes.CDLL(None).sigaltstack(None, stack)
    return 0 if stack[1] & 2 else stack[2]


def test_a_threads_signals_keep_their_stack() -> None:
    """On OpenVINO's own, which is small, a signal's frame may not fit, and the kernel would end the process."""

    def sizes() -> list[int]:
        found = [signal_stack_size()]
        with suppress(UserError):  # asked all the same on a processor without bf16
            check_openvino("bf16")
        found.append(signal_stack_size())
        for _ in range(2):
            openvino_function(openvino_model(graph("slim", True)), precision="fp32", threads=1)(IMAGES[:1])
            found.append(signal_stack_size())
        return found

    with ThreadPoolExecutor(1) as new_thread:
        assert new_thread.submit(sizes).result() == [0, 0, 0, 0]
    before, *after = sizes()  # of the main thread, which has one of pytest's fault handler
    assert after == [before] * 3


def test_importing_it_sends_no_statistics() -> None:
    """In a fresh process whose home folder would get the file that identifies a user."""
    program = (
        "from msclnet.export.stream import optional; import sys; optional('openvino', purpose='a test');"
        "from openvino.tools import ovc; print(type(ovc.telemetry).__module__, 'requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]
