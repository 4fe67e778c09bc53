"""Runs a command that ends when its parent does: ``python leash.py PARENT COMMAND...``

A worker that is killed cannot end what it has started. So the kernel is asked to (Linux); elsewhere the command goes on
to its end, into a temporary folder that nobody will rename. A file of its own, run by its path: nothing is imported.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it was quicker
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
