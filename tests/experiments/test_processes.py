"""Commands in processes of their own."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest

from spacy_bert.experiments.processes import Processes

SLOW = ["timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)"]


def test_several_at_a_time_write_to_their_logs(tmp_path: Path) -> None:
    with Processes(2) as processes:
        logs = [tmp_path / "logs" / f"{name}.log" for name in "ab"]
        processes.map(partial(processes.run, ["platform"], log) for log in logs)
    assert all(log.read_text().strip() for log in logs)


def test_one_at_a_time_is_seen_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Processes(1) as processes:
        processes.run(["platform"], tmp_path / "log")
    assert capfd.readouterr().out.strip()
    assert not (tmp_path / "log").exists()


def test_an_error_names_the_log_and_ends_the_others(tmp_path: Path) -> None:
    begun, before = time.monotonic(), signal.getsignal(signal.SIGTERM)
    never = tmp_path / "never.log"
    with pytest.raises(ChildProcessError, match=r"no_such_module` failed \(1\), see .*bad.log"):
        run_all(tmp_path, never)
    assert time.monotonic() - begun < 30
    assert not never.exists() or not never.read_bytes()
    assert signal.getsignal(signal.SIGTERM) is before


def run_all(folder: Path, never: Path) -> None:
    with Processes(2) as processes:
        works = [
            partial(processes.run, SLOW, folder / "slow.log"),
            partial(processes.run, ["no_such_module"], folder / "bad.log"),
        ]
        works += [partial(processes.run, SLOW, never)] * 3
        processes.map(works)


def test_there_must_be_a_job() -> None:
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        Processes(0)


def test_what_is_not_for_people_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Processes(1) as processes:
        processes.run(["platform"], tmp_path / "log", shown=False)
    assert not capfd.readouterr().out
    assert (tmp_path / "log").read_text().strip()


def test_nothing_is_begun_after_a_failure(tmp_path: Path) -> None:
    begun: list[str] = []

    def work(name: str, module: str) -> None:
        begun.append(name)
        processes.run([module], tmp_path / name, shown=False)

    with pytest.raises(ChildProcessError, match="no_such_module"), Processes(1) as processes:
        processes.map([partial(work, "bad", "no_such_module"), partial(work, "next", "platform")])
    assert begun == ["bad"]


def test_who_stops_it_is_told_how_to_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Processes(1):
        raise KeyboardInterrupt
    assert capfd.readouterr().err == "stopped; the same command goes on from what is done\n"
