-- A parent below a child, a root that is not the whole photo, a total unlike its recount, a duplicate, a tag of nothing.
SELECT * FROM {{ source('tags', 'incoherence') }}
