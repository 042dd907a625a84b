"""The models that studies found: versions of a registered model."""
