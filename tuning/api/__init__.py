"""The Python API of studies: what `affectune` exports of searching."""
