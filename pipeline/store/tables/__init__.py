"""The tables of schema `core`, as the migrations leave them (a test compares the two).

State columns hold the integers of `pipeline.records`. Times are the database's. Masses are ten-thousandths of a photo.

References of results and totals are stated and not enforced (`base.stated`). Postgres would look up every one of the 30
new rows that a photo brings, which took nine tenths of a merge. What they say is made true elsewhere: a result is
written only for a photo that the same transaction has joined and locked, whose user it holds locked against erasure,
into a partition that is made with its model; totals come from nothing but results; their nodes are those that the
model's taxonomy registered; and nobody deletes a photo, user, model or category before what refers to it.
"""

from pipeline.store.tables import access, jobs, knowledge, orders, photos, results, work
from pipeline.store.tables.base import metadata
from pipeline.store.tables.dictionary import describe

__all__ = ["access", "jobs", "knowledge", "metadata", "orders", "photos", "results", "work"]

describe(metadata)
