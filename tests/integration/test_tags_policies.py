"""Every view of the tags says of random photos, under random policies, what `taxonomy.policy` says of each photo."""

from collections import Counter

import numpy as np
import pytest
from sqlalchemy import text
from test_policies import _PHOTO, _RESULT, _TOTALS, Shelf

from pipeline.annotate import annotate
from pipeline.records import WHOLE, Code
from pipeline.store import policies
from taxonomy.decide import Decision, decide
from taxonomy.errors import TaxonomyError
from taxonomy.policy import Rule, coarsen_photo, target_of
from taxonomy.rollup import Rollup

PHOTOS = 120
CARNIVORE = "n02075296"  # labels under it have several parents and long chains
USERS = ("ann", "ben", "cleo")


@pytest.fixture
def shelf(database):
    return Shelf(database)


def beliefs(rng, taxonomy):
    """Each photo's probabilities: one to four labels, most of them carnivores, and a little of everything."""
    top = taxonomy.node(CARNIVORE)
    labels = [n for n in range(taxonomy.classes) if taxonomy.is_under(int(taxonomy.label_nodes[n]), top)]
    pool = np.unique([*labels, *rng.choice(taxonomy.classes, 20).tolist()])
    rows = np.zeros((PHOTOS, taxonomy.classes))
    for row in range(PHOTOS):
        several = int(rng.integers(1, 5))
        sure = rng.dirichlet(np.full(several, 0.6)) * rng.choice([0.98, 0.7])
        rows[row, rng.choice(pool, several, replace=False)] = sure
        rows[row] += (1 - rows[row].sum()) / taxonomy.classes
    return rows, pool


def store(shelf, decided):
    """The photos as they would have been merged; by photo id, whose it is and what it shows without a policy."""
    stored = {}
    with shelf.database.transaction() as connection:
        for i, found in enumerate(annotate(decided, shelf.registered.nodes)):
            user = USERS[i % len(USERS)]
            values = {"user": user, "key": f"{user}/{i}", "model": shelf.registered.model_id}
            values |= {"outcome": int(Code.TAGGED if found.tags else Code.ABSTAINED), "headline": found.headline}
            values |= {"nodes": list(found.nodes), "masses": list(found.masses), "tags": list(found.tags)}
            photo = connection.execute(text(_PHOTO), values).scalar_one()
            connection.execute(text(_RESULT), values | {"photo": photo})
            stored[photo] = (user, decided[i])
        connection.execute(text("UPDATE core.photo SET taken_at = '2026-01-15'::date + photo_id % 4 * interval '20 d'"))
        for statement in _TOTALS:
            connection.execute(text(statement))
    return stored


def some_rules(rng, taxonomy, pool):
    """One to three rules that hide a label or what is next above it; broader ones take nearly everything along."""
    rules, wanted = [], int(rng.integers(1, 4))
    while len(rules) < wanted:
        distances = taxonomy.distances[int(taxonomy.label_nodes[rng.choice(pool)])]
        around = sorted(distances, key=lambda node: distances[node])
        below, above = (taxonomy.synsets[int(rng.choice(around[:n]))].wnid for n in (3, 6))
        rule = Rule(wnid=below, target=above if rng.random() < 0.6 else None)
        try:
            target_of(rule, taxonomy)
        except TaxonomyError:
            continue
        rules.append(rule)
    return rules


def expected(stored, policy, taxonomy):
    """Tags with their mass, headlines, and both totals per user and category, photo by photo in Python."""
    tags, headlines, photos, masses = {}, {}, Counter(), Counter()
    for photo, (user, plain) in stored.items():
        shown = coarsen_photo(plain, policy, taxonomy)
        mass = dict(zip(shown.columns.tolist(), shown.masses.tolist(), strict=True))
        headlines[photo] = None if shown.headline is None else taxonomy.synsets[shown.headline].wnid
        for tag in shown.tags.tolist():
            tags[photo, taxonomy.synsets[tag].wnid] = mass[tag]
            photos[user, taxonomy.synsets[tag].wnid] += 1
        for column, held in mass.items():
            if column < taxonomy.nodes:
                masses[user, taxonomy.synsets[column].wnid] += held
    return tags, headlines, {key: (photos[key], mass) for key, mass in masses.items()}


def asked(connection, query, **values):
    return [tuple(row) for row in connection.execute(text(query), values)]


def totals(rows):
    """By user and category: photos, and mass as an integer."""
    return {(user, wnid): (int(photos), int(mass * WHOLE)) for user, wnid, photos, mass in rows}


TAGS = "SELECT photo_id, wnid, probability FROM tags.photo_tag"
HEADLINES = "SELECT photo_id, headline_wnid FROM tags.photo"
OF_USERS = 'SELECT "user", wnid, photos, mass FROM tags.user_category'
OF_MONTHS = 'SELECT "user", wnid, sum(photos), sum(mass) FROM tags.user_category_monthly GROUP BY 1, 2'
OF_ALL = "SELECT wnid, photos, mass FROM tags.category_total"
WITH = "SELECT photo_id, probability FROM tags.photos_with(:wnid)"
NEWEST = "SELECT photo_id FROM tags.newest_photos(:wnid, 1000)"


@pytest.mark.parametrize(
    ("seed", "decision"), [(1, Decision()), (2, Decision(rule="expected", lam=2000, threshold=5500)), (3, Decision())]
)
def test_the_views_say_what_the_policy_says_of_each_photo(shelf, seed, decision):
    taxonomy, rng = shelf.taxonomy, np.random.default_rng(seed)
    rows, pool = beliefs(rng, taxonomy)
    stored = store(shelf, decide(Rollup(taxonomy).masses(rows), taxonomy, decision))
    with shelf.database.transaction() as connection:
        version = policies.add_version(connection, some_rules(rng, taxonomy, pool)).version
        policies.apply(connection, version, taxonomy)
        policy = policies.active_policy(connection, taxonomy)
        tags, headlines, of_users = expected(stored, policy, taxonomy)
        assert policy.hidden
        assert len(of_users) > 20

        assert {(photo, wnid): int(p * WHOLE) for photo, wnid, p in asked(connection, TAGS)} == tags
        assert dict(asked(connection, HEADLINES)) == headlines
        assert totals(asked(connection, OF_USERS)) == of_users
        assert totals(asked(connection, OF_MONTHS)) == of_users
        of_all = {wnid: (int(photos), int(mass * WHOLE)) for wnid, photos, mass in asked(connection, OF_ALL)}
        for wnid, found in of_all.items():
            parts = [of_users.get((user, wnid), (0, 0)) for user in USERS]
            assert found == tuple(map(sum, zip(*parts, strict=True))), wnid
        for wnid in rng.choice(sorted({wnid for _, wnid in tags} or {CARNIVORE}), 4):
            carry = {photo: mass for (photo, tag), mass in tags.items() if tag == wnid}
            found = asked(connection, WITH, wnid=wnid)
            assert {photo: int(p * WHOLE) for photo, p in found} == carry
            assert {photo for (photo,) in asked(connection, NEWEST, wnid=wnid)} == carry.keys()
