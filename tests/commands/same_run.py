"""Two runs with the same numbers, and commands in a process of their own."""

import csv
import os
import sys

import numpy as np

from switch_np.__main__ import main


def rows(name):
    """Return metrics.csv without its column of seconds."""
    with open(f"runs/{name}/metrics.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(file)]


def assert_same(one, other):
    """Compare the numbers of two runs bit for bit."""
    assert rows(one) == rows(other)
    with np.load(f"runs/{one}/checkpoint.npz") as a, np.load(f"runs/{other}/checkpoint.npz") as b:
        assert a.files == b.files
        for name in set(a.files) - {"state"}:
            np.testing.assert_array_equal(a[name], b[name], name)


class Forked:
    """A command in a fork of this process, which spares it the imports."""

    def __init__(self, *words):
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for stream in (1, 2):
                os.dup2(writer, stream)
            sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
            status = 1
            try:
                status = main(words)
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(writer)
        self.output = open(reader)

    def end(self):
        """Return what it wrote and its exit status, once it has ended."""
        with self.output:
            text = self.output.read()
        return text, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
