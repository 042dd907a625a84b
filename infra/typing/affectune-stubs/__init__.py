"""Only for setuptools, which takes a folder with this file for a package."""
