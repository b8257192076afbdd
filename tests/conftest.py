"""One thread for every library that brings its own, and signals that reach what a test starts.

Spinning threads collapse as soon as another process is busy. A signal that is ignored, as SIGHUP under ``nohup`` and
SIGINT in a background job, is inherited as ignored by every program that a test starts; one that is handled is not, so
the ignored ones get a handler that does nothing.
"""

import os
import signal

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def hear_ignored_signals() -> None:
    """Leave this process as deaf as it was, and let the programs that it starts hear."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


hear_ignored_signals()
