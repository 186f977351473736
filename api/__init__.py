"""The HTTP interface and the pages. Never imports torch."""
