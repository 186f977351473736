"""What the API answers, field by field, one module per thing that is asked for. Names are those of the SQL columns."""
