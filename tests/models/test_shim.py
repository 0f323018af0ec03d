"""The shim: a torch module as thinc sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from spacy_bert.models.shim import TorchShim

FORK = """
import os, threading, time
from spacy_bert.models.shim import LOADING

held = threading.Event()

def load():
    with LOADING:
        held.set()
        time.sleep(0.5)

thread = threading.Thread(target=load)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(0 if LOADING.acquire(timeout=5) else 1)
thread.join()
assert LOADING.acquire(timeout=5)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes do not fork on Windows")
def test_a_process_forked_while_another_thread_loads_can_load() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_modules_are_in_fp32() -> None:
    shim = TorchShim(lambda config: nn.Linear(config["width"], 2), {"width": 3})
    shim.place(nn.Linear(3, 2, dtype=torch.float64), {"width": 3})
    assert {parameter.dtype for parameter in shim.module.parameters()} == {torch.float32}
