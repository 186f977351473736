-- The root's mass is the number of photos that the model has seen.
SELECT t.mass, p.photos FROM {{ ref('stg_category_total') }} t
JOIN {{ ref('stg_category') }} c USING (node)
CROSS JOIN (SELECT count(*) AS photos FROM {{ ref('stg_photo') }} WHERE outcome IN ('tagged', 'abstained')) p
WHERE c.depth = 0 AND t.mass <> p.photos
