"""``python -m pipeline`` is the ``tokentide`` command."""

from pipeline.cli.main import main

main()
