SELECT model, model_id, "user", node, wnid, name, photos, mass, month
FROM {{ source('tags', 'user_category_monthly') }}
