-- Photos of a category for the API, through the eyes of whoever asks. Run by 0009_api.py.
--
-- No operator on arrays is leakproof, so behind row-level security an index on tags serves nobody: `tags @> ...` would be
-- asked of rows one by one. These functions look as their owner instead, and say themselves what row-level security
-- says, by the same settings: everybody's rows, or those of one user and, for a gallery, of users who consent
-- (`shared` where they are counted, so that lists are as long as counts say). Who says
-- nothing finds nothing. What they give are ids, to be read again behind row-level security.

-- `own`: of the user alone for whom the transaction reads. `least_mass`: with at least this mass in the category, in
-- ten-thousandths. The category is one that stands for all with its labels; policies hold.
CREATE FUNCTION core.photos_of_category(category smallint, own boolean, least_mass smallint, most integer,
                                        before_at timestamptz, before_id bigint)
RETURNS TABLE (photo_id bigint, taken_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 700;  -- as in core.newest: where so few are expected, it looks at all photos of the category
    everybody CONSTANT boolean := coalesce(current_setting('pictograph.tenant', true) = 'on', false);
    gallery CONSTANT boolean := coalesce(current_setting('pictograph.shared', true) = 'on', false);
    viewer CONSTANT bigint := (
        SELECT u.user_id FROM core.app_user u
        WHERE u.name = nullif(current_setting('pictograph.user', true), '') AND u.deleted_at IS NULL);
    active core.active_model;
    effect core.active_effect;
    stored text;
    carries text := format('r.tags @> ARRAY[%s]::smallint[]', category);
    also text := 'true';  -- of the result s
    held numeric;
    expected numeric;
    seen numeric;
    root smallint;
    by_time numeric;
    by_user numeric;
    whom bigint[];
BEGIN
    SELECT m.* INTO active FROM core.active_model m;
    SELECT e.* INTO effect FROM core.active_effect e WHERE (e.taxonomy_id, e.node) = (active.taxonomy_id, category);
    IF effect.hidden THEN
        RETURN;
    END IF;
    stored := format('core.photo_result_%s', active.model_id);
    root := (SELECT p.node FROM core.taxonomy_category p WHERE (p.taxonomy_id, p.position) = (active.taxonomy_id, 0));
    IF effect.owed_to <> '{}' THEN
        carries := carries || format(' AND NOT r.tags && %L::smallint[]', effect.owed_to);
    END IF;
    IF least_mass > 0 THEN
        also := format(
            's.masses[array_position(s.nodes, %s::smallint)] - coalesce((
                 SELECT sum(x.times * s.masses[array_position(s.nodes, x.node)])
                 FROM unnest(%L::smallint[], %L::smallint[]) AS x(node, times)), 0) >= %s',
            category, coalesce(effect.minus, '{}'), coalesce(effect.times, '{}'), least_mass);
    END IF;

    SELECT coalesce(sum(t.photos), 0) INTO expected FROM core.category_total t
    WHERE (t.model_id, t.node) = (active.model_id, category);
    IF NOT everybody OR own THEN
        seen := coalesce((SELECT c.photos FROM core.user_category c
                          WHERE (c.model_id, c.user_id, c.node) = (active.model_id, viewer, category)), 0);
        IF gallery AND NOT own THEN
            seen := seen + coalesce((SELECT sum(t.photos) FROM core.shared_total t
                                     WHERE (t.model_id, t.node) = (active.model_id, category)), 0);
        END IF;
        IF seen = 0 THEN
            RETURN;
        END IF;
        -- Photos to be looked at: down from the newest of everybody's until enough are met, or those of whoever consents.
        -- An entry of an index that leads to no photo costs a tenth of one, and less in a long list.
        by_time := CASE WHEN seen <= few THEN expected ELSE least(expected, 3 * most * expected / seen) END;
        by_user := seen + expected / 20 + (
            SELECT coalesce(sum(t.mass), 0) / 100000 FROM core.shared_total t
            WHERE (t.model_id, t.node) = (active.model_id, root));
        IF own OR NOT gallery THEN
            whom := ARRAY[viewer];
        ELSIF by_user < by_time THEN
            whom := ARRAY(
                SELECT c.user_id FROM core.app_user u JOIN core.user_category c
                    ON (c.model_id, c.user_id, c.node) = (active.model_id, u.user_id, category)
                WHERE u.shared AND c.photos > 0
                UNION SELECT viewer WHERE viewer IS NOT NULL);
        ELSE
            also := also || format(
                ' AND coalesce(s.user_id = %L::bigint OR EXISTS (
                      SELECT FROM core.app_user o WHERE o.user_id = s.user_id AND o.shared), false)', viewer);
            expected := seen;
        END IF;
    END IF;

    IF whom IS NOT NULL THEN
        RETURN QUERY EXECUTE format(
            'WITH found AS MATERIALIZED (
                 SELECT r.photo_id, r.user_id, r.taken_at FROM %1$s r WHERE r.user_id = ANY ($4) AND %2$s
                     AND (SELECT %3$s FROM %1$s s WHERE s.model_id = r.model_id AND s.photo_id = r.photo_id))
             SELECT r.photo_id, r.taken_at FROM found r
             WHERE NOT EXISTS (SELECT FROM core.app_user u WHERE u.user_id = r.user_id AND u.deleted_at IS NOT NULL)
               AND (r.taken_at, r.photo_id) < ($2, $3)
             ORDER BY r.taken_at DESC, r.photo_id DESC LIMIT $1', stored, carries, also)
        USING most, coalesce(before_at, 'infinity'), coalesce(before_id, 0), whom;
        RETURN;
    END IF;
    SELECT sum(t.mass) / 10000 INTO held FROM core.category_total t
    WHERE (t.model_id, t.node) = (active.model_id, root);
    RETURN QUERY SELECT n.photo_id, n.taken_at
                 FROM core.newest(active.model_id, carries, expected, held, most, before_at, before_id, false, also) AS n;
END $$;

COMMENT ON FUNCTION core.photos_of_category(smallint, boolean, smallint, integer, timestamptz, bigint) IS
'The newest photos of a category that whoever asks may see, by the time they were taken; see there.';
