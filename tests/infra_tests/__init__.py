"""Tests of the ways to run on several machines, on hosts made as namespaces of this one."""
