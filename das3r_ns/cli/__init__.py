"""The ``das3r`` command: one module per subcommand."""
