"""How good the tags are, measured on labelled photos: their truth, their degraded copies, and what comes out."""
