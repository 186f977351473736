"""Celery and the model: the engine that turns claimed photos into merged results, and the redriver."""
