"""Tables of text: decoded, divided into cells, their times and measurements found."""
