"""What the taxonomy refuses, sorted by whose fault it is.

TaxonomyError (a ValueError)
├── UnknownSynset        a synset id that the graph, or WordNet, does not have
├── BadLabels            the list of labels is empty, repeats itself or cannot be read
├── BadGraph             the hypernyms form no rooted acyclic graph, or too large a one
├── WordNetMissing       WordNet's files are not where they were looked for
├── DamagedTaxonomy      the stored graph is not the one whose checksum lies beside it
├── BadScores            the classifier's output is no probability distribution
├── BadDecision          the decision's constants contradict each other
├── BadTruth             what the labelled photos are said to show does not fit the graph, or the photos
└── BadCalibration       the photos or the goal of a calibration cannot be used
    └── TooFewPhotos     the goal cannot be promised with so few; `possible` is what can
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


class BadTruth(TaxonomyError):
    """The truth does not fit the taxonomy or the photos."""


class BadCalibration(TaxonomyError):
    """A calibration's photos or goal cannot be used."""


class TooFewPhotos(BadCalibration):
    """So few photos cannot show that the target is met, even without a single error."""

    def __init__(self, message: str, possible: float) -> None:
        super().__init__(message)
        self.possible = possible  # the highest target that these photos can promise; 0 to 1
