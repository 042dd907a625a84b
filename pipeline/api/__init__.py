"""The Python API of one machine: what `affectune` exports of reading, training and evaluating."""
