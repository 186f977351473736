SELECT ancestor, descendant, distance, ancestor_wnid, ancestor_name, descendant_wnid, descendant_name
FROM {{ source('tags', 'category_closure') }}
