SELECT model, model_id, node, wnid, name, aliases, gloss, depth, bits, labels, parent_wnid, shown_as_wnid, l1,
       l2, l3, l4
FROM {{ source('tags', 'category') }}
