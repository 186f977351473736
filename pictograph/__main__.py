"""``python -m pictograph`` is the ``pictograph`` command."""

from pictograph.cli import main

main()
