"""What the taxonomy refuses, sorted by whose fault it is.

TaxonomyError (a ValueError)
├── UnknownSynset        a synset id that the graph, or WordNet, does not have
├── BadLabels            the list of labels is empty, repeats itself or cannot be read
├── BadGraph             the hypernyms form no rooted acyclic graph, or too large a one
├── WordNetMissing       WordNet's files are not where they were looked for
├── DamagedTaxonomy      the stored graph is not the one whose checksum lies beside it
├── BadScores            the classifier's output is no probability distribution
└── BadDecision          the decision's constants contradict each other
"""


class TaxonomyError(ValueError):
    """A taxonomy, or what was handed to it, cannot be used; the message says what to do."""


class UnknownSynset(TaxonomyError):
    """No such synset."""


class BadLabels(TaxonomyError):
    """The labels of a model cannot be used as given."""


class BadGraph(TaxonomyError):
    """The hypernyms form no rooted, acyclic graph of a storable size."""


class WordNetMissing(TaxonomyError):
    """WordNet's files cannot be read."""


class DamagedTaxonomy(TaxonomyError):
    """A stored taxonomy cannot be read, or is not the one that was built."""


class BadScores(TaxonomyError):
    """A row of scores is not a probability distribution over the labels."""


class BadDecision(TaxonomyError):
    """A decision's constants contradict each other."""
