"""Two commands at once: each has its folder, or is told who holds it."""

import os
import re
import signal
from collections import Counter

import pytest

from commands.same_run import Forked, assert_same
from switch_np.commands import train
from switch_np.operations import files
from switch_np.training import trainer

pytestmark = pytest.mark.usefixtures("no_pictures")
HELD = "must not be in use, got one held by process {} on "


def test_a_folder_that_is_held_is_refused_by_every_command_that_writes(runs, call, tiny):
    for folder, words in (("runs/new", [*tiny, "--name", "new"]),
                          ("runs/a", ["train", "--resume", "--name", "a"]),
                          ("runs/tables/noise", ["table", "noise"])):
        with files.claimed(runs.parent / folder):
            err = call(*words, status=2)[1]
        assert f"{folder} " + HELD.format(os.getpid()) in err and err.count("\n") == 1
    call("train", "--resume", "--name", "a")


def test_a_run_holds_its_folder_to_the_end_and_a_crash_lets_go(runs, call, tiny, monkeypatch):
    (runs / "a/checkpoint.npz.17.new").touch()              # of a process that was killed
    report, told = train._report, []

    def meanwhile(*args):
        told.append(call("train", "--resume", "--name", "a", status=2)[1])
        report(*args)

    monkeypatch.setattr(train, "_report", meanwhile)
    call("train", "--resume", "--name", "a")
    assert HELD.format(os.getpid()) in told[0]
    assert not list(runs.glob("a/*.new"))
    child = os.fork()
    if not child:
        with files.claimed(runs / "a"):
            os._exit(0)
    os.waitpid(child, 0)
    monkeypatch.setattr(train, "_report", report)
    call("train", "--resume", "--name", "a")


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["same name", "no name", "resume"])
def test_twenty_rounds_of_two_lose_and_mix_no_run(call, tiny, kind, monkeypatch):
    seen, words, advance = Counter(), [*tiny, "--steps", "12"], trainer.advance

    def interrupted(state, corpus):
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(state, corpus)

    for seed in "01":
        call(*words, "--seed", seed, "--name", f"whole{seed}")
    for n in range(20):
        before = set(os.listdir("runs"))
        if kind == "resume":
            with monkeypatch.context() as patch:
                patch.setattr(trainer, "advance", interrupted)
                call(*words, "--name", f"round{n}")
            extra = [["train", "--resume", "--name", f"round{n}"]] * 2
        else:
            name = ["--name", f"round{n}"] if kind == "same name" else []
            extra = [[*words, "--seed", seed, *name] for seed in "01"]
        pair = [Forked(*each) for each in extra]
        ends = [each.end() for each in pair]
        won = [i for i, (_, status) in enumerate(ends) if status == 0]
        seen[len(won)] += 1
        made = set(os.listdir("runs")) - before
        assert won and len(made) == (1 if kind != "no name" else 2)
        for i, (text, status) in enumerate(ends):
            if status:
                other = pair[1 - i].pid
                assert status == 2 and text.count("\n") == 1
                assert HELD.format(other) in text or "which holds a run" in text, text
                seen["held" if HELD.format(other) in text else "already done"] += 1
            elif kind != "resume":
                name = re.search(r"runs/([\w-]+)/ holds", text)[1]
                assert_same(name, f"whole{i}")
        if kind == "resume":
            assert_same(f"round{n}", "whole0")
    print(f"\n{kind}: {dict(seen)}")
