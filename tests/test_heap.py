"""What is free goes back to the system before it gets much, and not at every step."""

from __future__ import annotations

import pytest

from spacy_bert.heap import MB, STATM, Heap


class Process:
    """Holds `base`, and more with every step, until it is trimmed."""

    def __init__(self, base: int, growth: int) -> None:
        self.base, self.growth = base, growth
        self.resident = base
        self.trims = 0

    def trim(self) -> None:
        self.trims += 1
        self.resident = self.base // 2  # below what a step needs

    def step(self) -> None:
        self.resident = max(self.resident, self.base) + self.growth


@pytest.mark.parametrize("base", [100 * MB, 4000 * MB])
def test_growth_is_bounded(base: int) -> None:
    process = Process(base, 10 * MB)
    heap = Heap(lambda: process.resident, process.trim)
    peak = 0
    for _ in range(500):
        heap.tidy()
        process.step()
        peak = max(peak, process.resident)
    allowed = max(Heap.LEAST, int(Heap.SHARE * base))
    assert peak <= base + allowed + 4 * process.growth
    # Not more often than the growth asks for.
    assert 0 < process.trims <= 500 * process.growth / allowed + 1


def test_what_does_not_grow_is_let_be() -> None:
    process = Process(1000 * MB, 0)
    heap = Heap(lambda: process.resident, process.trim)
    for _ in range(100):
        heap.tidy()
        process.step()
    assert process.trims == 0


@pytest.mark.skipif(not STATM.is_file(), reason="resident memory is read off Linux's /proc")
def test_holes_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    heap = Heap()
    if heap._resident is None or heap._trim is None:
        pytest.skip("this C library cannot give memory back")
    monkeypatch.setattr(Heap, "LEAST", 50 * MB)
    monkeypatch.setattr(Heap, "SHARE", 0.0)
    heap._trim()
    before = heap._resident()
    heap.tidy()
    # Blocks below the size that is mapped by itself; one in a hundred stays, so that the heap
    # cannot shrink from its top.
    blocks = [bytearray(b"x" * 100_000) for _ in range(3000)]
    kept = blocks[::100]
    del blocks
    assert heap._resident() > before + 200 * MB
    heap.tidy()
    assert heap._resident() < before + 50 * MB
    assert len(kept) == 30
