"""Policies, explanations and comparisons on the real database, down to the commands."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from ledger_helpers import small_taxonomy
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from pictograph.checkup import every_check, examine
from pictograph.cli import reason
from pictograph.cli.connect import reading
from pipeline.annotate import annotate
from pipeline.errors import ConfigurationError
from pipeline.explain import explain
from pipeline.records import WHOLE, Code
from pipeline.settings import Settings
from pipeline.store import policies, queries
from pipeline.store.catalogue import register_model
from pipeline.store.evidence import photo_evidence
from pipeline.store.session import Database
from taxonomy.decide import Decision, decide
from taxonomy.graph import Taxonomy, load
from taxonomy.lookup import AmbiguousName, one_node
from taxonomy.policy import Rule, parse_rule
from taxonomy.rollup import Rollup

ANN = {"gorilla": 3, "orangutan": 2, "chimpanzee": 9, "pug": 4}
BEN = {"chimpanzee": 7, "beagle": 6, "orangutan": 6}


@dataclass
class Shelf:
    """Photos of users in the store, analysed, without a job."""

    database: Database
    taxonomy: Taxonomy = field(default_factory=load)

    def __post_init__(self) -> None:
        with self.database.transaction() as connection:
            self.registered = register_model(connection, "test model", b"\1" * 32, self.taxonomy, Decision())
            connection.execute(text("INSERT INTO core.bucket (uri) VALUES ('s3://photos')"))
            self.model = queries.active_model(connection)
        assert self.model is not None

    def fill(self, user: str, photos: dict[str, int], certain: float = 0.9) -> list[int]:
        """So many photos of each label; returns their ids."""
        added = []
        with self.database.transaction() as connection:
            for name, n in photos.items():
                found = self._annotated(name, certain)
                for i in range(n):
                    values = {"user": user, "key": f"{user}/{name}-{i}", **found}
                    photo = connection.execute(text(_PHOTO), values).scalar_one()
                    connection.execute(text(_RESULT), {**values, "photo": photo, "model": self.registered.model_id})
                    added.append(photo)
            for statement in _TOTALS:
                connection.execute(text(statement))
        return added

    def _annotated(self, name: str, certain: float) -> dict[str, object]:
        labels = self.taxonomy.label_nodes.tolist()
        probabilities = np.full((1, self.taxonomy.classes), (1 - certain) / self.taxonomy.classes)
        probabilities[0, labels.index(one_node(name, self.taxonomy))] += certain
        masses = Rollup(self.taxonomy).masses(probabilities)
        (found,) = annotate(decide(masses, self.taxonomy, Decision()), self.registered.nodes)
        return {
            "outcome": int(Code.TAGGED if found.tags else Code.ABSTAINED),
            "headline": found.headline,
            "nodes": list(found.nodes),
            "masses": list(found.masses),
            "tags": list(found.tags),
        }


_PHOTO = """
WITH owner AS (INSERT INTO core.app_user (name) VALUES (:user)
               ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING user_id)
INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at)
SELECT b.bucket_id, :key, o.user_id, 'e', 1, now() FROM core.bucket b, owner o RETURNING photo_id"""
_RESULT = """
INSERT INTO core.photo_result
    (model_id, photo_id, user_id, content_rev, decision_rev, outcome, headline, nodes, masses, tags)
SELECT :model, p.photo_id, p.user_id, 1, 1, :outcome, :headline,
       CAST(:nodes AS smallint[]), CAST(:masses AS smallint[]), CAST(:tags AS smallint[])
FROM core.photo p WHERE p.photo_id = :photo"""
_TOTALS = (
    "DELETE FROM core.user_category",
    "DELETE FROM core.category_total",
    """INSERT INTO core.user_category (model_id, user_id, node, photos, mass)
       SELECT r.model_id, r.user_id, n.node, count(*) FILTER (WHERE n.node = ANY (r.tags)), sum(n.mass)
       FROM core.photo_result r, unnest(r.nodes, r.masses) AS n(node, mass) GROUP BY 1, 2, 3""",
    """INSERT INTO core.category_total (model_id, node, slot, photos, mass)
       SELECT model_id, node, user_id % 64, photos, mass FROM core.user_category""",
)


@pytest.fixture
def shelf(database: Database) -> Shelf:
    filled = Shelf(database)
    filled.fill("ann", ANN)
    filled.fill("ben", BEN)
    return filled


@pytest.fixture
def run(shelf: Shelf, endpoints, monkeypatch: pytest.MonkeyPatch):
    """Runs a command against the test's database; gives its JSON lines."""
    monkeypatch.setenv("PICTOGRAPH_DATABASE_URL", endpoints.database_url)

    def run(*words: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(reason.group, [*words, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.output.splitlines()]

    return run


def test_a_policy_is_added_applied_and_taken_back_without_touching_a_row(shelf: Shelf) -> None:
    taxonomy, model = shelf.taxonomy, shelf.model
    gorilla, ape, pug = (one_node(word, taxonomy) for word in ("gorilla", "ape", "pug"))
    stored = "SELECT md5(string_agg(r::text, '|' ORDER BY photo_id)) FROM core.photo_result r"
    with shelf.database.transaction() as connection:
        before = connection.execute(text(stored)).scalar_one()
        made = policies.add_version(connection, [parse_rule("coarsen gorilla to ape", taxonomy)])
        assert (made.version, made.active, len(made.rules)) == (1, False, 1)
        assert policies.active_policy(connection, taxonomy).version == 0
        policies.apply(connection, 1, taxonomy)
        policy = policies.active_policy(connection, taxonomy)
        totals = queries.user_profile_totals(connection, model.model_id, "ann").totals
        shown = {t.column: t for t in policies.coarsen_totals(totals, policy)}
        kept = {t.column: t for t in totals}
        assert gorilla not in shown
        assert (shown[0], shown[ape], shown[pug]) == (kept[0], kept[ape], kept[pug])
        assert shown[0].mass == sum(ANN.values()) * WHOLE
        policies.apply(connection, 0, taxonomy)
        assert policies.coarsen_totals(totals, policies.active_policy(connection, taxonomy)) == totals
        assert connection.execute(text(stored)).scalar_one() == before
        policies.apply(connection, 1, taxonomy)  # and again
        assert policies.active_policy(connection, taxonomy).hidden == policy.hidden


def test_what_goes_along_hides_one_users_photos_too(shelf: Shelf) -> None:
    """Five photos hide Ann's gorillas; with four, more goes along, and then what would be alone as a whole."""
    taxonomy = shelf.taxonomy
    with shelf.database.transaction() as connection:
        rules = policies.closed(connection, [parse_rule("coarsen gorilla to ape", taxonomy)], taxonomy)
        along = [taxonomy.synsets[taxonomy.node(rule.wnid)].name for rule in rules if rule.taken_along]
        assert along == ["orangutan"]  # eight in all; 3 + 2 of Ann's are five
        connection.execute(text("UPDATE core.user_category SET photos = photos - 1 WHERE photos = 2"))
        rules = policies.closed(connection, [parse_rule("coarsen gorilla to ape", taxonomy)], taxonomy)
        along = [taxonomy.synsets[taxonomy.node(rule.wnid)].name for rule in rules if rule.taken_along]
        assert along == ["orangutan", "chimpanzee", "lesser ape"]  # or great apes were apes less lesser apes


#: How the views apply the active policy to a user's totals (columns of core.policy_effect).
VIEWED = """
SELECT tc.position, v.photos, (v.mass * 10000)::bigint AS mass
FROM tags.user_category v JOIN core.taxonomy_category tc USING (node) WHERE v."user" = :user ORDER BY 1"""


@pytest.mark.parametrize(
    "rules", [["coarsen gorilla to animal"], ["coarsen dog to domestic animal", "hide chimpanzee"]]
)
def test_the_stored_effects_say_in_sql_what_the_policy_says(shelf: Shelf, rules: list[str]) -> None:
    taxonomy = shelf.taxonomy
    with shelf.database.transaction() as connection:
        policies.add_version(connection, [parse_rule(rule, taxonomy) for rule in rules])
        policy = policies.apply(connection, 1, taxonomy)
        for user in ("ann", "ben"):
            totals = queries.user_profile_totals(connection, shelf.model.model_id, user).totals
            shown = policies.coarsen_totals(totals, policy)
            expected = [(t.column, t.photos, t.mass) for t in shown if t.column < taxonomy.nodes]
            assert [tuple(row) for row in connection.execute(text(VIEWED), {"user": user})] == expected


def test_preview_counts_photos_and_users_from_stored_rows(run) -> None:
    run("policy", "add", "coarsen gorilla to ape")
    (found,) = run("policy", "preview")
    # gorilla 3 + orangutan 8 tagged, by Ann and Ben; no other photo holds 2 % of either
    assert (found["photos"], found["users"], found["photos_in_part"], found["categories"]) == (11, 2, 11, 2)
    assert [rule["taken_along"] for rule in found["rules"]] == [False, True]
    (nothing,) = run("policy", "list")
    assert (nothing["active"], nothing["applied_at"], len(nothing["rules"])) == (False, None, 1)


def test_versions_by_command(run) -> None:
    assert run("policy", "list") == []
    run("policy", "add", "coarsen gorilla to ape")
    (two,) = run("policy", "add", "hide revolver", "coarsen gorilla to ape")  # once only
    assert (two["version"], [rule["subtree"][:7] for rule in two["rules"]]) == (2, ["gorilla", "revolve"])
    run("policy", "apply", "1")
    run("policy", "apply")
    assert [version["active"] for version in run("policy", "list")] == [True, False]
    (three,) = run("policy", "drop", "hide revolver")
    assert len(three["rules"]) == 1
    run("policy", "apply", "0")
    assert not any(version["active"] for version in run("policy", "list"))


def test_another_models_taxonomy_has_its_effects_too(shelf: Shelf) -> None:
    """Registered while a policy is active; applied again, it must be here, or nothing is."""
    small = small_taxonomy()
    with shelf.database.transaction() as connection:
        hidden = one_node("dog", small)
        rules = [parse_rule("coarsen gorilla to ape", shelf.taxonomy), Rule(wnid=small.synsets[hidden].wnid)]
        policies.add_version(connection, rules)
        policies.apply(connection, 1, shelf.taxonomy)
        register_model(connection, "small", b"\2" * 32, small, Decision())
        effects = (
            "SELECT t.sha256, bool_or(e.hidden) FROM core.policy_effect e JOIN core.taxonomy t USING (taxonomy_id)"
        )
        found = dict(connection.execute(text(f"{effects} GROUP BY 1")).all())
        assert {bytes(key).hex() for key, hides in found.items() if hides} == {shelf.taxonomy.sha256, small.sha256}
        with pytest.raises(ConfigurationError, match="of model 'small' is not here"):
            policies.apply(connection, 1, shelf.taxonomy)
        shown = [reason._rule(rule, shelf.taxonomy)["subtree"] for rule in policies.find(connection, 1).rules]
        assert small.synsets[hidden].wnid in shown  # the active model's taxonomy has no name for it


def test_the_counts_of_every_model_say_what_goes_along(shelf: Shelf) -> None:
    """Ann's four gorillas and orangutans under a second model are too few, though five under the first are enough."""
    taxonomy = shelf.taxonomy
    with shelf.database.transaction() as connection:
        second = register_model(connection, "second", b"\3" * 32, taxonomy, Decision()).model_id
        for table, columns in (("user_category", "user_id, node"), ("category_total", "node, slot")):
            connection.execute(
                text(f"""INSERT INTO core.{table} (model_id, {columns}, photos, mass)
                         SELECT :second, {columns}, photos - (photos = 2)::int, mass FROM core.{table}"""),
                {"second": second},
            )
        rules = policies.closed(connection, [parse_rule("coarsen gorilla to ape", taxonomy)], taxonomy)
        along = [taxonomy.synsets[taxonomy.node(rule.wnid)].name for rule in rules if rule.taken_along]
        assert along == ["orangutan", "chimpanzee", "lesser ape"]


def test_counts_that_moved_on_ask_for_applying_again(run, shelf: Shelf, endpoints) -> None:
    run("policy", "add", "coarsen gorilla to ape")
    run("policy", "apply")
    settings = Settings(database_url=SecretStr(endpoints.database_url))
    (check,) = [check for check in every_check() if check[0] == "policy"]
    assert examine(settings, (check,))[0].detail == "ok"
    with shelf.database.transaction() as connection:
        connection.execute(text("UPDATE core.user_category SET photos = photos - 1 WHERE photos = 2"))
    (finding,) = examine(settings, (check,))
    assert not finding.ok
    assert finding.detail == "Apply the policy again: 2 more categories must go along now (`pictograph policy apply`)."
    assert run("policy", "show")[0]["overdue"] == 2
    run("policy", "apply")
    assert run("policy", "show")[0]["overdue"] == 0
    assert examine(settings, (check,))[0].ok


def test_looking_cannot_write(run) -> None:
    with reading() as connection, pytest.raises(DBAPIError, match="read-only"):
        policies.add_version(connection, [])


@pytest.mark.parametrize("verb", ["show", "preview"])
def test_version_zero_is_only_applied(run, verb: str) -> None:
    assert CliRunner().invoke(reason.group, ["policy", verb, "0"]).exit_code == 2


def test_nothing_stored_is_one_sentence_without_an_empty_line(run, shelf: Shelf) -> None:
    (photo,) = shelf.fill("eve", {"pug": 1})
    said = CliRunner().invoke(reason.group, ["explain", str(photo), "banana"], catch_exceptions=False).output
    assert said.startswith("banana holds less than")


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["policy", "show"], ConfigurationError, "There is no policy yet"),
        (["policy", "show", "9"], ConfigurationError, "There is no policy version 9"),
        (["policy", "apply", "9"], ConfigurationError, "There is no policy version 9"),
        (["policy", "drop", "hide gorilla"], ConfigurationError, "has no rule 'hide gorilla'"),
        (["compare", "ann", "nobody"], ConfigurationError, "There is no user 'nobody'"),
        (["compare", "ann", "idle"], ConfigurationError, "No photo of 'idle' is analysed yet"),
        (["explain", "999", "dog"], ConfigurationError, "There is no photo 999"),
        (["explain", "1", "crane"], AmbiguousName, "several senses"),
    ],
)
def test_wrong_use_is_one_sentence(run, shelf: Shelf, words: list[str], error: type[Exception], says: str) -> None:
    with shelf.database.transaction() as connection:
        connection.execute(text("INSERT INTO core.app_user (name) VALUES ('idle')"))
    with pytest.raises(error, match=says) as raised:
        run(*words)
    assert len(str(raised.value).splitlines()) == 1


def test_explaining_a_stored_photo(run, shelf: Shelf) -> None:
    (photo,) = shelf.fill("eve", {"beagle": 1}, certain=0.7)
    (made,) = run("explain", str(photo), "dog")
    assert made["mass"] == sum(part["mass"] for part in made["parts"]) + made["withheld"] + made["rest"]
    assert [part["name"] for part in made["parts"]] == ["beagle"]
    with shelf.database.transaction() as connection:
        evidence = photo_evidence(connection, shelf.model.model_id, photo)
        headline = connection.execute(text("SELECT headline FROM tags.photo WHERE photo_id = :p"), {"p": photo})
        policy = policies.active_policy(connection, shelf.taxonomy)
        shown = explain(evidence, evidence.found.headline, shelf.taxonomy, policy)
        assert (shown.name, shown.headline) == (headline.scalar_one(), True)
        connection.execute(text("UPDATE core.photo_result SET outcome = 12 WHERE photo_id = :p"), {"p": photo})
        with pytest.raises(ConfigurationError, match="has not seen"):
            photo_evidence(connection, shelf.model.model_id, photo)


def test_comparing_two_users_under_a_policy(run) -> None:
    (plain,) = run("compare", "ann", "ben")
    assert (plain["photos_a"], plain["photos_b"]) == (18, 19)
    assert plain["divergence"] == pytest.approx(sum(part["divergence"] for part in plain["parts"]))
    assert "gorilla" in json.dumps(plain)
    run("policy", "add", "coarsen gorilla to ape")
    run("policy", "apply")
    (limited,) = run("compare", "ann", "ben")
    assert "gorilla" not in json.dumps(limited)
    (leaf,) = run("compare", "ann", "ben", "--level", "leaf")
    assert [c["name"] for c in leaf["both"]] == ["chimpanzee"]


@pytest.mark.parametrize("words", [["compare", "ann", "ben"], ["explain", "1", "gorilla"], ["policy", "preview"]])
def test_people_get_words(run, endpoints, words: list[str]) -> None:
    run("policy", "add", "coarsen gorilla to ape")
    result = CliRunner().invoke(reason.group, words, catch_exceptions=False)
    assert result.exit_code == 0
