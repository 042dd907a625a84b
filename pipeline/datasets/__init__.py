"""Readers and writers of corpora on disk; each reader returns a `pipeline.corpus.Corpus`."""

from pipeline.datasets.muse import read_corpus
from pipeline.datasets.synthetic import synthesize

__all__ = ["read_corpus", "synthesize"]
