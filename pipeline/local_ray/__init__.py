"""A Ray of this machine, closed to others: its folder, its token, its ports. Imports no Ray."""
