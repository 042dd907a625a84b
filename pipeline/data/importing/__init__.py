"""Files of other formats, written into the layout of a corpus: features, labels, raters."""
