-- The newest photos of a category, and what else is asked of many photos at once. Run by 0008_newest.py.
--
-- Each way costs what its answer needs, whatever the number of photos. Of a rare category all photos are read. Of a
-- frequent one the newest photos of all are walked by, until enough of it were met, in an index that has their tags.
-- Between the two the index on tags and days finds its photos of the newest days, of as many as should hold a third
-- more than is wanted, then of three times as many, and so on. Which way is taken depends on exact counts and on what
-- was met so far; all of them give the same answer, in pieces that follow each other.

-- The day from which on so large a share of a model's photos were taken, counted back from the end of a day: by what
-- ANALYZE has found (photos become more from year to year), or as if as many came every day where it has not looked yet.
CREATE FUNCTION core.day_before(model smallint, upto date, share double precision, oldest date) RETURNS date
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds timestamptz[];
    parts integer;
    place double precision;  -- among the bounds, from 1
    below integer;
BEGIN
    SELECT s.histogram_bounds::text::timestamptz[] INTO bounds FROM pg_stats s
    WHERE (s.schemaname, s.tablename, s.attname) = ('core', 'photo_result_' || model, 'taken_at');
    parts := cardinality(bounds) - 1;
    IF coalesce(parts, 0) < 1 THEN
        RETURN upto - ceil(share * greatest(1, upto - oldest))::integer + 1;
    END IF;
    below := coalesce((SELECT max(i) FROM generate_series(1, parts) AS i WHERE bounds[i] < timezone('UTC', upto + 1)), 1);
    place := below + least(1, greatest(0, extract(epoch FROM timezone('UTC', upto + 1) - bounds[below])
                                          / greatest(1, extract(epoch FROM bounds[below + 1] - bounds[below])))) - share * parts;
    IF place <= 1 THEN
        RETURN oldest;
    END IF;
    below := least(floor(place)::integer, parts);
    RETURN timezone('UTC', bounds[below] + (place - below) * (bounds[below + 1] - bounds[below]))::date;
END $$;

-- What the index is asked for all days from one to another: whole months as such, and the days before and after them.
CREATE FUNCTION core.days_and_months(first date, last date) RETURNS date[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
WITH month AS (
    SELECT m::date AS first, (m + interval '1 month')::date - 1 AS last
    FROM generate_series(date_trunc('month', first::timestamp), last::timestamp, '1 month') AS m)
SELECT array_agg(CASE WHEN whole THEN month.first - 1000000 ELSE d.day END)
FROM (SELECT *, month.first >= $1 AND month.last <= $2 AS whole FROM month) AS month
CROSS JOIN LATERAL (SELECT CASE WHEN whole THEN month.first ELSE greatest(month.first, $1) + i END AS day
                    FROM generate_series(0, CASE WHEN whole THEN 0 ELSE least(month.last, $2) - greatest(month.first, $1) END) AS i) AS d
$$;

-- `carries` is a condition on the tags of a result r, `also` one on the whole of a result s, put together by those
-- functions that call this one; nobody else may. `expected` says how many photos meet the first at most, or, where
-- several tags are wanted `together`, of how many nobody knows how many carry the others; `held` how many there are.
CREATE FUNCTION core.newest(model smallint, carries text, expected numeric, held numeric, most integer,
                            before_at timestamptz, before_id bigint, together boolean DEFAULT false,
                            also text DEFAULT 'true')
RETURNS TABLE (photo_id bigint, taken_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on AS $$
DECLARE
    far CONSTANT integer := 8000;  -- photos that are walked by, in an index that has their tags
    few CONSTANT integer := 700;  -- photos that are read without looking at days
    stored text := format('core.photo_result_%s', model);
    theirs CONSTANT text := replace(carries, 'r.tags', 's.tags') || ' AND ' || also;
    shown CONSTANT text :=
        'NOT EXISTS (SELECT FROM core.app_user u WHERE u.user_id = s.user_id AND u.deleted_at IS NOT NULL)';
    older CONSTANT text := '(s.taken_at, s.photo_id) < ($2, $3)';
    newest_first CONSTANT text := ' ORDER BY s.taken_at DESC, s.photo_id DESC LIMIT $1';
    missing integer := most;
    met integer;
    oldest timestamptz;
    newest timestamptz;
    upto date;
    share double precision;
    oldest_day date;
    first_day date;
BEGIN
    before_id := coalesce(before_id, CASE WHEN before_at IS NULL THEN 9223372036854775807 ELSE 0 END);
    before_at := coalesce(before_at, 'infinity');

    EXECUTE format('SELECT min(s.taken_at), max(s.taken_at), (SELECT 1 FROM %s n WHERE n.taken_at IS NULL LIMIT 1) FROM %1$s s',
                   stored) INTO oldest, newest, met;
    IF met IS NOT NULL THEN  -- some were stored before results had their times: core.photo has them all
        RETURN QUERY EXECUTE format(
            'SELECT s.photo_id, s.taken_at
             FROM (SELECT n.photo_id, n.user_id, n.nodes, n.masses, n.tags, p.taken_at
                   FROM %s n JOIN core.photo p USING (photo_id)) AS s WHERE %s AND %s AND %s', stored, theirs, shown, older) || newest_first
        USING most, before_at, before_id;
        RETURN;
    END IF;

    IF most * held * 1.5 < far * expected THEN
        PERFORM set_config('enable_bitmapscan', 'off', true);
        -- What that index does not know is looked up for those photos that are found.
        RETURN QUERY EXECUTE format(
            'SELECT s.photo_id, s.taken_at FROM (
                 SELECT s.photo_id, s.tags, s.taken_at FROM %1$s s WHERE %2$s
                 ORDER BY s.taken_at DESC, s.photo_id DESC LIMIT %3$s) AS r
             JOIN LATERAL (SELECT s.* FROM %1$s s WHERE (s.model_id, s.photo_id) = (%4$s, r.photo_id)) AS s ON %5$s AND %6$s
             WHERE %7$s', stored, older, far, model, also, shown, carries)
            || ' ORDER BY r.taken_at DESC, r.photo_id DESC LIMIT $1'
        USING most, before_at, before_id;
        GET DIAGNOSTICS met = ROW_COUNT;
        missing := missing - met;
        IF missing > 0 THEN
            EXECUTE format('SELECT s.taken_at, s.photo_id FROM %s s WHERE %s
                            ORDER BY s.taken_at DESC, s.photo_id DESC LIMIT 1 OFFSET %s', stored, older, far - 1)
            INTO before_at, before_id USING most, before_at, before_id;
            IF before_at IS NULL THEN  -- all were walked by
                RETURN;
            END IF;
        END IF;
        PERFORM set_config('enable_bitmapscan', 'on', true);
    END IF;

    IF missing > 0 AND together AND expected > few THEN  -- of several tags nobody has counted what carries all
        EXECUTE format(
            'WITH found AS MATERIALIZED (SELECT FROM %s s WHERE %s LIMIT %s) SELECT count(*) FROM found',
            stored, theirs, few + 1)
        INTO expected;
    END IF;

    oldest_day := timezone('UTC', oldest)::date;
    upto := timezone('UTC', least(before_at, newest))::date;
    share := CASE WHEN expected > few THEN 1.3 * most / expected END;  -- of all photos; a third more than is wanted
    WHILE missing > 0 AND share < 0.5 AND upto >= oldest_day LOOP
        first_day := greatest(oldest_day, least(upto, core.day_before(model, upto, share, oldest_day)));
        RETURN QUERY EXECUTE format(
            'WITH found AS MATERIALIZED (
                 SELECT s.photo_id, s.user_id, s.taken_at FROM %s s
                 WHERE %s AND ARRAY[timezone(''UTC''::text, s.taken_at)::date,
                     date_trunc(''month''::text, timezone(''UTC''::text, s.taken_at))::date - 1000000] && $4)
             SELECT s.photo_id, s.taken_at FROM found s WHERE %s AND %s', stored, theirs, older, shown) || newest_first
        USING missing, before_at, before_id, core.days_and_months(first_day, upto);
        GET DIAGNOSTICS met = ROW_COUNT;
        missing := missing - met;
        upto := first_day - 1;
        before_at := timezone('UTC', first_day::timestamp);
        before_id := 0;
        share := share * 3;
    END LOOP;
    IF missing > 0 THEN
        RETURN QUERY EXECUTE format(
            'WITH found AS MATERIALIZED (SELECT s.photo_id, s.user_id, s.taken_at FROM %s s WHERE %s)
             SELECT s.photo_id, s.taken_at FROM found s WHERE %s AND %s', stored, theirs, older, shown) || newest_first
        USING missing, before_at, before_id;
    END IF;
END $$;

-- The tags by which photos of a category are known: its own, or that of the category which stands for the same labels;
-- of a category that no photo carries, because it is never shown, the broadest ones below it.
CREATE FUNCTION core.known_by(category smallint) RETURNS smallint[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE reached AS (
    SELECT place.shown_as AS node, EXISTS (
        SELECT FROM core.category_total t
        WHERE (t.model_id, t.node) = (m.model_id, place.shown_as) AND t.photos > 0) AS carried, m.model_id, m.taxonomy_id
    FROM core.active_model m JOIN core.taxonomy_category place ON (place.taxonomy_id, place.node) = (m.taxonomy_id, category)
    UNION
    SELECT place.shown_as, EXISTS (
        SELECT FROM core.category_total t
        WHERE (t.model_id, t.node) = (r.model_id, place.shown_as) AND t.photos > 0), r.model_id, r.taxonomy_id
    FROM reached r
    JOIN core.category_closure below ON (below.taxonomy_id, below.ancestor, below.distance) = (r.taxonomy_id, r.node, 1)
    JOIN core.taxonomy_category place ON (place.taxonomy_id, place.node) = (r.taxonomy_id, below.descendant)
    WHERE NOT r.carried
)
SELECT coalesce(array_agg(r.node), '{}') FROM reached r WHERE r.carried AND NOT EXISTS (
    SELECT FROM core.active_effect e WHERE (e.taxonomy_id, e.node) = (r.taxonomy_id, r.node) AND e.hidden)
$$;

-- A condition on a result r: that it carries all of the wanted tags, and one of those of each further set; a tag that
-- the policy hides along with another one is not carried.
CREATE FUNCTION tags.newest_with_all(categories text[], most integer DEFAULT 100, before_taken_at timestamptz DEFAULT NULL,
                                     before_photo_id bigint DEFAULT NULL)
RETURNS TABLE (photo_id bigint, taken_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    active core.active_model;
    wanted smallint[] := '{}';
    known smallint[];
    owed smallint[];
    carries text := 'true';
    expected numeric;
    held numeric;
    word text;
BEGIN
    IF coalesce(most, 0) < 1 THEN
        RAISE EXCEPTION 'There is nothing to show of % photos.', coalesce(most::text, 'NULL')
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Ask for 1 or more.';
    END IF;
    IF coalesce(cardinality(categories), 0) = 0 THEN
        RAISE EXCEPTION 'No category is named.' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT m.* INTO active FROM core.active_model m;
    FOREACH word IN ARRAY categories LOOP
        known := core.known_by(tags.category_id(word));
        owed := ARRAY(SELECT unnest(e.owed_to) FROM core.active_effect e
                      WHERE e.taxonomy_id = active.taxonomy_id AND e.node = ANY (known));
        IF cardinality(known) = 0 THEN
            RETURN;
        END IF;
        expected := least(expected, (  -- at least so many carry one of them
            SELECT max(n.photos) FROM (SELECT sum(t.photos) AS photos FROM core.category_total t
                                       WHERE t.model_id = active.model_id AND t.node = ANY (known) GROUP BY t.node) AS n));
        IF cardinality(known) = 1 THEN
            wanted := wanted || known;
            IF owed <> '{}' THEN
                carries := carries || format(' AND NOT r.tags && %L::smallint[]', owed);
            END IF;
        ELSIF owed = '{}' THEN
            carries := carries || format(' AND r.tags && %L::smallint[]', known);
        ELSE
            carries := carries || format(
                ' AND EXISTS (SELECT FROM unnest(r.tags) AS t(node)
                              LEFT JOIN core.active_effect e ON e.taxonomy_id = %L AND e.node = t.node
                              WHERE t.node = ANY (%L::smallint[]) AND NOT coalesce(r.tags && e.owed_to, false))',
                active.taxonomy_id, known);
        END IF;
    END LOOP;
    IF wanted <> '{}' THEN
        carries := carries || format(' AND r.tags @> %L::smallint[]', wanted);
    END IF;
    SELECT sum(t.mass) / 10000 INTO held FROM core.category_total t
    WHERE t.model_id = active.model_id AND t.node = (
        SELECT p.node FROM core.taxonomy_category p WHERE p.taxonomy_id = active.taxonomy_id AND p.position = 0);
    RETURN QUERY SELECT n.photo_id, n.taken_at FROM core.newest(
        active.model_id, carries, expected, held, most,
        before_taken_at, before_photo_id, cardinality(categories) > 1) AS n;
END $$;

CREATE FUNCTION tags.newest_photos(category text, most integer DEFAULT 100, before_taken_at timestamptz DEFAULT NULL,
                                   before_photo_id bigint DEFAULT NULL)
RETURNS TABLE (photo_id bigint, taken_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT n.photo_id, n.taken_at FROM tags.newest_with_all(ARRAY[category], most, before_taken_at, before_photo_id) AS n $$;

CREATE FUNCTION tags.top_children(category text, most integer DEFAULT 20)
RETURNS TABLE (node smallint, wnid text, name text, photos bigint, mass numeric)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE asked AS MATERIALIZED (
    SELECT place.taxonomy_id, place.node, place.shown_as
    FROM core.active_model m JOIN core.taxonomy_category place USING (taxonomy_id)
    WHERE place.node = (SELECT tags.category_id(category))
), below AS (
    SELECT c.descendant AS node FROM asked a JOIN core.category_closure c ON (c.taxonomy_id, c.ancestor) = (a.taxonomy_id, a.node)
    WHERE c.distance = 1
    UNION  -- what holds the same labels is shown as the same category: its children are meant
    SELECT c.descendant FROM below b CROSS JOIN asked a
    JOIN core.taxonomy_category place ON (place.taxonomy_id, place.node, place.shown_as) = (a.taxonomy_id, b.node, a.shown_as)
    JOIN core.category_closure c ON (c.taxonomy_id, c.ancestor, c.distance) = (a.taxonomy_id, b.node, 1)
)
SELECT t.node, t.wnid, t.name, t.photos, t.mass FROM tags.category_total t
WHERE t.node = ANY (ARRAY(
    SELECT CASE WHEN e.hidden THEN b.node ELSE place.shown_as END FROM below b CROSS JOIN asked a
    JOIN core.taxonomy_category place ON (place.taxonomy_id, place.node) = (a.taxonomy_id, b.node)
    LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (a.taxonomy_id, place.shown_as)
    WHERE place.shown_as <> a.shown_as))
ORDER BY t.mass DESC, t.node LIMIT most
$$;

COMMENT ON FUNCTION core.newest(smallint, text, numeric, numeric, integer, timestamptz, bigint, boolean, text) IS 'Newest photos of a model whose result meets a condition; see there.';
COMMENT ON FUNCTION core.known_by(smallint) IS 'The tags by which photos of a category are known; empty: there are none.';
COMMENT ON FUNCTION tags.newest_photos(text, integer, timestamptz, bigint) IS 'The newest photos of a category, by the time they were taken, of the active model; at most so many, 100 unless told. Of a category that is never shown as a tag: of all below it. before_taken_at and before_photo_id: of the last row of the page before. Argument as of category_id.';
COMMENT ON FUNCTION tags.newest_with_all(text[], integer, timestamptz, bigint) IS 'The newest photos that carry all of these categories; otherwise as newest_photos.';
COMMENT ON FUNCTION tags.top_children(text, integer) IS 'The categories right below one, as they are shown, with their totals, by mass; at most so many, 20 unless told. photos is not additive over them, mass where they share no label. Argument as of category_id.';
COMMENT ON FUNCTION core.day_before(smallint, date, double precision, date) IS 'The day from which on a share of a model''s photos were taken, about, counted back from a day.';
COMMENT ON FUNCTION core.days_and_months(date, date) IS 'Days and months, as the index on tags and days has them, that make up all days from one to another.';
