SELECT job_id, kind, source, model, model_id, scope, priority, state, error, total, open, tagged, abstained,
       failed, skipped_unchanged, duplicate, excluded, cancelled, erased, subtracted, created_at, started_at,
       finished_at, paused_by, paused_at, pause_reason, pause_until, cancelled_by, retry_of, schedule
FROM {{ source('tags', 'job') }}
