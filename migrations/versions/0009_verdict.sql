-- What people say of photos, for analysts. Run by 0009_api.py; the rules at the head of 0007_tags.sql hold here too.
--
-- As `pipeline.verdicts` has it: of what was said of a hidden category a yes is one to what is shown for it, and a no is in
-- no row; a hidden headline is not named. What was said of other bytes of a photo, or of a category that the active
-- model's taxonomy does not have, is in no row either.

CREATE VIEW tags.verdict WITH (security_barrier) AS
SELECT v.photo_id, u.name AS "user", p.key, c.node, c.wnid, c.name,
       CASE WHEN e.hidden IS NULL THEN v.verdict ELSE 'confirm' END AS verdict,
       h.node AS headline_node, h.wnid AS headline_wnid, h.name AS headline, v.given_by, v.given_at, v.model_id,
       v.decision_rev AS decision_revision
FROM core.verdict v JOIN core.photo p ON (p.photo_id, p.content_rev) = (v.photo_id, v.content_rev)
JOIN core.app_user u USING (user_id) CROSS JOIN core.active_model m
JOIN core.taxonomy_category t ON (t.taxonomy_id, t.node) = (m.taxonomy_id, v.node)
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, v.node) AND e.hidden
JOIN core.category c ON c.node = coalesce(e.shown_as, v.node)
LEFT JOIN core.active_effect g ON (g.taxonomy_id, g.node) = (m.taxonomy_id, v.headline) AND g.hidden
LEFT JOIN core.taxonomy_category ht ON (ht.taxonomy_id, ht.node) = (m.taxonomy_id, v.headline)
LEFT JOIN core.category h ON h.node = ht.node AND g.hidden IS NULL AND e.hidden IS NULL
WHERE u.deleted_at IS NULL AND p.gone_at IS NULL AND NOT (e.hidden IS NOT NULL AND v.verdict = 'reject');

COMMENT ON VIEW tags.verdict IS 'What people say of photos, apart from what models say. Grain: one row per verdict; a photo has one per category at most, but where the policy shows several as one. Counts of photos and masses know nothing of it.';
COMMENT ON COLUMN tags.verdict."photo_id" IS 'The photo.';
COMMENT ON COLUMN tags.verdict."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.verdict."key" IS 'The photo''s key at its place, or its absolute path.';
COMMENT ON COLUMN tags.verdict."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.verdict."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.verdict."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.verdict."verdict" IS 'confirm: the photo shows it, and so all above it. reject: it does not, nor anything below it. generalise: it shows some kind of it, and the headline shown then is wrong if it lies below.';
COMMENT ON COLUMN tags.verdict."headline_node" IS 'Node of the headline that was shown then. NULL as headline.';
COMMENT ON COLUMN tags.verdict."headline_wnid" IS 'Synset id of the headline that was shown then. NULL as headline.';
COMMENT ON COLUMN tags.verdict."headline" IS 'Name of the headline that was shown then. NULL: none was, or the policy hides it by now.';
COMMENT ON COLUMN tags.verdict."given_by" IS 'The key of the API by which it came; open: a server without keys.';
COMMENT ON COLUMN tags.verdict."given_at" IS 'When. The newest word counts: what it contradicts is gone.';
COMMENT ON COLUMN tags.verdict."model_id" IS 'The model whose tags were shown then.';
COMMENT ON COLUMN tags.verdict."decision_revision" IS 'Revision of its decision that gave those tags.';
