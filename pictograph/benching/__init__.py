"""How fast Pictograph is on somebody's own photos and machine: measured in a scratch installation, away from all data.

photos.py   which photos, from where
scratch.py  servers in a temporary folder, and the ledger that is emptied between two measurements
meter.py    processor time and memory of all processes that take part
stages.py   each stage alone, over the same photos
study.py    the rounds: end to end, then each stage, and again
figures.py  what follows from what was measured (pure)
advice.py   the sentence about it (pure)
"""
