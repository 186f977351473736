"""Which photos of a source a job is about: `Rules`, from what an operator wrote, to be kept with the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What of a source is chosen. Empty: everything. An exclusion wins over an inclusion."""

    include_prefixes: tuple[str, ...] = ()  # of keys; none: every key
    exclude_prefixes: tuple[str, ...] = ()
    include_users: tuple[str, ...] = ()  # none: every user
    exclude_users: tuple[str, ...] = ()
    need_consent: bool = False  # only photos whose manifest line, or else whose user in the ledger, says yes

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Rules":
        """From what JSON made of them."""
        values: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in facts.items()}
        return cls(**values)
