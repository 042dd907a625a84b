"""How results show themselves: a line in a console, a picture in a notebook. Knows no model."""
