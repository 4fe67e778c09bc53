"""The exceptions a user is meant to read."""


class Das3rError(Exception):
    """Something the user can put right: bad input, a broken file, a full disk.

    The message is one paragraph that names the file or value, says what is wrong and what to do. Commands print it
    without a traceback and leave with a non-zero exit code.
    """


class Das3rExit(Das3rError, SystemExit):
    """A :class:`Das3rError` raised inside a nerfstudio command, which has no handler for it.

    Being a SystemExit too, it makes Python print the paragraph alone to stderr and leave with exit code 1, whatever
    command (ns-train, ns-viewer, ns-export, ...) and whatever method is running.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = f"\nerror: {message}"
