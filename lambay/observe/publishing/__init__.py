"""What file systems and functions really did, counted and put to the metrics `AWS/EFS` and `AWS/Lambda` by the minute.

It knows file systems and functions by name only: the counters come from fsd and from the rooms that call it.
"""
