"""Whose photo is it? A rule such as ``{user}/{photo}``, matched against the key relative to the source."""

import re
from dataclasses import dataclass

from pipeline.errors import ConfigurationError

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_PATTERNS = {"user": "(?P<user>[^/]+)", "photo": "(?P<photo>.+)"}


@dataclass(frozen=True)
class UserRule:
    """A compiled rule; `fixed` overrides it and gives every photo to one user."""

    template: str
    pattern: re.Pattern[str]
    fixed: str | None = None

    @classmethod
    def parse(cls, template: str, fixed: str | None = None) -> "UserRule":
        """Compile `template`: `{user}` is one path segment, `{photo}` the rest, all else stands for itself.

        Raises:
            ConfigurationError: a placeholder is missing, doubled or unknown, or `fixed` is no name.
        """
        if fixed is not None and not (fixed.strip() and fixed.isprintable()):
            raise ConfigurationError(f"--user {fixed!r} is no name; give one that can be read.")
        names = _PLACEHOLDER.findall(template)
        wrong = [name for name in names if name not in _PATTERNS]
        if wrong or sorted(names) != ["photo", "user"]:
            raise ConfigurationError(
                f"--user-from {template!r} must hold {{user}} and {{photo}} once each and no other placeholder; "
                "for example '{user}/{photo}' or 'uploads/{user}/{photo}'."
            )
        parts = _PLACEHOLDER.split(template)
        regex = "".join(_PATTERNS[part] if n % 2 else re.escape(part) for n, part in enumerate(parts))
        return cls(template=template, pattern=re.compile(regex, re.DOTALL), fixed=fixed)

    def owner(self, relative_key: str) -> str | None:
        """The user that `relative_key` belongs to; None where the rule does not match."""
        if self.fixed is not None:
            return self.fixed
        match = self.pattern.fullmatch(relative_key)
        return match["user"] if match else None
