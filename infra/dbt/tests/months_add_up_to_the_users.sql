SELECT "user", wnid, t.photos, t.mass, m.photos AS photos_of_months, m.mass AS mass_of_months
FROM {{ ref('stg_user_category') }} t
FULL JOIN (
    SELECT "user", wnid, sum(photos) AS photos, sum(mass) AS mass FROM {{ ref('stg_user_category_monthly') }} GROUP BY 1, 2
) m USING ("user", wnid)
WHERE (t.photos, t.mass) IS DISTINCT FROM (m.photos, m.mass)
