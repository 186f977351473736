"""The batch job: ledger, sources, store, annotation, profiles, treemaps. Knows neither torch nor celery nor fastapi."""
