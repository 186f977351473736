SELECT * FROM {{ ref('stg_job') }}
WHERE total <> open + tagged + abstained + failed + skipped_unchanged + duplicate + excluded + cancelled + erased
