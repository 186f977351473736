"""To say something of a category of a photo, and to take it back."""

from dataclasses import dataclass

from sqlalchemy import Connection

from api.errors import not_found
from api.views.naming import Ground, Verdict, ground, named_verdicts, node_of, refuse_hidden
from api.views.photos import no_photo
from pipeline.records import SEEN
from pipeline.store import photos as photo_store
from pipeline.store import verdicts as store
from pipeline.store.evidence import photo_evidence
from pipeline.store.queries import ActiveModel
from pipeline.store.revisions import touch_users
from pipeline.store.verdicts import StoredVerdict
from pipeline.verdicts import Kind, Word, add, coarse
from taxonomy.policy import Policy, coarsen_photo


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """What people say of a photo."""

    photo_id: int
    verdicts: tuple[Verdict, ...]  # oldest first; none contradicts another
    model: ActiveModel
    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What somebody said, and what that changed."""

    verdict: Verdict
    replaced: tuple[Verdict, ...]  # what it contradicts, or was said of the same category: it holds no more
    now: Verdicts


def of_photo(connection: Connection, photo_id: int) -> Verdicts:
    """What holds of a photo as it is now; a Problem where there is no such photo."""
    on = ground(connection)
    if photo_store.photo_stamp(connection, photo_id) is None:
        raise no_photo(photo_id)
    return _now(connection, on, photo_id)


def give(connection: Connection, photo_id: int, wnid: str, kind: Kind, by: str) -> Given:
    """Say something of a category of a photo: the newest word holds, and what it contradicts is taken back.

    Categories with the same labels are one: the one that is shown stands for all.

    Raises:
        Problem: there is no such photo or category, or the policy hides the category.
    """
    on = ground(connection)
    node = int(on.taxonomy.shown_as[node_of(wnid, on)])
    refuse_hidden(node, on)
    user_id = store.hold(connection, photo_id)
    row = photo_store.photo_row(connection, on.model.model_id, photo_id)
    if user_id is None or row is None:
        raise no_photo(photo_id)
    headline = None
    if row.outcome in SEEN:
        found = photo_evidence(connection, on.model.model_id, photo_id).found
        headline = coarsen_photo(found, on.policy, on.taxonomy).headline
    word = Word(node=node, kind=kind, headline=headline)
    before = store.of_photo(connection, on.model.model_id, photo_id)
    kept = add([each.word for each in before], word, on.taxonomy)[:-1]
    replaced = [each for each in before if each.word not in kept]
    store.put(
        connection,
        on.model.model_id,
        photo_id,
        word,
        decision_rev=row.decision_rev or on.model.decision_revision,
        by=by,
        instead_of=[each.word.node for each in replaced],
    )
    touch_users(connection, [user_id])
    now = _now(connection, on, photo_id)
    verdict = next(each for each in now.verdicts if each.wnid == on.taxonomy.synsets[node].wnid)
    return Given(verdict=verdict, replaced=named_verdicts(replaced, on), now=now)


def take_back(connection: Connection, photo_id: int, wnid: str) -> None:
    """What was said of a category of a photo was not said; what follows from other words stays.

    Raises:
        Problem: there is no such photo or category, or nothing was said of it.
    """
    on = ground(connection)
    node = int(on.taxonomy.shown_as[node_of(wnid, on)])
    user_id = store.hold(connection, photo_id)
    if user_id is None:
        raise no_photo(photo_id)
    spoken = store.of_photo(connection, on.model.model_id, photo_id)
    meant = [each.word.node for each in spoken if _is_about(each, node, on)]
    if not meant:
        raise not_found(f"Nobody said anything of {wnid} on photo {photo_id}; GET its verdicts for what was said.")
    store.drop(connection, on.model.model_id, photo_id, meant)
    touch_users(connection, [user_id])


def _is_about(each: StoredVerdict, node: int, on: Ground) -> bool:
    """Whether a word is shown as one about the node."""
    word = coarse(each.word, on.policy)
    return word is not None and word.node == node


def _now(connection: Connection, on: Ground, photo_id: int) -> Verdicts:
    spoken = store.of_photo(connection, on.model.model_id, photo_id)
    return Verdicts(photo_id=photo_id, verdicts=named_verdicts(spoken, on), model=on.model, policy=on.policy)
