"""Damages of a study's journal, store and folder, drawn from a seed; and whether it gets over them.

A damage is what a disk, a crash, an editor, a copy that broke off or another version can do. After
each of them, every command must say a sentence or work, and the study must come to the winner that
it has undamaged: by --resume, or by what the sentence says is to be done.
"""
