"""The front door: the ``pictograph`` command and the embedded stack."""
