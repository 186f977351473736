"""The fixtures of `browsing`, where pytest looks for them."""

from browsing import chromium, flaws, open_page, site

__all__ = ["chromium", "flaws", "open_page", "site"]
