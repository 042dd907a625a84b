"""What Ray needs of this machine: a folder, a token, closed ports; a head that answers."""
