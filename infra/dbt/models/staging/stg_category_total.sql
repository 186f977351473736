SELECT model, model_id, node, wnid, name, photos, mass
FROM {{ source('tags', 'category_total') }}
