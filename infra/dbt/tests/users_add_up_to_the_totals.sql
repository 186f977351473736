-- Both counts add up over users. Under a policy the counts of users who are being erased may still be in the totals.
SELECT wnid, t.photos, t.mass, u.photos AS photos_of_users, u.mass AS mass_of_users
FROM {{ ref('stg_category_total') }} t
FULL JOIN (SELECT wnid, sum(photos) AS photos, sum(mass) AS mass FROM {{ ref('stg_user_category') }} GROUP BY wnid) u USING (wnid)
WHERE (t.photos, t.mass) IS DISTINCT FROM (u.photos, u.mass)
