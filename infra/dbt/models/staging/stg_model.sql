SELECT model, model_id, fingerprint, taxonomy, labels, registered_at, active, promoted_at, promoted_by,
       decision_revision, threshold, dropped_at, photos
FROM {{ source('tags', 'model') }}
