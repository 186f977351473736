SELECT job_id, photo_id, "user", state, reason, attempts, message, first_retry_at, next_attempt_at
FROM {{ source('tags', 'job_item') }}
