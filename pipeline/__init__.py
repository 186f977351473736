"""The batch job: ledger, sources, store, annotation, profiles and treemaps. Knows neither torch nor celery nor fastapi."""
