"""The hypernym graph and what is computed on it: roll-up, decision, display tree. numpy only; nltk at build time."""
