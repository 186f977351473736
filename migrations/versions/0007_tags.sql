-- Schema tags as analysts see it: views and functions only. Run by 0007_tags.py; COMMENTs are in 0007_comments.sql.
--
-- 1. NAME_all_models has the rows of every model that is not dropped; NAME has those of the active one, the model of the
--    newest promotion. Whoever does not name a model must not get twice as many rows while another one runs beside it.
-- 2. What people see goes through the active policy: hidden categories are gone, the others count without them. Users
--    who are being erased are gone at once, photos that left their source with their results.
-- 3. A view of what photos show is a security_barrier: `WHERE key::int = 1` would else be asked of rows that the view
--    leaves out, and the error would quote them; a division by zero would tell whether somebody has a hidden tag. What it
--    costs: a view is not taken apart, so a join reads all of it that its own conditions leave. Comparisons with =, < and
--    IN reach the indexes all the same, for those are leakproof; so does `node = (SELECT tags.category_id('dog'))`, and
--    `photo_id = ANY (ARRAY(SELECT ...))`. Categories and jobs need none: what is left out there is no secret.
--    Measured on 200,000 photos, with and without, medians of 15, most of it planning: tags of a photo 3.2 and 4.7 ms, a
--    user's categories 2.5 and 1.9, a user's 100 photos 8 and 11; 200 photos by a join 503 and 487, by ARRAY 36 and 18.
-- 4. `node` is always the column of core.category, whose key is what a condition on it finds.
-- 5. Functions that read what analysts may not are SECURITY DEFINER with a fixed search_path, and leave out what the
--    views leave out.

CREATE VIEW tags.reason AS
SELECT r.code::smallint, r.state, r.reason, r.meaning FROM (VALUES
    (0, NULL, 'none', 'Nothing has been said about it yet, or there is nothing to say.'),
    (1, 'succeeded', 'tagged', 'At least one tag is shown.'),
    (2, 'succeeded', 'abstained', 'The model has seen it, and nothing was certain enough to show.'),
    (10, 'failed', 'unsupported', 'No image format that is read.'),
    (11, 'failed', 'too_large', 'More bytes or pixels than are accepted.'),
    (12, 'failed', 'corrupt', 'An image, but broken or cut off.'),
    (13, 'failed', 'gone', 'Deleted between listing and reading.'),
    (14, 'failed', 'quarantined', 'It killed the process that touched it, twice.'),
    (15, 'failed', 'model_error', 'What the model said of it was not finite.'),
    (16, 'failed', 'infrastructure', 'A server did not answer for a whole day.'),
    (17, 'failed', 'forbidden', 'It may not be read, though its place may.'),
    (20, 'excluded', 'no_user', 'Its key does not say whose it is.'),
    (21, 'excluded', 'not_a_photo', 'A folder marker, no object of its own.'),
    (22, 'excluded', 'bad_line', 'A line of a manifest that cannot be read.'),
    (23, 'excluded', 'bad_key', 'A name that is not valid UTF-8 or holds a NUL.'),
    (24, 'excluded', 'outside', 'It lies outside of the places that may be read.'),
    (25, 'excluded', 'not_chosen', 'A rule of the job leaves it out.'),
    (26, 'excluded', 'no_consent', 'The job wants consent, and there is none.'),
    (30, 'duplicate', 'listed_twice', 'The same object came twice in one job.'),
    (31, 'duplicate', 'same_content', 'The same bytes were seen before; their tags are its tags.')
) AS r(code, state, reason, meaning);

CREATE VIEW tags.model AS
SELECT m.model_id, m.name AS model, encode(m.fingerprint, 'hex') AS fingerprint, t.name AS taxonomy, t.labels,
       m.created_at AS registered_at, coalesce(m.model_id = newest.model_id, false) AS active, own.promoted_at,
       own.promoted_by, d.revision AS decision_revision, round(d.threshold / 10000.0, 4) AS threshold, m.dropped_at,
       coalesce((SELECT sum(c.mass) / 10000 FROM core.category_total c
                 WHERE c.model_id = m.model_id AND c.node = root.node), 0)::bigint AS photos
FROM core.model m JOIN core.taxonomy t USING (taxonomy_id)
JOIN core.taxonomy_category root ON root.taxonomy_id = m.taxonomy_id AND root.position = 0
LEFT JOIN core.active_model newest ON true
LEFT JOIN LATERAL (SELECT promoted_at, promoted_by FROM core.promotion p WHERE p.model_id = m.model_id
                   ORDER BY promotion_id DESC LIMIT 1) AS own ON true
LEFT JOIN LATERAL (SELECT revision, threshold FROM core.decision d WHERE d.model_id = m.model_id
                   ORDER BY revision DESC LIMIT 1) AS d ON true;

-- Levels are steps down the display tree that say something: categories that may be a tag of somebody. They are worked
-- out once per query, downward from the root, and only where l1 to l4 are asked for: grouped by one key they are known to
-- be one row per category, so that the join to them is left out where nothing is taken from it.
CREATE VIEW core.category_level AS
WITH RECURSIVE place AS (
    SELECT m.model_id, t.node, t.display_parent, c.name,
           (t.shown_as = t.node AND t.leaf_count < x.labels * coalesce(d.vague_share, 0.4))::int AS step
    FROM core.model m JOIN core.taxonomy x USING (taxonomy_id) JOIN core.taxonomy_category t USING (taxonomy_id)
    JOIN core.category c ON c.node = t.node
    LEFT JOIN LATERAL (SELECT vague_share FROM core.decision d WHERE d.model_id = m.model_id
                       ORDER BY revision DESC LIMIT 1) AS d ON true
    WHERE NOT c.area_only
), drawn AS (
    SELECT model_id, node, 0 AS level, NULL::text AS l1, NULL::text AS l2, NULL::text AS l3, NULL::text AS l4
    FROM place WHERE display_parent IS NULL
    UNION ALL
    SELECT p.model_id, p.node, d.level + p.step,
           CASE WHEN (d.level, p.step) = (0, 1) THEN p.name ELSE d.l1 END,
           CASE WHEN (d.level, p.step) = (1, 1) THEN p.name ELSE d.l2 END,
           CASE WHEN (d.level, p.step) = (2, 1) THEN p.name ELSE d.l3 END,
           CASE WHEN (d.level, p.step) = (3, 1) THEN p.name ELSE d.l4 END
    FROM drawn d JOIN place p ON (p.model_id, p.display_parent) = (d.model_id, d.node))
SELECT model_id::integer * 65536 + node AS key, min(l1) AS l1, min(l2) AS l2, min(l3) AS l3, min(l4) AS l4
FROM drawn GROUP BY 1;

CREATE VIEW tags.category_all_models AS
SELECT m.name AS model, m.model_id, c.node, c.wnid, c.name,
       ARRAY(SELECT replace(l, '_', ' ') FROM unnest(c.lemmas) AS l WHERE replace(l, '_', ' ') <> c.name) AS aliases,
       c.gloss, t.depth, t.bits, t.leaf_count AS labels, parent.wnid AS parent_wnid, shown.wnid AS shown_as_wnid,
       level.l1, level.l2, level.l3, level.l4
FROM core.model m JOIN core.taxonomy_category t USING (taxonomy_id) JOIN core.category c ON c.node = t.node
LEFT JOIN core.category parent ON parent.node = t.display_parent
LEFT JOIN core.category shown ON shown.node = t.shown_as
LEFT JOIN core.category_level level ON level.key = m.model_id::integer * 65536 + c.node
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (t.taxonomy_id, t.node)
WHERE NOT c.area_only AND NOT coalesce(e.hidden, false) AND m.dropped_at IS NULL;

CREATE VIEW tags.category AS
SELECT * FROM tags.category_all_models
WHERE model_id = (SELECT model_id FROM core.active_model);

CREATE VIEW tags.category_closure AS
SELECT a.node AS ancestor, d.node AS descendant, t.distance, a.wnid AS ancestor_wnid, a.name AS ancestor_name,
       d.wnid AS descendant_wnid, d.name AS descendant_name
FROM core.model m JOIN core.category_closure t USING (taxonomy_id)
JOIN core.category a ON a.node = t.ancestor JOIN core.category d ON d.node = t.descendant
WHERE m.model_id = (SELECT model_id FROM core.active_model)
  AND NOT EXISTS (SELECT FROM core.active_effect e WHERE e.taxonomy_id = m.taxonomy_id AND e.hidden
                  AND e.node IN (t.ancestor, t.descendant));

CREATE VIEW tags.photo_all_models WITH (security_barrier) AS
SELECT m.name AS model, m.model_id, p.photo_id, u.name AS "user", b.uri AS bucket, p.key, p.taken_at,
       (ARRAY['object', 'exif', 'manifest'])[p.taken_from + 1] AS taken_from, p.created_at AS listed_at,
       CASE WHEN r.outcome IS NULL THEN 'awaiting' WHEN r.outcome = 1 THEN 'tagged' WHEN r.outcome = 2 THEN 'abstained'
            ELSE 'failed' END AS outcome,
       CASE WHEN r.outcome > 2 THEN s.reason END AS reason,
       c.node AS headline_node, c.wnid AS headline_wnid, c.name AS headline,
       coalesce(r.content_rev < p.content_rev, false) AS stale, r.decision_rev AS decision_revision
FROM core.photo p JOIN core.app_user u USING (user_id) JOIN core.bucket b USING (bucket_id) CROSS JOIN core.model m
LEFT JOIN core.photo_result r ON r.model_id = m.model_id AND r.photo_id = p.photo_id
LEFT JOIN tags.reason s ON s.code = r.outcome
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, r.headline) AND e.hidden
LEFT JOIN core.active_effect o ON (o.taxonomy_id, o.node) = (m.taxonomy_id, coalesce(e.shown_as, r.headline))
LEFT JOIN core.category c ON c.node = coalesce(e.shown_as, r.headline) AND c.node = ANY (r.tags)
                         AND NOT coalesce(r.tags && o.owed_to, false)
WHERE u.deleted_at IS NULL AND p.gone_at IS NULL AND m.dropped_at IS NULL;

CREATE VIEW tags.photo WITH (security_barrier) AS
SELECT * FROM tags.photo_all_models
WHERE model_id = (SELECT model_id FROM core.active_model);

CREATE VIEW tags.photo_tag_all_models WITH (security_barrier) AS
SELECT m.name AS model, m.model_id, r.photo_id, u.name AS "user", c.node, c.wnid, c.name,
       round((r.masses[array_position(r.nodes, c.node)] - coalesce(owed.mass, 0)) / 10000.0, 4) AS probability,
       coalesce(c.node = CASE WHEN h.hidden IS NULL THEN r.headline ELSE h.shown_as END, false) AS headline,
       p.key, p.taken_at
FROM core.photo_result r JOIN core.model m USING (model_id) JOIN core.app_user u ON u.user_id = r.user_id
LEFT JOIN core.photo p ON p.photo_id = r.photo_id
CROSS JOIN LATERAL unnest(r.tags) AS t(node) JOIN core.category c ON c.node = t.node
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, c.node)
LEFT JOIN core.active_effect h ON (h.taxonomy_id, h.node) = (m.taxonomy_id, r.headline) AND h.hidden
LEFT JOIN LATERAL (
    SELECT sum(x.times * r.masses[array_position(r.nodes, x.node)]) AS mass FROM unnest(e.minus, e.times) AS x(node, times)
) AS owed ON true
WHERE u.deleted_at IS NULL AND m.dropped_at IS NULL
  AND NOT coalesce(e.hidden, false) AND NOT coalesce(r.tags && e.owed_to, false);

CREATE VIEW tags.photo_tag WITH (security_barrier) AS
SELECT * FROM tags.photo_tag_all_models
WHERE model_id = (SELECT model_id FROM core.active_model);

CREATE VIEW tags.user_category_all_models WITH (security_barrier) AS
SELECT m.name AS model, m.model_id, u.name AS "user", c.node, c.wnid, c.name,
       greatest(0, t.photos - coalesce(owed.photos, 0))::bigint AS photos,
       round((t.mass - coalesce(owed.mass, 0)) / 10000.0, 4) AS mass
FROM core.user_category t JOIN core.model m USING (model_id) JOIN core.app_user u USING (user_id)
JOIN core.category c ON c.node = t.node
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, t.node)
LEFT JOIN LATERAL (
    SELECT sum(x.times * d.photos) AS photos, sum(x.times * d.mass) AS mass
    FROM unnest(e.minus, e.times) AS x(node, times)
    JOIN core.user_category d ON (d.model_id, d.user_id, d.node) = (t.model_id, t.user_id, x.node)
) AS owed ON true
WHERE NOT c.area_only AND t.mass > coalesce(owed.mass, 0) AND NOT coalesce(e.hidden, false) AND u.deleted_at IS NULL
  AND m.dropped_at IS NULL;

CREATE VIEW tags.user_category WITH (security_barrier) AS
SELECT * FROM tags.user_category_all_models
WHERE model_id = (SELECT model_id FROM core.active_model);

-- A photo lies in one month, so months add up to user_category, in both counts. Users are grouped by their name, so that a
-- condition on it is met before anything is added up.
CREATE VIEW tags.user_category_monthly WITH (security_barrier) AS
SELECT h.model, h.model_id, h."user", h.month, c.node, c.wnid, c.name, h.photos,
       round(h.mass / 10000.0, 4) AS mass
FROM (
    SELECT m.name AS model, m.model_id, u.name AS "user",
           date_trunc('month', p.taken_at AT TIME ZONE 'UTC')::date AS month,
           n.node, count(*) FILTER (WHERE n.node = ANY (r.tags) AND NOT coalesce(r.tags && e.owed_to, false)) AS photos,
           sum(n.mass - coalesce(owed.mass, 0)) AS mass
    FROM core.photo_result r JOIN core.model m USING (model_id) JOIN core.photo p USING (photo_id)
    JOIN core.app_user u ON u.user_id = r.user_id CROSS JOIN LATERAL unnest(r.nodes, r.masses) AS n(node, mass)
    LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, n.node)
    LEFT JOIN LATERAL (
        SELECT sum(x.times * r.masses[array_position(r.nodes, x.node)]) AS mass
        FROM unnest(e.minus, e.times) AS x(node, times)
    ) AS owed ON true
    WHERE m.model_id = (SELECT model_id FROM core.active_model)
      AND NOT coalesce(e.hidden, false) AND u.deleted_at IS NULL
    GROUP BY 1, 2, 3, 4, 5) AS h
JOIN core.category c ON c.node = h.node
WHERE NOT c.area_only AND h.mass > 0;

-- One category reads its 64 slots, whatever it is asked for by.
CREATE VIEW tags.category_total_all_models WITH (security_barrier) AS
SELECT m.name AS model, m.model_id, c.node, c.wnid, c.name,
       greatest(0, t.photos - coalesce(owed.photos, 0))::bigint AS photos,
       round((t.mass - coalesce(owed.mass, 0)) / 10000.0, 4) AS mass
FROM core.model m JOIN core.taxonomy_category place USING (taxonomy_id) JOIN core.category c ON c.node = place.node
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, c.node)
CROSS JOIN LATERAL (
    SELECT sum(s.photos) AS photos, sum(s.mass) AS mass FROM core.category_total s
    WHERE s.model_id = m.model_id AND s.node = c.node
) AS t
LEFT JOIN LATERAL (
    SELECT sum(x.times * d.photos) AS photos, sum(x.times * d.mass) AS mass
    FROM unnest(e.minus, e.times) AS x(node, times)
    JOIN core.category_total d ON d.model_id = m.model_id AND d.node = x.node
) AS owed ON true
WHERE NOT c.area_only AND t.mass > coalesce(owed.mass, 0) AND NOT coalesce(e.hidden, false) AND m.dropped_at IS NULL;

CREATE VIEW tags.category_total WITH (security_barrier) AS
SELECT * FROM tags.category_total_all_models
WHERE model_id = (SELECT model_id FROM core.active_model);

CREATE VIEW tags.job AS
SELECT j.job_id, j.kind,
       CASE WHEN j.kind = 'ledger' AND j.source LIKE 'user:%' AND EXISTS (
           SELECT FROM core.app_user u WHERE u.name = substr(j.source, 6) AND u.deleted_at IS NOT NULL)
           THEN 'user:' ELSE j.source END AS source,
       m.name AS model, j.model_id, j.scope, j.priority,
       CASE j.state WHEN 0 THEN 'created' WHEN 1 THEN 'running' WHEN 2 THEN 'paused' WHEN 3 THEN 'cancelling'
                    WHEN 10 THEN 'succeeded' WHEN 11 THEN 'succeeded_with_errors' WHEN 12 THEN 'failed'
                    WHEN 13 THEN 'cancelled' END AS state,
       j.error, n.total, n.open, n.tagged, n.abstained, n.failed, n.skipped_unchanged, n.duplicate, n.excluded,
       n.cancelled, n.erased, j.subtracted, j.created_at, j.started_at, j.finished_at, j.paused_by, j.paused_at,
       j.pause_reason, j.pause_until, j.cancelled_by, j.retry_of, s.name AS schedule
FROM core.job j JOIN core.model m USING (model_id) LEFT JOIN core.schedule s USING (schedule_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(photos), 0)::bigint AS total,
           coalesce(sum(photos) FILTER (WHERE state IN (0, 1)), 0)::bigint AS open,
           coalesce(sum(photos) FILTER (WHERE state = 2 AND code = 1), 0)::bigint AS tagged,
           coalesce(sum(photos) FILTER (WHERE state = 2 AND code <> 1), 0)::bigint AS abstained,
           coalesce(sum(photos) FILTER (WHERE state = 3), 0)::bigint AS failed,
           coalesce(sum(photos) FILTER (WHERE state = 4), 0)::bigint AS skipped_unchanged,
           coalesce(sum(photos) FILTER (WHERE state = 5), 0)::bigint AS duplicate,
           coalesce(sum(photos) FILTER (WHERE state = 6), 0)::bigint AS excluded,
           coalesce(sum(photos) FILTER (WHERE state = 7), 0)::bigint AS cancelled,
           coalesce(sum(photos) FILTER (WHERE state = 8), 0)::bigint AS erased
    FROM core.job_count c WHERE c.job_id = j.job_id) AS n;

CREATE VIEW tags.job_item WITH (security_barrier) AS
SELECT i.job_id, i.photo_id, u.name AS "user",
       (ARRAY['pending', 'retry', 'succeeded', 'failed', 'skipped_unchanged', 'duplicate', 'excluded', 'cancelled',
              'erased'])[i.state + 1] AS state,
       nullif(s.reason, 'none') AS reason, i.attempts, i.message, i.first_retry_at, i.next_attempt_at
FROM core.job_item i JOIN core.photo p USING (photo_id) JOIN core.app_user u USING (user_id)
LEFT JOIN tags.reason s ON s.code = i.code
WHERE u.deleted_at IS NULL;

-- What must never be; of a model that is being dropped, totals may be there without results. Results are compared along edges of the graph, whose ancestors are one step away.
CREATE VIEW tags.incoherence WITH (security_barrier) AS
SELECT f.kind, f.model_id, f.photo_id, u.name AS "user", CASE WHEN e.hidden IS NULL THEN c.wnid END AS wnid,
       CASE WHEN e.hidden IS NULL THEN f.detail ELSE 'of a category that the policy hides' END AS detail
FROM (
    SELECT 'parent below child' AS kind, r.model_id, r.photo_id, NULL::bigint AS user_id, r.node,
           format('%s has %s and %s above it %s', child.name, r.mass, parent.name,
                  coalesce(r.masses[array_position(r.nodes, edge.ancestor)], 0)) AS detail
    FROM (SELECT model_id, photo_id, nodes, masses, unnest(nodes) AS node, unnest(masses) AS mass
          FROM core.photo_result) AS r
    JOIN core.model m USING (model_id)
    JOIN core.category_closure edge ON (edge.taxonomy_id, edge.descendant) = (m.taxonomy_id, r.node)
                                   AND edge.distance = 1
    JOIN core.category child ON child.node = r.node JOIN core.category parent ON parent.node = edge.ancestor
    WHERE coalesce(r.masses[array_position(r.nodes, edge.ancestor)], 0) < r.mass
    UNION ALL
    SELECT 'root not 10000', r.model_id, r.photo_id, NULL, root.node,
           format('%s has %s', c.name, coalesce(r.masses[array_position(r.nodes, root.node)]::text, 'nothing'))
    FROM core.photo_result r JOIN core.model m USING (model_id)
    JOIN core.taxonomy_category root ON root.taxonomy_id = m.taxonomy_id AND root.position = 0
    JOIN core.category c ON c.node = root.node
    WHERE r.outcome IN (1, 2) AND r.masses[array_position(r.nodes, root.node)] IS DISTINCT FROM 10000
    UNION ALL
    SELECT 'total unlike recount', model_id, NULL, user_id, node,
           format('said to have %s photos and a mass of %s, and has %s and %s', coalesce(t.photos, 0),
                  coalesce(t.mass, 0), coalesce(n.photos, 0), coalesce(n.mass, 0))
    FROM (SELECT model_id, user_id, node, count(*) FILTER (WHERE node = ANY (tags)) AS photos,
                 sum(mass)::bigint AS mass
          FROM (SELECT model_id, user_id, tags, unnest(nodes) AS node, unnest(masses) AS mass
                FROM core.photo_result) AS r
          GROUP BY 1, 2, 3) AS n
    FULL JOIN core.user_category t USING (model_id, user_id, node)
    WHERE (coalesce(n.photos, 0), coalesce(n.mass, 0)) <> (coalesce(t.photos, 0), coalesce(t.mass, 0))
    UNION ALL
    SELECT 'total unlike recount', model_id, NULL, NULL, node,
           format('said to have %s photos and a mass of %s, and its users have %s and %s', coalesce(t.photos, 0),
                  coalesce(t.mass, 0), coalesce(n.photos, 0), coalesce(n.mass, 0))
    FROM (SELECT model_id, node, sum(photos) AS photos, sum(mass) AS mass FROM core.user_category GROUP BY 1, 2) AS n
    FULL JOIN (SELECT model_id, node, sum(photos) AS photos, sum(mass) AS mass FROM core.category_total
               GROUP BY 1, 2) AS t USING (model_id, node)
    WHERE (coalesce(n.photos, 0), coalesce(n.mass, 0)) <> (coalesce(t.photos, 0), coalesce(t.mass, 0))
    UNION ALL
    SELECT 'duplicate key', model_id, photo_id, NULL, NULL, format('%s results of one photo', count(*))
    FROM core.photo_result GROUP BY 2, 3 HAVING count(*) > 1
    UNION ALL
    SELECT 'duplicate key', r.model_id, r.photo_id, NULL, NULL, 'a category twice in one result'
    FROM core.photo_result r
    WHERE (SELECT count(*) > count(DISTINCT n) FROM unnest(r.nodes) AS n)
       OR (SELECT count(*) > count(DISTINCT n) FROM unnest(r.tags) AS n)
    UNION ALL
    SELECT 'tag without category', r.model_id, r.photo_id, NULL, r.node,
           format('tag %s %s', r.node, CASE WHEN place.node IS NULL THEN 'is not in the model''s taxonomy'
                                            WHEN c.area_only THEN 'is an area and no category'
                                            ELSE 'has no mass in the photo' END)
    FROM (SELECT model_id, photo_id, nodes, unnest(tags) AS node FROM core.photo_result) AS r
    JOIN core.model m USING (model_id) LEFT JOIN core.category c ON c.node = r.node
    LEFT JOIN core.taxonomy_category place ON (place.taxonomy_id, place.node) = (m.taxonomy_id, r.node)
    WHERE place.node IS NULL OR c.node IS NULL OR c.area_only OR NOT r.node = ANY (r.nodes)
) AS f JOIN core.model m USING (model_id)
LEFT JOIN core.category c ON c.node = f.node
LEFT JOIN core.app_user u ON u.user_id = f.user_id AND u.deleted_at IS NULL
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, f.node) AND e.hidden
WHERE m.dropped_at IS NULL;

CREATE VIEW tags.data_quality WITH (security_barrier) AS
WITH outcomes AS (
    SELECT outcome, reason, count(*) AS photos, count(*) FILTER (WHERE stale) AS stale FROM tags.photo GROUP BY 1, 2)
SELECT 'photos' AS measure, NULL::text AS detail, coalesce(sum(photos), 0)::bigint AS photos, NULL::timestamptz AS moment
FROM outcomes
UNION ALL SELECT 'tagged', NULL, coalesce(sum(photos), 0)::bigint, NULL FROM outcomes WHERE outcome = 'tagged'
UNION ALL SELECT 'untagged', coalesce(reason, outcome), photos, NULL FROM outcomes WHERE outcome IN ('abstained', 'failed')
UNION ALL SELECT 'awaiting', NULL, coalesce(sum(photos), 0)::bigint, NULL FROM outcomes WHERE outcome = 'awaiting'
UNION ALL SELECT 'stale', NULL, coalesce(sum(stale), 0)::bigint, NULL FROM outcomes
UNION ALL SELECT * FROM (  -- so that a condition on measure can be asked of each part before it is worked out
    SELECT 'newest job', format('job %s, %s', job_id, state), total, coalesce(finished_at, started_at, created_at)
    FROM tags.job ORDER BY job_id DESC LIMIT 1) AS newest
UNION ALL SELECT 'incoherence', k.kind, coalesce(n.rows, 0), NULL
FROM (VALUES ('parent below child'), ('root not 10000'), ('total unlike recount'), ('duplicate key'),
             ('tag without category')) AS k(kind)
LEFT JOIN (SELECT kind, count(*) AS rows FROM tags.incoherence GROUP BY 1) AS n USING (kind);

-- ---- functions

-- category_id and nodes_below read tables and are called IMMUTABLE all the same, so that a word in a query is looked up
-- once, when the query is planned: STABLE, it was looked up for every row that a condition meets, a millisecond each.
-- Price: a prepared query keeps what it found, across a promotion or a new policy, until its session ends. What
-- is hidden since is hidden by the views themselves.
CREATE FUNCTION tags.category_id(category text) RETURNS smallint
LANGUAGE plpgsql IMMUTABLE STRICT SECURITY DEFINER COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted text := lower(replace(btrim(category), '_', ' '));
    taxonomy smallint := (SELECT m.taxonomy_id FROM core.active_model m);
    found smallint[];
    senses text;
BEGIN
    IF wanted ~ '^n[0-9]{8}$' THEN
        found := ARRAY(SELECT c.node FROM core.category c WHERE c.wnid = wanted AND NOT c.area_only);
    ELSE
        found := ARRAY(SELECT c.node FROM core.category c
                       WHERE NOT c.area_only AND wanted !~ '[|]' AND (lower(c.name) = wanted OR position(
                           '|' || wanted || '|' IN
                           '|' || replace(lower(array_to_string(c.lemmas, '|')), '_', ' ') || '|') > 0));
    END IF;
    found := ARRAY(SELECT t.node FROM core.taxonomy_category t
                   WHERE t.taxonomy_id = taxonomy AND t.node = ANY (found)
                     AND NOT EXISTS (SELECT FROM core.active_effect e WHERE e.taxonomy_id = t.taxonomy_id
                                     AND e.node = t.node AND e.hidden) ORDER BY t.position);
    IF cardinality(found) = 1 THEN
        RETURN found[1];
    END IF;
    IF cardinality(found) > 1 THEN
        SELECT string_agg(format('%s %s (%s)', c.wnid, c.name, c.gloss), '; ' ORDER BY c.wnid) INTO senses
        FROM core.category c WHERE c.node = ANY (found);
        RAISE EXCEPTION '% has % senses: %.', quote_literal(category), cardinality(found), senses
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Name one by its synset id.';
    END IF;
    RAISE EXCEPTION 'There is no category %.', quote_literal(category)
    USING ERRCODE = 'invalid_parameter_value', HINT = coalesce(
        'Near names: ' || array_to_string(tags.near_names(category), ', ') || '.', 'Try a more general word.');
END $$;

-- By the share of common trigrams, as pg_trgm has it, without needing an extension.
CREATE FUNCTION tags.near_names(category text) RETURNS text[]
LANGUAGE sql STABLE STRICT SECURITY DEFINER COST 100000 SET search_path = pg_catalog, pg_temp AS $$
WITH words AS (
    SELECT DISTINCT c.name, word FROM core.active_model m JOIN core.taxonomy_category t USING (taxonomy_id)
    JOIN core.category c USING (node)
    CROSS JOIN LATERAL (SELECT c.name AS word UNION SELECT replace(l, '_', ' ') FROM unnest(c.lemmas) AS l) AS w
    WHERE NOT c.area_only AND NOT EXISTS (
          SELECT FROM core.active_effect e WHERE (e.taxonomy_id, e.node) = (t.taxonomy_id, t.node) AND e.hidden)
), pieces AS (
    SELECT DISTINCT name, word, substr('  ' || lower(word) || ' ', i, 3) AS piece
    FROM words, generate_series(1, length(word) + 1) AS i
), asked AS (
    SELECT DISTINCT substr('  ' || lower(replace(category, '_', ' ')) || ' ', i, 3) AS piece
    FROM generate_series(1, length(category) + 1) AS i
), alike AS (
    SELECT name, count(asked.piece)::float8 / (count(*) + (SELECT count(*) FROM asked) - count(asked.piece)) AS share
    FROM pieces LEFT JOIN asked USING (piece) GROUP BY name, word)
SELECT array_agg(name ORDER BY share DESC, name)
FROM (SELECT name, max(share) AS share FROM alike GROUP BY 1 HAVING max(share) > 0.25 ORDER BY 2 DESC, 1 LIMIT 5) AS best
$$;

CREATE FUNCTION tags.nodes_below(category text) RETURNS smallint[]
LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER COST 10000 SET search_path = pg_catalog, pg_temp AS $$
SELECT array_agg(t.descendant ORDER BY t.descendant) FROM core.category_closure t
WHERE t.ancestor = (SELECT tags.category_id(category)) AND t.taxonomy_id = (SELECT m.taxonomy_id FROM core.active_model m)
  AND NOT EXISTS (SELECT FROM core.active_effect e WHERE (e.taxonomy_id, e.node) = (t.taxonomy_id, t.descendant)
                  AND e.hidden)
$$;

-- Plain expressions, so that they are put in the query's place: what nodes_below finds is then a constant of the plan.
CREATE FUNCTION tags.descends_from(node smallint, category text) RETURNS boolean
LANGUAGE sql STABLE AS $$ SELECT node = ANY (tags.nodes_below(category)) $$;

CREATE FUNCTION tags.descends_from(node integer, category text) RETURNS boolean
LANGUAGE sql STABLE AS $$ SELECT node = ANY (tags.nodes_below(category)) $$;

CREATE FUNCTION tags.descends_from(descendant text, category text) RETURNS boolean
LANGUAGE sql STABLE AS $$ SELECT tags.category_id(descendant) = ANY (tags.nodes_below(category)) $$;

CREATE FUNCTION tags.photos_with(VARIADIC categories text[])
RETURNS TABLE (photo_id bigint, "user" text, bucket text, key text, taken_at timestamptz, probability numeric)
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    active core.active_model := (SELECT m FROM core.active_model m);
    -- Of categories with the same labels one is the tag; a hidden one does not stand for others.
    wanted smallint[] := ARRAY(
        SELECT DISTINCT CASE WHEN e.hidden THEN named.node ELSE coalesce(place.shown_as, named.node) END
        FROM (SELECT tags.category_id(word) AS node FROM unnest(categories) AS word) AS named
        LEFT JOIN core.taxonomy_category place ON (place.taxonomy_id, place.node) = (active.taxonomy_id, named.node)
        LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (place.taxonomy_id, place.shown_as));
    owed smallint[] := ARRAY(SELECT unnest(e.owed_to) FROM core.active_effect e
                             WHERE e.taxonomy_id = active.taxonomy_id AND e.node = ANY (wanted));
BEGIN
    IF cardinality(categories) = 0 THEN
        RAISE EXCEPTION 'No category is named.' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    SELECT r.photo_id, u.name, b.uri, p.key, p.taken_at, (
        SELECT min(round((r.masses[array_position(r.nodes, w)] - coalesce((
            SELECT sum(x.times * r.masses[array_position(r.nodes, x.node)])
            FROM core.active_effect e, unnest(e.minus, e.times) AS x(node, times)
            WHERE (e.taxonomy_id, e.node) = (active.taxonomy_id, w)), 0)) / 10000.0, 4)) FROM unnest(wanted) AS w)
    FROM core.photo_result r JOIN core.photo p USING (photo_id) JOIN core.bucket b USING (bucket_id)
    JOIN core.app_user u ON u.user_id = r.user_id
    WHERE r.model_id = active.model_id AND r.tags @> wanted AND NOT r.tags && owed AND u.deleted_at IS NULL
      AND p.gone_at IS NULL;
END $$;
