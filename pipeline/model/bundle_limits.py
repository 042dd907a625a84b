"""How large a bundle may be, and why: checked before anything of that size is read or made."""

MAX_RECORD_BYTES = 64 * 2**20
"""Of model.json: 3,600 networks (10 seeds of 5 folds for 72 tasks) with 100 epochs each have half
of it. How many values it has is bounded as well: see `pipeline.storage.strict_json`."""

MAX_WEIGHTS_BYTES = 8 * 2**30
"""Of weights.safetensors. A network of 4 bidirectional layers of 1024 units on 8192 columns, more
than anybody has trained with Affectune, has 0.5 GB. What the networks of model.json need is
computed first, and a file that is longer than that is not read either."""

MAX_HEADER_BYTES = 32 * 2**20
"""Of the header of weights.safetensors, 130 bytes for each tensor: the library would take 2 GB to
read one of 99 MB."""

MAX_FLOOR_BYTES = 256 * 2**20
"""Of the label floors in weights.safetensors, whose length model.json does not say: 450 tracks of
ten hours at one frame per second."""

MAX_OTHER_BYTES = 16 * 2**20
"""Of every further file: the model card and summary.json have some ten kilobytes."""

MAX_FILES = 16
"""A bundle has four or five files."""

MAX_COLUMNS = 65_536
"""Of all feature sets together: eight of 8192. A million took 8 GB before any prediction."""

MAX_NETWORKS = 10_000
"""Ensemble members included that are there more than once."""

MAX_WINDOW_VALUES = 2**26
"""Frames of a regressor's longest context window, times the columns it is taken of: 10 minutes at
25 frames per second of 4096 columns. A prediction takes ten arrays of that many numbers."""

MAX_NAME = 1000
"""Characters of a name of a target, a feature set, a column or a stage."""
