"""Which photos of a source a job is about: `Rules`, from what an operator wrote, to be kept with the job.

They say what a job meets, and nothing of what is stored: a photo that was tagged before, and that a rule leaves out
now, keeps its tags.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.records import Code, Page, PhotoRef, Refusal
from pipeline.sources.source import address


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

    def choose(self, key: str, user: str) -> bool:
        """Whether the rules for keys and users let this photo in."""
        return (
            (not self.include_prefixes or key.startswith(self.include_prefixes))
            and not key.startswith(self.exclude_prefixes)
            and (not self.include_users or user in self.include_users)
            and user not in self.exclude_users
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What the ledger knows of a user, as far as a rule asks."""

    consent: bool | None
    erased: bool


def apply_rules(page: Page, rules: Rules, standings: Mapping[str, Standing]) -> Page:
    """The page without what the rules leave out, which is refused instead: it is there, and so not missing.

    Consent is what the line says, else what the ledger knows of the owner. Whose user is erased stays in the page, to
    be counted as that: of such photos not even a refusal keeps the address. What is stored of a photo that a rule
    leaves out now stays as it is.
    """
    met = [_judged(ref, rules, standings.get(ref.user)) for ref in page.refs] if rules != Rules() else list(page.refs)
    return replace(
        page,
        refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
        refusals=(*page.refusals, *(entry for entry in met if isinstance(entry, Refusal))),
    )


def _judged(ref: PhotoRef, rules: Rules, standing: Standing | None) -> PhotoRef | Refusal:
    if standing is not None and standing.erased:
        return ref
    if not rules.choose(ref.key, ref.user):
        return _left_out(ref, Code.NOT_CHOSEN, "is left out by a rule of the job.")
    known = standing.consent if standing is not None else None
    if rules.need_consent and not (known if ref.consent is None else ref.consent):
        return _left_out(ref, Code.NO_CONSENT, "belongs to somebody who has not consented.")
    return ref


def _left_out(ref: PhotoRef, code: Code, reason: str) -> Refusal:
    name = ref.key if ref.line is None else f"line {ref.line}"  # by its key a listing knows that it is not missing
    uri = address(ref.bucket, ref.key)
    return Refusal(name=name, code=code, reason=reason, line=ref.line, uri=uri, version_id=ref.version_id)
