"""``python -m das3r_ns``: the command ``das3r``, where its script is not on the path."""

from das3r_ns.cli.main import entrypoint

if __name__ == "__main__":
    entrypoint()
