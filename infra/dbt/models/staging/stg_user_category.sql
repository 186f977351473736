SELECT model, model_id, "user", node, wnid, name, photos, mass
FROM {{ source('tags', 'user_category') }}
