SELECT model, model_id, photo_id, "user", bucket, key, taken_at, taken_from, listed_at, outcome, reason,
       headline_node, headline_wnid, headline, stale, decision_revision
FROM {{ source('tags', 'photo') }}
