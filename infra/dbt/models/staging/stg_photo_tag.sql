SELECT model, model_id, "user", node, wnid, name, photo_id, probability, headline, key, taken_at
FROM {{ source('tags', 'photo_tag') }}
