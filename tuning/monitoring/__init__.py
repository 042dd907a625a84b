"""How far a study is."""
