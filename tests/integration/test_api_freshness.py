"""Whoever has an answer is told so for as long as it is the answer, whatever happens to photos, people and models.

Two askers keep every answer they ever got under its ETag. After each step of a history they ask again, naming all the
ETags that they hold for the address: 304 must name an answer that is, byte for byte, the one given to who holds none.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from api_helpers import app_of, opened
from fastapi.testclient import TestClient
from key_helpers import bearer, new_key
from ledger_helpers import Ledger, empty, failed, ref
from sqlalchemy import text

from api.access import keyring
from api.views import gallery
from pipeline.annotate import annotate
from pipeline.errors import ConfigurationError
from pipeline.ledger import decide as deciding
from pipeline.ledger import jobs, work
from pipeline.ledger.decide import Decider
from pipeline.ledger.erase import erase, fence
from pipeline.ledger.users import set_consent
from pipeline.records import Annotation, Code, ItemState, PhotoRef, PhotoResult, PhotoTask, Version
from pipeline.settings import Settings
from pipeline.store import dropping, keys, policies, promotions
from pipeline.store.catalogue import Registered, newest_decision, store_decision
from pipeline.store.session import Database
from taxonomy.decide import Decision, decide
from taxonomy.graph import load
from taxonomy.policy import Rule
from taxonomy.rollup import Rollup
from workers.decode.pool import DecodePool

USERS = ("ann", "ben", "cleo")
LABELS = ("pug", "tabby", "canoe", "Chihuahua")
PUG, DOG, BOAT = "n02110958", "n02084071", "n02858304"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEWEST = 2  # so that what one user has is withheld, and what two have is not
FIRST = 2  # photos of each user
APART = 15  # days between two photos

#: What is answered by stamps; for who sees everybody's, and for Ann, who consents now and then, as Cleo does.
EVERYBODYS = (
    f"/v1/users/ben/profile.csv?depth=2&under={DOG}",
    "/v1/users/ben/months",
    "/v1/users/ben/compare/ann.csv",
    "/u/ben",
    "/v1/categories?prefix=do",
    f"/v1/categories/{DOG}",
    f"/v1/categories/{PUG}/photos?page_size=1",
    f"/v1/categories/{PUG}/users",
)
ANNS = (
    "/v1/users/ann/profile",
    "/v1/users/ann/profile.svg?from=2026-01&to=2027-01",
    "/v1/users/ann/profile?unit=moments&as_of=2100-01-01&model=other",
    "/v1/users/ann/profile.png?width=64&height=64",
    "/v1/users/ann/profile/diff?from=2026-02-01&to=2026-03-01",
    "/v1/users/ann/months",
    "/v1/users/ann/compare/cleo",
    f"/u/ann?under={DOG}",
    "/compare/ann/cleo",
    "/v1/categories?name=pug",
    f"/v1/categories/{DOG}",
    f"/v1/categories/{DOG}/children?page_size=1",
    f"/v1/categories/{DOG}/photos?sort=diverse&page_size=2",
    f"/v1/categories/{BOAT}/photos?sort=newest&min_probability=0.5",
    f"/v1/categories/{PUG}/users",
)
OF_PHOTOS = ("", "/tags?include=ancestors", f"/tags/{PUG}/explanation", "/thumbnail?size=96")


@dataclass
class World:
    """A ledger with everybody's photos, and everything that may happen to them."""

    ledger: Ledger
    chance: random.Random
    tasks: dict[str, PhotoTask] = field(default_factory=dict)  # by key
    refs: dict[str, PhotoRef] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin(self) -> None:
        """The first photos; Cleo lets others see hers."""
        self.ledger.database.run(lambda c: set_consent(c, "cleo", True))
        for user in USERS * FIRST:
            self.photo_comes(user)

    # ---- what may happen: each a transaction or a few, as the product makes them

    def photo_comes(self, user: str | None = None) -> None:
        number = next(self.numbers)
        taken = NOON + timedelta(days=APART * number)
        new = replace(ref(f"photo-{number}", user=user or self.chance.choice(USERS)), modified_at=taken)
        self._list(new)
        if new.key in self.tasks:  # else its user is erased
            self._merge([self._result(new.key, LABELS[number % len(LABELS)])])

    def photo_comes_unseen(self) -> None:
        self._list(ref(f"photo-{next(self.numbers)}", user=self.chance.choice(USERS)))

    def same_again(self) -> None:
        self._merge([self._result(key, "canoe") for key in self.tasks])

    def newer_result(self) -> None:
        self._newer_decision(0)
        self._merge([self._result(self._some(), self.chance.choice(LABELS), certain=0.7)])

    def decided_anew(self) -> None:
        database, model_id = self.ledger.database, self.ledger.registered.model_id
        job_id = database.run(lambda c: jobs.submit(c, deciding.request(c, model_id, None), model_id))
        lease, job = self.ledger.claim_range(job_id), self.ledger.job(job_id)
        decider = database.run(lambda c: Decider.of(c, job, self.ledger.taxonomy))  # type: ignore[arg-type]
        assert database.run(lambda c: decider.page(c, job, lease, None, 100)).last

    def newer_decision(self) -> None:
        self._newer_decision(-500)

    def photo_deleted(self) -> None:
        gone = self._some()
        kept = [each for key, each in self.refs.items() if key != gone]
        self.ledger.list(kept, allow_mass_delete=True)
        self._forget(gone)

    def photo_found_gone(self) -> None:
        key = self._some()
        self._merge([failed(self.tasks[key], Code.GONE)])
        self._forget(key)

    def photo_corrupt(self) -> None:
        new = ref(f"photo-{next(self.numbers)}", user=self.chance.choice(USERS))
        self._list(new)
        if new.key in self.tasks:
            self._merge([failed(self.tasks[new.key], Code.CORRUPT)])

    def photo_moved(self) -> None:
        moved = self.refs[self._some()]
        self._list(replace(moved, user=USERS[(USERS.index(moved.user) + 1) % len(USERS)]))

    def bytes_changed(self) -> None:
        key = self._some()
        etag = f"etag-{next(self.numbers)}"
        self.ledger.database.run(lambda c: work.note_changed(c, self.tasks[key], Version(etag=etag, size=11)))

    def new_time_listed(self) -> None:
        number = next(self.numbers)
        newer = replace(self.refs[self._some()], etag=f"etag-{number}", modified_at=NOON + timedelta(days=number))
        self._list(newer)

    def new_time_found(self) -> None:
        result = self._result(self._some(), "pug")
        self._merge([replace(result, taken_at=NOON + timedelta(days=next(self.numbers)))])

    def verdict(self) -> None:
        said = {"node": self.chance.choice((PUG, DOG, BOAT)), "verdict": self.chance.choice(("confirm", "reject"))}
        for task in self.tasks.values():
            self.asker.client.post(f"/v1/photos/{task.photo_id}/verdicts", json=said, headers=self.asker.headers)

    def verdict_withdrawn(self) -> None:
        for photo_id, wnid in self.ledger.all(
            "SELECT photo_id, wnid FROM core.verdict JOIN core.category USING (node)"
        ):
            self.asker.client.delete(f"/v1/photos/{photo_id}/verdicts/{wnid}", headers=self.asker.headers)

    def consents(self) -> None:
        self._answers(True)

    def takes_consent_back(self) -> None:
        self._answers(False)

    def policy_applied(self) -> None:
        rule = Rule(wnid=self.chance.choice((PUG, BOAT)))

        def apply(connection: object) -> None:
            made = policies.add_version(connection, [rule])  # type: ignore[arg-type]
            policies.apply(connection, made.version, self.ledger.taxonomy)  # type: ignore[arg-type]

        self.ledger.database.run(apply)

    def policy_lifted(self) -> None:
        self.ledger.database.run(lambda c: policies.apply(c, 0, self.ledger.taxonomy))  # type: ignore[arg-type]

    def model_in_shadow(self) -> None:
        other = self.ledger.register("other")
        self._merge([self._result(key, "tabby", model=other) for key in self.tasks], other)

    def model_promoted(self) -> None:
        with suppress(ConfigurationError):  # there is none yet, or it has no results
            self.ledger.database.run(lambda c: promotions.promote(c, self._other(), "test", partial=True))

    def model_rolled_back(self) -> None:
        with suppress(ConfigurationError):  # it was never promoted
            self.ledger.database.run(lambda c: promotions.rollback(c, "test"))

    def model_dropped(self) -> None:
        with suppress(ConfigurationError):  # it is active, or not there
            dropping.drop(self.ledger.database, self._other())

    def names_changed(self) -> None:
        gloss = f"another gloss, {next(self.numbers)}"
        self.ledger.execute("UPDATE core.category SET gloss = :gloss WHERE wnid = :pug", gloss=gloss, pug=PUG)
        self.ledger.register("small")

    def tokens_signed_anew(self) -> None:
        self.ledger.database.run(lambda c: keys.renew_secret(c, "page_token"))

    def user_fenced(self) -> None:
        self.ledger.database.run(lambda c: fence(c, "ben"))

    def user_erased(self) -> None:
        erase(self.ledger.database, "ben")
        for key in [key for key, each in self.refs.items() if each.user == "ben"]:
            self._forget(key)

    def key_revoked(self) -> None:
        self.ledger.execute("UPDATE core.api_key SET revoked_at = now() WHERE user_name = 'ann'")

    # ---- how

    asker: "Asker" = field(init=False)  # who sees everybody's photos

    def _some(self) -> str:
        if not self.tasks:
            self.photo_comes("ann")
        return self.chance.choice(sorted(self.tasks))

    def _forget(self, key: str) -> None:
        self.tasks.pop(key, None)
        self.refs.pop(key, None)

    def _list(self, listed: PhotoRef) -> None:
        job_id = self.ledger.list([listed], whole=False)
        self.refs[listed.key] = listed
        for lease in self.ledger.claim_all(job_id):
            self.tasks |= {task.key: task for task in self.ledger.tasks(lease)}

    def _merge(self, results: list[PhotoResult], model: Registered | None = None) -> None:
        self.ledger.merge(results, revision=self._decision(model or self.ledger.registered).revision, model=model)

    def _decision(self, model: Registered) -> Decision:
        return self.ledger.database.run(lambda c: newest_decision(c, model.model_id))

    def _newer_decision(self, by: int) -> None:
        registered = self.ledger.registered
        newest = self._decision(registered)
        newer = replace(newest, threshold=max(1000, newest.threshold + by))
        self.ledger.database.run(lambda c: store_decision(c, registered.model_id, newer, {}))

    def _result(self, key: str, label: str, certain: float = 0.9, model: Registered | None = None) -> PhotoResult:
        note = self._annotated(label, certain, model or self.ledger.registered)
        return PhotoResult(task=self.tasks[key], state=ItemState.SUCCEEDED, code=Code.TAGGED, annotation=note)

    def _annotated(self, name: str, certain: float, model: Registered) -> Annotation:
        taxonomy = load()
        label = taxonomy.label_nodes.tolist().index(taxonomy.find(name)[0])
        probabilities = np.full((1, taxonomy.classes), (1 - certain) / (taxonomy.classes - 1))
        probabilities[0, label] = certain
        (found,) = annotate(decide(Rollup(taxonomy).masses(probabilities), taxonomy, Decision()), model.nodes)
        return found

    def _answers(self, consent: bool) -> None:
        user = self.chance.choice(USERS)
        with suppress(ConfigurationError):  # the user is erased
            self.ledger.database.run(lambda c: set_consent(c, user, consent))

    def _other(self) -> promotions.KnownModel:
        return self.ledger.database.run(lambda c: promotions.find_model(c, "other"))


STEPS = {
    name: step for name, step in vars(World).items() if callable(step) and not name.startswith("_") and name != "begin"
}
#: Each at least once, in an order in which none comes too early.
HISTORY = (
    *(
        "same_again",
        "photo_comes",
        "photo_comes_unseen",
        "newer_result",
        "newer_decision",
        "decided_anew",
        "photo_corrupt",
    ),
    *("photo_moved", "bytes_changed", "new_time_found", "new_time_listed", "verdict", "verdict_withdrawn", "verdict"),
    *("takes_consent_back", "consents", "takes_consent_back", "consents", "consents", "policy_applied"),
    *("tokens_signed_anew", "policy_lifted", "model_in_shadow", "model_promoted", "newer_result", "model_rolled_back"),
    *("model_dropped", "model_in_shadow", "names_changed", "photo_found_gone", "photo_deleted", "user_fenced"),
    *("user_erased", "key_revoked"),
)


@dataclass
class Asker:
    """Somebody who keeps all answers."""

    client: TestClient
    headers: dict[str, str]
    addresses: list[str]
    held: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by address and ETag
    unchanged: set[str] = field(default_factory=set)  # addresses that once gave 304

    def check(self) -> None:
        """Ask for everything, as who holds old answers and as who holds none."""
        for address in self.addresses:
            self._check(address, self.held.setdefault(address, {}))

    def _check(self, address: str, held: dict[str, bytes]) -> None:
        answer = self._get(address, held)
        assert answer.status_code < 500, (address, answer.text)
        if answer.status_code == 304:
            now = self._get(address, {})
            assert (now.status_code, now.headers.get("etag")) == (200, answer.headers["etag"]), address
            assert now.content == held[answer.headers["etag"]], f"{address} is stale"
            self.unchanged.add(address)
        elif answer.status_code == 200:
            assert answer.headers["etag"] not in held, address
            held[answer.headers["etag"]] = answer.content

    def _get(self, address: str, held: dict[str, bytes]) -> httpx.Response:
        known = {"If-None-Match": ", ".join(held)} if held else {}
        return self.client.get(address, headers={**self.headers, "Accept-Encoding": "identity", **known})


@pytest.fixture
def askers(
    settings: Settings, as_api: Database, decoder: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[World], list[Asker]]]:
    """Makes who sees everybody's photos, and Ann, who sees her own and those of who consent; nothing is remembered."""
    monkeypatch.setattr(keyring, "KEY_SECONDS", 0.0)
    monkeypatch.setattr(keyring, "SECRET_SECONDS", 0.0)
    limits = {"api_open": False, "api_requests_per_minute": 0, "api_failures_per_minute": 0, "fewest_users": FEWEST}
    with ExitStack() as stack:
        client = stack.enter_context(opened(app_of(settings.model_copy(update=limits), as_api, decoder)))

        def made(world: World) -> list[Asker]:
            gallery._KEPT.clear()
            secrets = (new_key(world.ledger.database, "operator"), new_key(world.ledger.database, "user", user="ann"))
            photos = {user: next(k for k, each in world.refs.items() if each.user == user) for user in ("ben", "cleo")}
            of_ben, of_cleo = (
                [f"/v1/photos/{world.tasks[key].photo_id}{what}" for what in OF_PHOTOS] for key in photos.values()
            )
            found = [
                Asker(client, bearer(secrets[0]), [*EVERYBODYS, *of_ben]),
                Asker(client, bearer(secrets[1]), [*ANNS, *of_cleo]),
            ]
            world.asker = found[0]
            return found

        yield made


@pytest.fixture
def world(database: Database) -> Callable[[int], World]:
    """Makes a world in which nothing has happened."""

    def made(chance: int) -> World:
        empty(database)
        with database.transaction() as connection:
            connection.execute(text("DELETE FROM core.promotion WHERE promotion_id > 1"))
        found = World(Ledger(database, taxonomy=load()), random.Random(chance))
        found.begin()
        return found

    return made


def live(world: World, askers: list[Asker], history: Sequence[str]) -> None:
    """Take the steps one by one; all ask after each."""
    for step in ("", *history):
        if step:
            STEPS[step](world)
        world.ledger.execute("""
            INSERT INTO core.thumbnail (photo_id, side, content_rev, jpeg)
            SELECT photo_id, 96, content_rev, convert_to(photo_id || ' ' || content_rev, 'UTF8')
            FROM core.photo WHERE gone_at IS NULL
            ON CONFLICT (photo_id, side) DO UPDATE SET content_rev = excluded.content_rev, jpeg = excluded.jpeg""")
        try:
            for asker in askers:
                asker.check()
        except AssertionError as stale:
            raise AssertionError(f"after {step or 'the beginning'}: {stale}") from stale


def test_no_answer_outlives_what_it_says(world: Callable[[int], World], askers: Callable[[World], list[Asker]]) -> None:
    assert STEPS.keys() - {*HISTORY} == set(), "a step that this history leaves out"
    made = world(1)
    found = askers(made)
    live(made, found, HISTORY)
    assert [set(asker.addresses) - asker.unchanged for asker in found] == [set(), set()], "never cached at all"


@hypothesis.settings(
    max_examples=1,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    history=st.lists(st.sampled_from(sorted(STEPS)), min_size=8, max_size=8), chance=st.integers(0, 1 << 16)
)
def test_no_answer_outlives_what_it_says_whatever_comes_after_what(
    world: Callable[[int], World], askers: Callable[[World], list[Asker]], history: list[str], chance: int
) -> None:
    made = world(chance)
    live(made, askers(made), history)
