"""Signals: the first ends a command soon, wherever it comes, and the run goes on bit for bit."""

import os
import random
import re
import signal
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest

from commands.same_run import Forked, assert_same
from switch_np import model, plots
from switch_np.commands import generated_text, progress, terminal, train
from switch_np.training import checkpoint, trainer

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PARTS = ["evaluate", "_save", "draw", "example", "baseline", "advance"]


@pytest.fixture(autouse=True)
def heard():
    """Signals as a terminal starts programs with: nohup, say, has the suite ignore one."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_waits_for_what_must_be_whole_and_a_second_for_nothing():
    before = [signal.getsignal(number) for number in NUMBERS]
    for number in NUMBERS:
        with pytest.raises(terminal.Stopped), terminal.signals() as signals:
            with signals.whole():
                os.kill(os.getpid(), number)
                assert signals.asked()
                os.kill(os.getpid(), signal.SIGHUP)      # a closing terminal sends more than one
            raise AssertionError
        with pytest.raises(KeyboardInterrupt) as raised, terminal.signals() as signals:
            with signals.whole():
                os.kill(os.getpid(), number)
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError
        assert raised.type is KeyboardInterrupt
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_nohup_holds():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminal.signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_c_code_turned_into_another_error_stops_all_the_same(call, tiny, monkeypatch):
    def draw(*args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None

    def fail(*args):
        raise ValueError("a mistake in a picture")

    words = [*tiny, "--steps", "2"]
    monkeypatch.setattr(progress, "draw", draw)
    assert "and saved; continue with" in call(*words, "--name", "stopped")[0]
    monkeypatch.setattr(progress, "draw", fail)
    assert "a mistake in a picture" in call(*words, "--name", "wrong", status=2)[1]


PLACES = [(trainer, "advance"), (model, "loss"), (checkpoint.np, "savez"), (os, "fsync"),
          (plots, "text_by_expert"), (generated_text, "generate")]


def test_a_signal_is_seen_in_every_part_of_a_run(call, tiny, monkeypatch):
    words, draw = [*tiny, "--steps", "4"], progress.draw
    monkeypatch.setattr(train, "SAVE_SECONDS", -1)          # saves after every step
    monkeypatch.setattr(progress, "draw", lambda *_: None)
    call(*words, "--name", "whole")
    for (place, name), number in zip(PLACES, NUMBERS * 2):
        last, work, seen = place in (plots, generated_text), getattr(place, name), []

        def killed(*args, work=work, seen=seen, at=1 if last else 2, number=number, **options):
            seen.append(1)
            if len(seen) == at:
                os.kill(os.getpid(), number)
            return work(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(place, name, killed)
            if place is plots:
                patch.setattr(progress, "draw", draw)
            out, _ = call(*words, "--name", name)
        assert re.search(r"stopped after step [124] and saved; continue with: ", out), name
        assert "holds checkpoint.npz" not in out
        call("train", "--resume", "--name", name)
        assert_same(name, "whole")


@pytest.mark.usefixtures("no_pictures")
def test_a_second_signal_leaves_the_last_checkpoint_whole(call, tiny, monkeypatch):
    words, savez, saves = [*tiny, "--steps", "6"], checkpoint.np.savez, []
    call(*words, "--name", "whole")

    def killed(*args, **options):
        savez(*args, **options)
        saves.append(1)
        if len(saves) >= 3:                # while it saves, and while it saves because of that
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train, "SAVE_SECONDS", -1)
        patch.setattr(checkpoint.np, "savez", killed)
        call(*words, "--name", "stopped", status=130)
    assert len(saves) == 4 and not [name for name in os.listdir("runs/stopped") if "new" in name]
    call("train", "--resume", "--name", "stopped")
    assert_same("stopped", "whole")


@pytest.mark.thorough
@pytest.mark.parametrize("number", NUMBERS)
def test_thirty_random_moments(call, tiny, monkeypatch, number):
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.02)
    monkeypatch.setattr(train, "EVALUATIONS", 10)
    receive, rng, waited = terminal.Signals.receive, random.Random(int(number)), []

    def noted(self, number, frame):
        with open("where", "a") as file:
            names = [each.name for each in traceback.extract_stack(frame)]
            file.write(next((name for name in PARTS if name in names), "between") + "\n")
        receive(self, number, frame)

    monkeypatch.setattr(terminal.Signals, "receive", noted)
    words = [*tiny, "--steps", "20"]
    call(*words, "--name", "whole")
    begun = time.perf_counter()
    Forked(*words, "--name", "again").end()
    lasts = time.perf_counter() - begun
    for n in range(30):
        child = Forked(*words, "--name", f"n{n}")
        first = [child.output.readline() for _ in range(2)]
        assert first[1].startswith("steps 1 to 20"), first
        time.sleep(lasts * rng.random() ** 3)           # most of it are the pictures
        os.kill(child.pid, number)
        begun = time.perf_counter()
        text, status = child.end()
        waited.append(time.perf_counter() - begun)
        assert status == 0, text
        assert "and saved; continue with" in text or "holds checkpoint" in text, text
        with monkeypatch.context() as patch:
            patch.setattr(train, "_report", lambda *_: None)
            call("train", "--resume", "--name", f"n{n}")
        assert_same(f"n{n}", "whole")
    where = Counter(Path("where").read_text().split())
    print(f"\n{number.name}: ended after at most {max(waited):.2f} s; came in {dict(where)}, "
          f"{30 - where.total()} after the end")
