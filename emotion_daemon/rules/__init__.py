"""Decide the changes of a group: batches -> people, devices, history. Pure: no clock, no I/O.

fold            decides what each batch changes
totals_fold     the same in totals-only mode
history         computes the seconds that a batch adds to each minute
listening       follows for which time a device was heard, and what its people showed in the last 10 s
clock_fallback  follows a device whose clock was set back
tombstones      removes erased people from batches
alerts          decides which alerts begin and end
outcome         the results of a message that is not a batch: a status or a dead letter
"""
